"""The same as ``dal report``."""

from dal.cli.report import main

if __name__ == "__main__":
    main()
