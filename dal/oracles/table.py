"""Reading a table of answers that people filled in and saved with a program of their own."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
    are not looked at. Cells are separated by commas, semicolons or tabs, as the header or a first
    line ``sep=;`` says. Rows and columns may be in any order, and empty lines do not count. UTF-8
    is read with or without a byte order mark, and UTF-16 with one.

    Raises:
        ValueError: It cannot be read without guessing what was meant; names file and line.
    """
    try:
        text = _decode(path.read_bytes())
        head = re.match(r'"?sep=([,;|\t])"?[ ,;\t]*(\r\n|\r|\n)', text, re.IGNORECASE)
        delimiter = head[1] if head else _delimiter(text)
        return _rows(text, delimiter, head.end() if head else 0)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); restore it") from error
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path}, {error}; mend that line (or move the file away to be asked anew) and run the "
            "same command again"
        ) from error


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: no UTF-8; save the file as 'CSV UTF-8'") from error


def _delimiter(text: str) -> str:
    """The separator with which the first line that holds anything names both columns."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in DELIMITERS:
        if {"index", "label"} <= set(_header(next(csv.reader([first], delimiter=delimiter), []))):
            return delimiter
    raise ValueError(
        f"line 1: {first[:80]!r} does not name the columns index and label, with commas, "
        "semicolons or tabs between them, as it was written"
    )


def _header(cells: list[str]) -> list[str]:
    return [cell.strip().casefold() for cell in cells]


def _rows(text: str, delimiter: str, start: int) -> list[Row]:
    """The rows of a table whose header begins at some character of the text."""
    before = 1 if start else 0
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header:
                rows.append(_row(before + reader.line_num, header, cells, delimiter))
            else:
                header = _header(cells)
                _check_header(header)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {before + reader.line_num}: {error}") from error
    return rows


def _check_header(header: list[str]) -> None:
    for name in ("index", "label", "annotator", "seconds"):
        count = header.count(name)
        if count > 1 or (count == 0 and name in ("index", "label")):
            raise ValueError(f"the header names the column {name} {count} times")


def _row(line: int, header: list[str], cells: list[str], delimiter: str) -> Row:
    if len(cells) > len(header):
        raise ValueError(
            f"{len(cells)} cells for {len(header)} columns; a cell that holds a "
            f"{DELIMITERS.get(delimiter, delimiter)} must stand in double quotes"
        )
    # Some programs leave out empty cells at the end of a line.
    cells = cells + [""] * (len(header) - len(cells))
    for name, cell in zip(header, cells, strict=True):
        if not name and cell.strip():
            raise ValueError(f"{cell.strip()[:40]!r} stands in a column without a name")
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
