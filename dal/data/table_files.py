"""Tables that people or programs saved, read as text: CSV in its kinds, JSON Lines, Parquet."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
"""Of the names of tables; each says of which kind a file is."""
BLOCK = 2000
"""Rows that are read at a time: Python looks through all lists that live, again and again."""
LONGEST_CELL = 2**26
"""Letters of a cell, at most; a quote that is never closed takes all that follows for one."""

_SEP_LINE = re.compile(r'"?sep=([,;|\t])"?[ ,;\t]*[\r\n]*', re.IGNORECASE)
_NO_TEXT = "no text; save the file as 'CSV UTF-8', without the NUL characters that it has there"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Columns = dict[str, list[str]]
"""Cells by the name of their column, empty ones as ``""``; all columns are of one length."""


def read_table(path: Path) -> Columns:
    """A whole table, its columns in their order; cells are kept as they are written.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: See `read_blocks`.
    """
    found: Columns = {}
    for block in read_blocks(path):
        for name, cells in block.items():
            found.setdefault(name, []).extend(cells)
    return found


def read_blocks(path: Path, size: int = BLOCK) -> Iterator[Columns]:
    """A table, so many rows at a time, so that it need not fit into memory.

    - ``.csv``, ``.tsv``, ``.txt``: cells between commas, semicolons or tabs, as the header or a
      first line ``sep=;`` says; quoted cells may hold these, and line breaks. UTF-8 with or without
      a byte order mark, UTF-16 with one. Empty lines do not count.
    - ``.jsonl``, ``.ndjson``: an object a line, of texts, numbers, booleans and null. Keys that
      an object lacks are empty cells.
    - ``.parquet``, where pyarrow is installed.

    Numbers keep the digits that are written; booleans are ``true`` and ``false``, null is empty.

    Args:
        path: The file; its ending says which kind it is.
        size: Rows of a block; the last one has fewer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no rows, or cannot be read without guessing what was meant; names file
            and line.
    """
    kind = path.suffix.casefold()
    readers = dict.fromkeys(ENDINGS, _separated)
    readers |= {".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of a table in it")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give the file of a table")
    if not path.is_file():  # reading a pipe may never end, and tables are read twice
        raise ValueError(f"{path} is no regular file; save the table as one")
    if kind not in readers:
        raise ValueError(
            f"{path} is no kind of table that can be read; save it as one of {', '.join(readers)}"
        )
    empty = True
    try:
        for block in readers[kind](path, size):
            empty = False
            yield block
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    if empty:
        raise ValueError(f"{path} holds no rows; give a table with at least one below its header")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file of text, empty ones among them.

    Raises:
        ValueError: It cannot be read; names file and line.
    """
    try:
        with path.open(encoding=_encoding(path)) as stream:
            yield from (line.rstrip("\n") for line in _texts_only(stream, 0))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        line = _undecodable(path)
        raise ValueError(f"{path}, line {line}: no UTF-8; save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error


def _separated(path: Path, size: int) -> Iterator[Columns]:
    rows = records(path, delimiter_in)
    _, line, header = next(rows, (",", 1, []))
    names = [name.strip() for name in header]
    while names and not names[-1]:  # some programs end every line with empty cells
        names.pop()
    check_names(names, f"line {line}")
    width = len(header)
    while block := list(islice(rows, size)):
        cells = [
            row if len(row) == len(names) == width else _filled(line, row, width, len(names), mark)
            for mark, line, row in block
        ]
        yield dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))


def _filled(line: int, cells: list[str], width: int, named: int, delimiter: str) -> list[str]:
    """The cells of a line that stand in columns with a name."""
    try:
        cells = padded(cells, width, delimiter)
        for cell in cells[named:]:
            check_nameless(cell)
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error
    return cells[:named]


def records(path: Path, delimiter_of: Callable[[str], str]) -> Iterator[tuple[str, int, list[str]]]:
    """The lines of a table that hold anything, its header first, as they are written.

    Args:
        path: A file of text.
        delimiter_of: Finds what stands between cells in the first line that holds anything, where
            no line ``sep=;`` says so.

    Yields:
        What stands between cells, the number of the line from 1, and its cells.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no table; names the line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    with path.open(newline="", encoding=_encoding(path)) as stream:
        try:
            delimiter, before, lines = _begun(stream, delimiter_of)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            yield from _numbered(reader, delimiter, before)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"line {_undecodable(path)}: no UTF-8; save the file as 'CSV UTF-8'"
            ) from error


def _begun(stream: TextIO, delimiter_of: Callable[[str], str]) -> tuple[str, int, Iterator[str]]:
    """What stands between cells; how many lines are left out; and the others."""
    number, first = next(((n, line) for n, line in enumerate(stream, 1) if line.strip()), (1, ""))
    if head := _SEP_LINE.fullmatch(first):
        return head[1], number, _texts_only(stream, number)
    try:
        delimiter = delimiter_of(first.rstrip("\r\n"))
        return delimiter, number - 1, _texts_only(chain([first], stream), number - 1)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _texts_only(lines: Iterable[str], before: int) -> Iterator[str]:
    """Refuse a NUL character, which nobody sees in a cell."""
    for number, line in enumerate(lines, before + 1):
        if "\0" in line:
            raise ValueError(f"line {number}: {_NO_TEXT}")
        yield line


def _numbered(reader: Any, delimiter: str, before: int) -> Iterator[tuple[str, int, list[str]]]:
    number = before
    try:
        for cells in reader:
            number = before + reader.line_num
            if any(map(str.strip, cells)):
                yield delimiter, number, cells
    except csv.Error as error:
        last = before + reader.line_num
        begun = f"; the row begins in line {number + 1}" if last > number + 1 else ""
        raise ValueError(f"line {last}: {error}{begun}") from error


def padded(cells: list[str], width: int, delimiter: str) -> list[str]:
    """The cells of a line of a table, as many as it has columns.

    Raises:
        ValueError: There are too many.
    """
    if len(cells) > width:
        raise ValueError(
            f"{len(cells)} cells for {width} columns; a cell that holds a "
            f"{DELIMITERS.get(delimiter, delimiter)} must stand in double quotes"
        )
    # Some programs leave out empty cells at the end of a line.
    return cells + [""] * (width - len(cells)) if len(cells) < width else cells


def check_nameless(cell: str) -> None:
    """Refuse a cell of a column without a name, unless it is empty."""
    if cell.strip():
        raise ValueError(f"{cell.strip()[:40]!r} stands in a column without a name")


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        return "utf-16" if stream.read(2) in _UTF16 else "utf-8-sig"


def _undecodable(path: Path) -> int:
    """The number of the first line that is no UTF-8."""
    with path.open("rb") as stream:
        return next((n for n, line in enumerate(stream, 1) if not _is_text(line)), 1)


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def delimiter_in(header: str) -> str:
    """What divides a header into most cells."""
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in DELIMITERS}
    most = max(counts.values())
    found = [mark for mark, count in counts.items() if count == most]
    if "\0" in header:
        raise ValueError(_NO_TEXT)
    if most > 1 and len(found) > 1:
        marks = " or by ".join(f"{DELIMITERS[mark]}s" for mark in found)
        raise ValueError(
            f"{header[:80]!r} may be divided by {marks}; write a line sep={found[0]} above it"
        )
    return found[0]


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse columns that cannot be told apart."""
    found: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise ValueError(
                f"{where}: column {number} has no name; give it one, or save the table without it "
                "(pandas: index=False)"
            )
        if name in found:
            raise ValueError(f"{where}: two columns are named {name!r}; rename one")
        found.add(name)


def _json_lines(path: Path, size: int) -> Iterator[Columns]:
    names: dict[str, None] = {}
    for _, row in _objects(path):
        names.update(dict.fromkeys(row))
    rows = _objects(path)
    while names and (block := list(islice(rows, size))):
        yield {name: [row.get(name, "") for _, row in block] for name in names}


def _objects(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The objects of a file, each with its line."""
    with path.open(encoding=_encoding(path)) as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, json_row(number, line)
        except UnicodeDecodeError as error:
            raise ValueError(f"line {_undecodable(path)}: no UTF-8; save it as UTF-8") from error


def json_row(number: int, line: str) -> dict[str, str]:
    """A line of JSON as cells by name."""
    try:
        # Texts of numbers stay as they are: a float would change their digits.
        row = json.loads(
            line, parse_int=_Digits, parse_float=_Digits, parse_constant=_Digits,
            object_pairs_hook=list,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: no JSON ({error}); write one object a line") from error
    except RecursionError as error:
        raise ValueError(
            f"line {number}: values within values, too deep to read; write one text or number a key"
        ) from error
    if not line.lstrip().startswith("{"):
        raise ValueError(f"line {number}: {line.strip()[:40]!r} is no object; write one a line")
    names = [name.strip() for name, _ in row]
    check_names(names, f"line {number}")
    cells = {name: _cell(value, name, number) for name, (_, value) in zip(names, row, strict=True)}
    if "\\u" in line:  # nothing else can write what is no text
        _check_texts(cells, number)
    return cells


def _check_texts(cells: Mapping[str, str], line: int) -> None:
    """Refuse what JSON can write and no other file could hold."""
    for name, cell in cells.items():
        text = name + cell
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(
                f"line {line}: {name!a} holds a NUL character or half of a surrogate pair, "
                "which is no text; take it out"
            )


class _Digits(str):
    """A number of JSON, as it is written."""


def _cell(value: Any, name: str, line: int) -> str:
    if isinstance(value, list):
        raise ValueError(
            f"line {line}: {name!r} holds other values; write one text or number, "
            "several labels with ; between them"
        )
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _parquet(path: Path, size: int) -> Iterator[Columns]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ValueError(
            'reading it takes pyarrow, which is not installed: pip install -e ".[parquet]", or '
            "save the table as .csv"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_names(schema.names, "its header")
            for name, kind in zip(schema.names, schema.types, strict=True):
                if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
                    raise ValueError(f"the column {name!r} holds {kind}; save texts and numbers")
            start = 0
            for batch in file.iter_batches(batch_size=size):
                yield {name: _texts(batch.column(name), name, start) for name in schema.names}
                start += len(batch)
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"damaged ({' '.join(str(error).split())[:200]}); save it again"
        ) from error


def _texts(column: Any, name: str, start: int) -> list[str]:
    """A column of pyarrow as texts; a number as the shortest that gives it back."""
    found = ["" if text is None else text for text in column.cast("string").to_pylist()]
    if "\0" in "".join(found):
        row = start + next(row for row, text in enumerate(found, 1) if "\0" in text)
        raise ValueError(f"the column {name!r} holds a NUL character in row {row}; take it out")
    return found
