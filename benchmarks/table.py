"""The rows of the ratio table, and their Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: What is compared.
        measured: The measured side, in words with units.
        reference: What it is compared with, in words with units.
        ratio: One over the other, as the name says.
        low: Smallest ratio of the repetitions.
        high: Largest ratio of the repetitions.
        target: The bound the ratio should keep, or None where it is only reported.
        at_least: Whether the target is a lower bound.
        unit: ``x`` for a factor, ``%`` for a share, or a unit such as `` GB``.
    """

    name: str
    measured: str
    reference: str
    ratio: float
    low: float
    high: float
    target: float | None = None
    at_least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether the ratio keeps the target; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "met": self.met}


def markdown(rows: Sequence[Row]) -> str:
    """The table, one line a row."""
    lines = [
        "| name | measured | reference | ratio (range) | target | met |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_line(row) for row in rows]) + "\n"


def _line(row: Row) -> str:
    ratio = _number(row.ratio, row.unit)
    if row.low != row.high:
        ratio += f" ({_number(row.low, row.unit)} to {_number(row.high, row.unit)})"
    sign = "≥" if row.at_least else "≤"
    target = "report" if row.target is None else f"{sign} {_number(row.target, row.unit)}"
    met = {None: "", True: "yes", False: "no"}[row.met]
    cells = (row.name, row.measured, row.reference, ratio, target, met)
    return f"| {' | '.join(cells)} |"


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.3g} %" if unit == "%" else f"{value:.3g}{unit}"
