"""The same as ``dal labels``."""

from dal.cli.labels import main

if __name__ == "__main__":
    main()
