"""``python -m dal`` is the command ``dal``."""

from dal.cli.command import main

if __name__ == "__main__":
    main()
