"""The same as ``dal predict``."""

from dal.cli.predict import main

if __name__ == "__main__":
    main()
