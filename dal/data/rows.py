"""Rows of a table as people read them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import overload

import torch

from dal.data.source import Source
from dal.utils.texts import Texts

TEXT = 300
"""Letters of a row's text, at most."""


class Rows(Sequence[str]):
    """Rows of a table in words, and their cells as the file has them, in little memory.

    Args:
        id: The column that names the rows, which are then called by it alone; None where they are
            called by all of their cells, such as ``color=red, size=3``, as far as `TEXT` allows.
    """

    def __init__(self, id: str | None = None) -> None:
        self.id = id
        self._cells, self._starts = Texts(), list[int]()
        self._names: list[list[str]] = []

    def extend(self, block: Mapping[str, Sequence[str]]) -> None:
        """Put rows behind the others.

        Args:
            block: The cells of each column, that of `id` among them.
        """
        self._begin(list(block))
        self._cells.extend(
            json.dumps(row, ensure_ascii=False) for row in zip(*block.values(), strict=True)
        )

    def append(self, other: Rows) -> None:
        """Put all rows of another part behind the others."""
        for start, names, end in zip(
            other._starts, other._names, [*other._starts[1:], len(other)], strict=True
        ):
            self._begin(names)
            self._cells.extend(other._cells[place] for place in range(start, end))

    def _begin(self, names: list[str]) -> None:
        if self._names[-1:] != [names]:
            self._starts.append(len(self))
            self._names.append(names)

    def cells(self, place: int) -> dict[str, str]:
        """The cells of a row by their columns, but for the one that names it."""
        return {name: cell for name, cell in self._row(place).items() if name != self.id}

    def _row(self, place: int) -> dict[str, str]:
        names = self._names[bisect_right(self._starts, place) - 1]
        return dict(zip(names, json.loads(self._cells[place]), strict=True))

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row = self._row(range(len(self))[place])
        if self.id is not None:
            return row[self.id]
        text = " ".join(", ".join(f"{name}={cell}" for name, cell in row.items()).split())
        return text if len(text) <= TEXT else f"{text[: TEXT - 3]}..."


def cells_of(source: Source, index: int) -> tuple[str, dict[str, str]] | None:
    """What a training sample is called, or nothing, and its cells; None where it is no row."""
    (position,) = source.train.original(torch.tensor([index]))
    rows = source.contents
    if not isinstance(rows, Rows) or position >= len(rows):
        return None
    return "" if rows.id is None else rows[position], rows.cells(position)
