"""What torchrun tells the processes that it starts; needs no torch."""

from __future__ import annotations

import os


def launched() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def first() -> bool:
    """Whether this process is the first of them."""
    return launched() == 1 or os.environ["RANK"] == "0"
