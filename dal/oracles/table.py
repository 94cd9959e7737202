"""Reading a table of answers that people filled in and saved with a program of their own."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dal.data.table_files import DELIMITERS, check_nameless, padded, records


@dataclass(frozen=True)
class Row:
    """One answer, or the place for one.

    Attributes:
        line: Its line in the file, from 1.
        index: The number of the sample.
        label: What was written, without blanks around it; empty where nothing was.
        annotator: Who wrote it; empty where the table does not say.
        seconds: How long it took; NaN where the table does not say.
    """

    line: int
    index: int
    label: str
    annotator: str = ""
    seconds: float = math.nan


def read_answers(path: Path) -> list[Row]:
    """The answers in a table, whatever else it holds, in its order.

    The columns ``index`` and ``label`` must be there, ``annotator`` and ``seconds`` may be; others
    are not looked at. Rows and columns may be in any order. `dal.data.table_files.records` says how
    the file may be written.

    Raises:
        ValueError: It cannot be read without guessing what was meant; names file and line.
    """
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise ValueError(f"{path} is no regular file; move it away to be asked anew")
    try:
        return list(_rows(path))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); restore it, or move it away to be asked "
            "anew"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path}, {error}; mend that line (or move the file away to be asked anew) and run the "
            "same command again"
        ) from error


def _delimiter(header: str) -> str:
    """The separator with which a header names both columns."""
    for delimiter in DELIMITERS:
        if {"index", "label"} <= set(_header(next(csv.reader([header], delimiter=delimiter), []))):
            return delimiter
    raise ValueError(
        f"{header[:80]!r} does not name the columns index and label, with commas, "
        "semicolons or tabs between them, as it was written"
    )


def _header(cells: list[str]) -> list[str]:
    return [cell.strip().casefold() for cell in cells]


def _rows(path: Path) -> Iterator[Row]:
    header: list[str] = []
    for delimiter, line, cells in records(path, _delimiter):
        try:
            if header:
                yield _row(line, header, padded(cells, len(header), delimiter))
            else:
                header = _header(cells)
                _check_header(header)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error


def _check_header(header: list[str]) -> None:
    for name in ("index", "label", "annotator", "seconds"):
        count = header.count(name)
        if count > 1 or (count == 0 and name in ("index", "label")):
            raise ValueError(f"the header names the column {name} {count} times")


def _row(line: int, header: list[str], cells: list[str]) -> Row:
    for name, cell in zip(header, cells, strict=True):
        if not name:
            check_nameless(cell)
    found = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    index = found["index"]
    if not (index.isascii() and index.isdecimal()):
        raise ValueError(f"{index[:40]!r} in the column index is no whole number")
    seconds = _seconds(found.get("seconds", ""))
    return Row(line, int(index), found["label"], found.get("annotator", ""), seconds)


def _seconds(text: str) -> float:
    """A number of seconds, with a point or a comma; NaN where there is none."""
    if not text:
        return math.nan
    try:
        seconds = float(text.replace(",", "."))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text[:40]!r} in the column seconds is no number of 0 or more")
    return seconds
