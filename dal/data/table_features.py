"""How the columns of a table become features, as plain values that any rows are given to.

A recipe is ``{"kind": "table", "missing": ..., "id": ..., "columns": [...]}``. Of its columns
``{"name": ..., "kind": "number", "fill": ...}`` gives one feature, and
``{"name": ..., "kind": "category", "values": [...], "fill": ...}`` one for each of its values.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Recipe = dict[str, Any]

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-"})
"""What stands among numbers where there is none, in small letters."""


def numbers_of(cells: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cells as numbers with a point, NaN where they are none, and where they are not finite."""
    text = "".join(cells)
    try:
        if "_" in text or not text.isascii():  # Python would take 1_000 and digits of any script
            raise ValueError
        found = np.fromiter(map(float, [cell or "nan" for cell in cells]), np.float64, len(cells))
    except ValueError:
        found = np.fromiter(map(_number, cells), np.float64, len(cells))
    found[~np.isfinite(found)] = np.nan
    return found


def _number(cell: str) -> float:
    try:
        return float(cell) if cell.isascii() and "_" not in cell else np.nan
    except ValueError:
        return np.nan


def is_missing(cell: str) -> bool:
    """Whether a cell among numbers says that there is none."""
    return cell.strip().casefold() in MISSING


@dataclass
class Encoded:
    """Some rows of a table as features.

    Attributes:
        inputs: float32, (n, D); NaN where a number is missing and nothing is filled in for it.
        faults: By row why it cannot be used; its features mean nothing.
        unknown: How often a column holds a value that the recipe does not have; all of its
            features are 0 there.
    """

    inputs: Floats
    faults: dict[int, str] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)


class Encoder:
    """Applies a recipe to the rows of a table, block by block.

    Args:
        recipe: Of kind ``table``, see this module.
    """

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        self.columns: list[dict[str, Any]] = recipe["columns"]
        self.refuses = recipe["missing"] == "refuse"
        self._encoders = [_one_hot(c["values"]) if "values" in c else None for c in self.columns]
        widths = [len(column.get("values", "1")) for column in self.columns]
        self._starts = np.cumsum([0, *widths])

    @property
    def width(self) -> int:
        """Number of features D."""
        return int(self._starts[-1])

    @property
    def numbers(self) -> tuple[int, ...]:
        """The features that are numbers, not 0 or 1 for a category."""
        starts = self._starts.tolist()
        kinds = (column["kind"] for column in self.columns)
        return tuple(start for start, kind in zip(starts, kinds, strict=False) if kind == "number")

    def __call__(self, block: Mapping[str, Sequence[str]]) -> Encoded:
        """The features of some rows.

        Args:
            block: The cells of at least one row; columns that are not learned from do not matter.

        Raises:
            ValueError: Columns are missing.
        """
        if absent := [c["name"] for c in self.columns if c["name"] not in block]:
            raise ValueError(
                f"it lacks the column{'s' * (len(absent) > 1)} {', '.join(absent)}, which the "
                f"model learns from; it has {', '.join(block)}"
            )
        rows = len(next(iter(block.values())))
        found = Encoded(np.empty((rows, self.width), np.float32))
        for column, encoder, start in zip(
            self.columns, self._encoders, self._starts.tolist(), strict=False
        ):
            cells = block[column["name"]]
            if encoder is None:
                self._add_number(found, column, cells, start)
            else:
                self._add_category(found, column, cells, start, encoder)
        return found

    def _add_number(
        self, found: Encoded, column: Mapping[str, Any], cells: Sequence[str], start: int
    ) -> None:
        numbers = numbers_of(cells)
        for row in np.isnan(numbers).nonzero()[0].tolist():
            if not is_missing(cells[row]):
                fact = f"{cells[row].strip()[:40]!r} in the column {column['name']!r} is no number"
                found.faults.setdefault(row, fact)
            elif self.refuses:
                found.faults.setdefault(row, _is_empty(column))
        with np.errstate(over="ignore"):
            narrow = numbers.astype(np.float32)
        for row in np.isinf(narrow).nonzero()[0].tolist():
            fact = f"{cells[row].strip()[:40]} in the column {column['name']!r} is beyond float32"
            found.faults.setdefault(row, fact)
        if column["fill"] is not None:
            narrow[np.isnan(narrow)] = column["fill"]
        found.inputs[:, start] = narrow

    def _add_category(
        self,
        found: Encoded,
        column: Mapping[str, Any],
        cells: Sequence[str],
        start: int,
        encoder: Any,
    ) -> None:
        values = np.array([cell.strip() for cell in cells], dtype=object)
        for row in (values == "").nonzero()[0].tolist():
            if self.refuses:
                found.faults.setdefault(row, _is_empty(column))
            values[row] = column["fill"]
        hot = encoder.transform(values[:, None])
        found.inputs[:, start : start + hot.shape[1]] = hot
        if unknown := int((hot.sum(1) == 0).sum()):
            found.unknown[column["name"]] += unknown


def _is_empty(column: Mapping[str, Any]) -> str:
    return f"the column {column['name']!r} is empty"


def _one_hot(values: Sequence[str]) -> Any:
    """A fitted encoder of some values, in their order."""
    from sklearn.preprocessing import OneHotEncoder

    known = np.array(values, dtype=object)
    encoder = OneHotEncoder(
        categories=[known], handle_unknown="ignore", sparse_output=False, dtype=np.float32
    )
    return encoder.fit(known[:, None])


def learn_medians(recipe: Recipe, inputs: Floats) -> None:
    """Write into a recipe what stands where a number is missing: the median of the column.

    Args:
        recipe: Its columns of numbers have no ``fill`` yet.
        inputs: float32, (N, D), of all rows that are learned from, NaN where a number is missing.
    """
    from sklearn.impute import SimpleImputer

    of_numbers = (column for column in recipe["columns"] if column["kind"] == "number")
    for column, feature in zip(of_numbers, Encoder(recipe).numbers, strict=True):
        # The sum of two numbers of float32, or of all of them, may be beyond it.
        values = inputs[:, feature : feature + 1].astype(np.float64)
        imputer = SimpleImputer(strategy="median").fit(values)
        column["fill"] = float(np.float32(imputer.statistics_[0]))


def filled(recipe: Mapping[str, Any], inputs: Floats) -> Floats:
    """Features with the medians of a recipe where numbers are missing, in place."""
    of_numbers = (column for column in recipe["columns"] if column["kind"] == "number")
    for column, feature in zip(of_numbers, Encoder(recipe).numbers, strict=True):
        values = inputs[:, feature]
        values[np.isnan(values)] = column["fill"]
    return inputs


def say_unknown(where: str, unknown: Mapping[str, int]) -> None:
    """Warn of rows with a category that no training row had."""
    for name, count in unknown.items():
        log.warning(
            "%d %s have something in the column %r that no training row has; it counts as none of "
            "its categories", count, where, name,
        )  # fmt: skip
