"""Whether a metric is better the higher or the lower, by its name."""

from __future__ import annotations

from typing import Any, Literal

LOWER, HIGHER = ("loss", "ece"), ("accuracy", "f1", "map")
"""Ends of the names of metrics that are better the lower, and the higher."""


def direction(metric: Any) -> Literal["min", "max"] | None:
    """Whether ``min`` or ``max`` of a metric is better; None where its name does not say it."""
    if str(metric).endswith(LOWER):
        return "min"
    return "max" if str(metric).endswith(HIGHER) else None
