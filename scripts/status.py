"""The same as ``dal status``."""

from dal.cli.status import main

if __name__ == "__main__":
    main()
