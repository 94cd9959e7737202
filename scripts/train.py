"""Run active learning: ``python scripts/train.py strategy=instability``; see ``--help``."""

from pathlib import Path

from dal.cli.config import main

if __name__ == "__main__":
    main(Path(__file__).resolve().parent.parent / "conf")
