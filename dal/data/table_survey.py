"""What stands in the columns of a table: numbers, categories, or what cannot be learned from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dal.data.label_columns import override
from dal.data.table_features import Recipe, is_missing, numbers_of

MOST_CATEGORIES = 1000
"""A column with more different words is learned from only where it is declared."""
FEW = 20
"""So few different words are categories in however few rows."""
ODD = 0.1
"""Words among numbers are mistakes where less than this share of the cells are words."""

_WITH_COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+")


@dataclass
class _Column:
    """What has been seen of one column.

    Attributes:
        name: Its name.
        declared: It holds categories, whatever they look like.
        rows: Rows seen.
        empty: Rows with nothing in them.
        missing: Rows that say that there is no number.
        words: Rows with something else that is no number.
        commas: Rows of these with a number that has a decimal comma.
        odd: The first of these cells, and its row from 1.
        low: The least number.
        high: The greatest.
        counts: How often each value stands there; None where they are too many for categories.
        last: The last number, while each is the one before plus 1; None once it is not.
    """

    name: str
    declared: bool
    rows: int = 0
    empty: int = 0
    missing: int = 0
    words: int = 0
    commas: int = 0
    odd: tuple[str, int] | None = None
    low: float = np.inf
    high: float = -np.inf
    counts: Counter[str] | None = field(default_factory=Counter)
    last: float | None = None

    def add(self, cells: Sequence[str]) -> None:
        """Take some more rows into account."""
        cells = list(map(str.strip, cells))
        counts = Counter(cells)
        values = list(counts)
        numbers = numbers_of(values)
        is_number = np.isfinite(numbers)
        self._follow(numbers, len(cells))
        for value in (values[place] for place in (~is_number).nonzero()[0].tolist()):
            if is_missing(value):
                self.missing += counts[value]
                continue
            self.words += counts[value]
            self.commas += counts[value] * bool(_WITH_COMMA.fullmatch(value))
            self.odd = self.odd or (value, self.rows + cells.index(value) + 1)
        if is_number.any():
            self.low = min(self.low, float(numbers[is_number].min()))
            self.high = max(self.high, float(numbers[is_number].max()))
        if self.counts is not None:
            self.counts.update(counts)
            if len(self.counts) > MOST_CATEGORIES and not self.declared:
                self.counts = None
        self.empty += counts[""]
        self.rows += len(cells)

    def _follow(self, numbers: Any, rows: int) -> None:
        """Whether numbers, in the order of rows where all differ, still go up by 1."""
        goes_on = self.rows == 0 or (self.last is not None and numbers[0] == self.last + 1)
        steps = len(numbers) == rows and bool((np.diff(numbers) == 1).all())
        self.last = float(numbers[-1]) if goes_on and steps else None

    @property
    def is_number(self) -> bool:
        """It holds numbers, and nothing else."""
        return not self.declared and not self.words

    @property
    def is_constant(self) -> bool:
        """It holds the same in all rows, or nothing."""
        if self.is_number:
            return not self.low < self.high
        return self.counts is not None and len(self.counts - Counter({"": self.rows})) < 2

    @property
    def gaps(self) -> int:
        """Rows that tell nothing."""
        return self.missing if self.is_number else self.empty

    def check(self) -> None:
        """Refuse what would be learned from as something else than it is.

        Raises:
            ValueError: Naming the column and what to do.
        """
        if self.is_number or self.declared or self.odd is None:
            return
        (cell, row), full = self.odd, self.rows - self.empty
        fact, declare = f"the column {self.name!r}", override("data.categorical", self.name)
        if self.commas == self.words:
            raise ValueError(
                f"{fact} holds numbers with a comma, such as {cell!r} in row {row}; save them with "
                f"a point, or keep them as categories with {declare}"
            )
        if self.words < ODD * (full - self.missing):
            raise ValueError(
                f"{fact} holds numbers, but in {self.words} of {self.rows} rows something else, "
                f"first {cell[:40]!r} in row {row}; mend that, leave such cells empty, or take all "
                f"as categories with {declare}"
            )
        counts = self.counts
        if counts is None or len({*counts} - {""}) > max(FEW, full / 2):
            many = f"more than {MOST_CATEGORIES}" if counts is None else len({*counts} - {""})
            raise ValueError(
                f"{fact} holds {many} different values in {self.rows} rows, such as {cell[:40]!r}, "
                "and looks like names or texts; call it "
                f"{override('data.id', self.name, several=False)}, leave it out with "
                f"{override('data.drop', self.name)}, or learn a feature of each value with "
                f"{declare}"
            )


class Survey:
    """Gathers what the columns of a table hold, block by block.

    Args:
        names: The columns to learn from.
        categorical: Those of them whose numbers are codes of categories.
    """

    def __init__(self, names: Sequence[str], categorical: Sequence[str]) -> None:
        self.columns = [_Column(name, name in categorical) for name in names]

    def add(self, block: Mapping[str, Sequence[str]]) -> None:
        """Take some more rows into account."""
        for column in self.columns:
            column.add(block[column.name])

    def recipe(self, missing: str) -> Recipe:
        """How these columns become features; medians are still to be learned.

        Args:
            missing: ``fill`` or ``refuse``, what to do with cells that tell nothing.

        Raises:
            ValueError: A column cannot be learned from as it is, none is left, or cells tell
                nothing and are refused; names them.
        """
        used = [column for column in self.columns if not column.is_constant]
        for column in used:
            column.check()
        gaps = {column.name: column.gaps for column in used if column.gaps}
        if gaps and missing == "refuse":
            listed = ", ".join(f"{name} ({count} rows)" for name, count in gaps.items())
            raise ValueError(
                f"values are missing in {listed}; fill them in with data.missing=fill (the median "
                f"of numbers, the most frequent category), or leave columns out with "
                f"{override('data.drop', *gaps)}"
            )
        if not used:
            raise ValueError(
                "no column is left to learn from: each holds the same in all rows, is left out, or "
                "is the target; give a table with other columns"
            )
        return {"kind": "table", "missing": missing, "columns": [_learned(c) for c in used]}

    def left_out(self) -> list[str]:
        """The columns that hold the same in all rows."""
        return [column.name for column in self.columns if column.is_constant]

    def row_numbers(self) -> list[str]:
        """The columns that seem to count the rows."""
        used = (column for column in self.columns if column.is_number and column.rows > FEW)
        return [column.name for column in used if column.last is not None]


def _learned(column: _Column) -> dict[str, Any]:
    """One column of a recipe."""
    if column.is_number:
        return {"name": column.name, "kind": "number", "fill": None}
    counts = {value: count for value, count in (column.counts or {}).items() if value}
    values = sorted(counts)
    # Of equally frequent ones the first, as scikit-learn's SimpleImputer chooses.
    fill = max(values, key=counts.__getitem__)
    return {"name": column.name, "kind": "category", "values": values, "fill": fill}
