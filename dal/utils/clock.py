"""Seconds that parts of a round take, added up in its row of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def clock(row: dict[str, Any], name: str) -> Iterator[None]:
    """Add the seconds a block takes to ``row[name]``; the name must end in ``_s``."""
    start = time.perf_counter()
    try:
        yield
    finally:
        row[name] = round(row.get(name, 0.0) + time.perf_counter() - start, 4)
