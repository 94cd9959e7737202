"""Samples that come from outside a data set, as lines or objects, made into inputs as it has them.

As a file of rows is read for a model that was trained on the data (see `dal.data.reading`), but
line by line, since nobody knows which is the last.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.source import Source
from dal.data.store import Store
from dal.data.table_features import Encoder, numbers_of, say_unknown
from dal.data.table_files import check_names, delimiter_in, json_row, padded
from dal.data.texts.predicting import columns_of, encoder_for, id_of
from dal.data.texts.reading import joined_texts
from dal.data.texts.stores import EncodedStore, RaggedStore, TextStore, checked_texts
from dal.utils.inputs import shapes_of

Cells = dict[str, str]


@dataclass
class Came:
    """What some lines or objects hold.

    Attributes:
        inputs: The samples, as `dal.data.made.MadeSplit.add` takes them; None for none.
        cells: The cells of each by column, where they are rows of a table.
        faults: Why others are none, by their place among the lines.
    """

    inputs: Tensor | list[str] | None = None
    cells: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)


class Parser:
    """Makes inputs of what comes.

    - Of rows of a table: lines of CSV below a header, or of JSON objects; or mappings.
    - Of texts: the same, with their columns; or a text a line; or strings.
    - Of arrays: numbers between commas, or a JSON list, a sample a line; or arrays.

    Args:
        source: The data.

    Attributes:
        head: The header of lines of CSV, once there was one; empty before.

    Raises:
        ValueError: Nothing that comes could be made such inputs.
    """

    def __init__(self, source: Source) -> None:
        recipe = source.recipe or {"kind": "arrays"}
        self.kind, self.head = str(recipe["kind"]), ""
        self._first = source.train.store.first
        reason = "are features of others" if source.shown is not None else ""
        if self.kind not in ("table", "texts") and not isinstance(self._first, Tensor):
            reason = "consist of several tensors"
        if reason:
            raise ValueError(
                f"setting.arrivals: samples of {source.name} {reason}, which nothing that arrives "
                "is made; leave it out, so that the samples of the data arrive"
            )
        self._table = Encoder(recipe) if self.kind == "table" else None
        self._texts = encoder_for(source.recipe, source.vocab_size, source.input_shape)
        self._columns: list[str] = []
        self._id: str | None = None
        if self._table is not None:
            self._columns, self._id = [c["name"] for c in self._table.columns], recipe["id"]
        elif self._texts is not None:
            self._columns, self._id = columns_of(recipe), id_of(recipe)
        self._said: set[str] = set()

    def lines(self, lines: Sequence[bytes], first: int) -> Came:
        """The samples of some lines; empty lines are none.

        Args:
            lines: Without their ends.
            first: The number of the first of them, from 1.

        Raises:
            ValueError: The header is none.
        """
        return self._parsed(lines, lambda place, line: self._of_line(first + place, line))

    def objects(self, objects: Sequence[Any], first: int) -> Came:
        """The samples that some objects are.

        Args:
            objects: See this class.
            first: The number of the first of them, from 1.
        """
        return self._parsed(objects, lambda place, one: self._of_object(first + place, one))

    def encode(self, texts: Sequence[str]) -> Store:
        """Texts as the store of the training part keeps them."""
        assert self._texts is not None
        store = self._texts.encode(texts)
        if isinstance(store, RaggedStore):
            store.width = self._width
        return EncodedStore(store, TextStore(list(texts)))

    @property
    def _width(self) -> int:
        """The length of rows."""
        assert isinstance(self._first, dict)
        return max(shape[0] for shape in shapes_of(self._first).values())  # type: ignore[union-attr]

    def _parsed(
        self, items: Sequence[Any], parse: Callable[[int, Any], Cells | Tensor | str | None]
    ) -> Came:
        came, places, found = Came(), list[int](), list[Any]()
        for place, item in enumerate(items):
            try:
                one = parse(place, item)
            except _FaultError as fault:
                came.faults[place] = str(fault)
                continue
            if one is not None:
                places.append(place)
                found.append(one)
        if self._texts is not None:
            self._add_texts(came, places, found)
        elif self._table is not None and found and not isinstance(found[0], Tensor):
            self._add_rows(came, places, found)
        elif found:
            came.inputs = torch.stack(found)
        return came

    def _of_line(self, number: int, line: bytes) -> Cells | Tensor | str | None:
        """What a line holds; None where it is empty or the header."""
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise _FaultError(f"line {number}: no UTF-8") from None
        if "\0" in text:
            raise _FaultError(f"line {number}: it holds a NUL character")
        if not text.strip():
            return None
        try:
            if self._columns:
                return self._cells(number, text)
            return self._array(_numbers(text))
        except _FaultError as fault:
            raise _FaultError(f"line {number}: {fault}") from None

    def _cells(self, number: int, text: str) -> Cells | str | None:
        """A row of a table by its columns, or a text."""
        if text.lstrip().startswith("{"):
            return self._known(_faulty(lambda: json_row(number, text)))
        if not self.head or self._is_head(text):
            mark = _faulty(lambda: delimiter_in(text))
            names = _names(text, mark)
            if self._texts is not None and not {*self._columns} <= {*names}:
                return text
            check_names(names, f"setting.arrivals, line {number}")
            if absent := [name for name in self._columns if name not in names]:
                raise ValueError(
                    f"setting.arrivals, line {number}: it lacks the columns {', '.join(absent)}, "
                    "which the model learns from; begin with a header that has them"
                )
            self.head = text
            return None
        mark = delimiter_in(self.head)
        names = _names(self.head, mark)
        cells = _faulty(lambda: padded(_split(text, mark), len(names), mark))
        return self._known(dict(zip(names, cells, strict=True)))

    def _is_head(self, text: str) -> bool:
        """Whether a line is a header, which another writer may begin with: its order may differ."""
        if text == self.head:
            return True
        if not all(name in text for name in self._columns):
            return False  # most lines
        try:
            names = _names(text, delimiter_in(text))
        except (_FaultError, ValueError):
            return False
        return {*self._columns} <= {*names} and len({*names}) == len(names)

    def _known(self, row: Mapping[str, str]) -> Cells:
        """The cells that matter of a row."""
        if not any(name in row for name in self._columns):
            raise _FaultError(f"it has none of the columns {', '.join(self._columns)}")
        wanted = [*([self._id] if self._id else []), *self._columns]
        return {name: row.get(name, "") for name in dict.fromkeys(wanted)}

    def _of_object(self, number: int, one: Any) -> Cells | Tensor | str:
        """What an object holds."""
        try:
            if self._columns and isinstance(one, Mapping):
                return self._known({str(k): "" if v is None else str(v) for k, v in one.items()})
            if self._texts is not None:
                if not isinstance(one, str):
                    raise _FaultError(f"{one!r:.40} is no text; give a str")
                return one
            if self._table is not None:
                raise _FaultError(f"{one!r:.40} is no row; give a dict of cells by column")
            values = one.detach().cpu().numpy() if isinstance(one, Tensor) else np.asarray(one)
            return self._array(values)
        except (_FaultError, TypeError, ValueError, OverflowError) as error:
            raise _FaultError(f"sample {number}: {error}") from error

    def _array(self, values: Any) -> Tensor:
        """An array as a sample of the data."""
        assert isinstance(self._first, Tensor)
        shape, kind = tuple(self._first.shape[1:]), self._first.dtype
        if values.dtype.kind not in "iufb":
            raise _FaultError(f"it is of type {values.dtype}; give numbers")
        if values.shape not in (shape, (self._first.numel(),)):
            raise _FaultError(f"it has the shape {values.shape}; samples are {shape}")
        numbers = torch.from_numpy(np.ascontiguousarray(values, np.float64)).view(shape)
        low, high = (0, 255) if kind == torch.uint8 else (-torch.inf, torch.inf)
        made = numbers.clamp(low, high).to(kind)
        if not made.isfinite().all():
            raise _FaultError("it holds NaN, infinity or a number beyond float32")
        if not kind.is_floating_point and not torch.equal(made.double(), numbers):
            raise _FaultError(f"it holds what is no number of {str(kind).removeprefix('torch.')}")
        return made

    def _add_rows(self, came: Came, places: Sequence[int], rows: Sequence[Cells]) -> None:
        assert self._table is not None
        encoded = self._table({name: [row[name] for row in rows] for name in rows[0]})
        came.faults |= {places[row]: fault for row, fault in encoded.faults.items()}
        sound = [row for row in range(len(rows)) if row not in encoded.faults]
        came.cells = {name: [rows[row][name] for row in sound] for name in rows[0]}
        came.inputs = torch.from_numpy(encoded.inputs[sound]) if sound else None
        new = {name: n for name, n in encoded.unknown.items() if name not in self._said}
        self._said |= new.keys()
        say_unknown("of the rows that arrived", new)

    def _add_texts(self, came: Came, places: Sequence[int], found: Sequence[Cells | str]) -> None:
        assert self._texts is not None
        texts = [
            one
            if isinstance(one, str)
            else joined_texts({name: [one[name]] for name in self._columns}, self._columns)[0]
            for one in found
        ]
        sound = []
        for place, text in zip(places, texts, strict=True):
            if fault := self._fault(text):
                came.faults[place] = fault
            else:
                sound.append(text)
        came.inputs = sound or None

    def _fault(self, text: str) -> str:
        """Why a text is no sample."""
        assert self._texts is not None
        if not text.strip():
            return "it is empty"
        try:
            checked_texts([text])
        except ValueError as error:
            return str(error)
        store = self._texts.encode([text])
        if isinstance(store, RaggedStore) and int(store.lengths[0]) > self._width:
            return f"it is longer than the longest text of the data ({self._width})"
        return ""


class _FaultError(Exception):
    """Why a line or an object is no sample."""


def _faulty(parse: Callable[[], Any]) -> Any:
    """What is parsed; errors are faults, without the line that they name."""
    try:
        return parse()
    except (ValueError, csv.Error) as error:
        raise _FaultError(re.sub(r"^line \d+: ", "", str(error))) from error


def _split(text: str, mark: str) -> list[str]:
    """The cells of a line."""
    return next(csv.reader([text], delimiter=mark, strict=True), [])


def _names(head: str, mark: str) -> list[str]:
    return [name.strip() for name in _faulty(lambda: _split(head, mark))]


def _numbers(text: str) -> Any:
    """The numbers of a line."""
    if not text.lstrip().startswith("["):
        cells = [cell.strip() for cell in text.split(",")]
        found = numbers_of(cells)
        for cell, number in zip(cells, found.tolist(), strict=True):
            if not np.isfinite(number):
                raise _FaultError(f"{cell[:40]!r} is no number")
        return found
    try:
        return np.asarray(json.loads(text), np.float64)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _FaultError(f"no list of numbers ({error})") from error
