"""The same as ``dal replay``."""

from dal.cli.replay import main

if __name__ == "__main__":
    main()
