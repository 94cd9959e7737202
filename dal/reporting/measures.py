"""Metrics that curves may show: their names, and what of them is better.

A metric of the test part goes by its own name, such as ``macro_f1``; others by that of their column
in the rows of a run, such as ``val/loss``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dal.recording.words import in_words
from dal.utils.direction import direction

PARTS = {"test": "Test", "val": "Validation", "train": "Training", "audit": "Audit"}
"""Columns of these parts are metrics of a model; others count labels, queries, seconds."""


def short(column: str) -> str:
    """The name of a metric, from its name or its column: ``macro_f1`` for ``test/macro_f1``."""
    return column.removeprefix("test/")


def column(metric: str) -> str:
    """The column of a metric: ``test/macro_f1`` for ``macro_f1``."""
    return metric if "/" in metric else f"test/{metric}"


def sign(metric: str) -> int:
    """1 where the highest value of a metric is the best, -1 where the lowest is."""
    return -1 if direction(metric) == "min" else 1


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1: all but losses in nats."""
    return not metric.endswith("loss") or metric.endswith("hamming_loss")


def measured(metric: str) -> str:
    """A metric in words, with the part of the data that it is of: ``Test macro F1``."""
    part, _, name = column(metric).partition("/")
    return f"{PARTS.get(part, part)} {in_words(name)}"


def recorded(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of metrics that some rows have, in their order."""
    found = dict.fromkeys(
        name
        for row in rows
        for name, value in row.items()
        if name.partition("/")[0] in PARTS and isinstance(value, int | float)
    )
    return list(found)
