"""The same as ``dal train``: ``python scripts/train.py strategy=instability``."""

from dal.cli.config import main

if __name__ == "__main__":
    main()
