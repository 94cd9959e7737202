"""Texts in files, read block by block: in tables, or a text a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from dal.data.table_files import (
    BLOCK,
    DELIMITERS,
    ENDINGS,
    Columns,
    read_blocks,
    read_lines,
)

BETWEEN = "\n\n"
"""What stands between the columns of a text, such as a title and what follows it."""


def read_texts(path: Path, columns: Sequence[str], size: int = BLOCK) -> Iterator[Columns]:
    """A file of texts, so many at a time.

    Args:
        path: A table, see `dal.data.table_files.read_blocks`; or a ``.txt`` file that is none,
            whose first line does not name the columns: it holds a text a line, which becomes
            the only column, and empty lines are empty texts.
        columns: Those of the text.
        size: Rows of a block; the last one has fewer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read; names file and line.
    """
    if path.suffix.casefold() != ".txt" or not path.is_file() or _is_table(path, columns):
        yield from read_blocks(path, size)
        return
    lines = read_lines(path)
    block: list[str] = []
    for block in iter(lambda: list(islice(lines, size)), []):
        yield {columns[0]: block}
    if not block:
        raise ValueError(f"{path} is empty; write a text a line")


def _is_table(path: Path, columns: Sequence[str]) -> bool:
    """Whether the first line that holds anything names the columns."""
    head = next(filter(str.strip, read_lines(path)), "")
    rows = ([cell.strip().strip('"') for cell in head.split(mark)] for mark in DELIMITERS)
    return head.casefold().startswith("sep=") or any({*columns} <= {*row} for row in rows)


def joined_texts(block: Columns, columns: Sequence[str]) -> list[str]:
    """The text of each row: its columns with an empty line between them, without empty ones.

    Args:
        block: The cells of each column, those of the text among them.
        columns: Those of the text.
    """
    if len(columns) == 1:
        return block[columns[0]]
    rows = zip(*(block[name] for name in columns), strict=True)
    return [BETWEEN.join(filter(str.strip, row)) for row in rows]


PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
"""What the files of a folder are called, but for their ending."""


def files_in(folder: Path) -> dict[str, str | None]:
    """The file of each part in a folder, None where there is none.

    Raises:
        ValueError: There is no file to train on, or one part has several.
    """
    found: dict[str, str | None] = {}
    kinds: dict[str, str] = {}
    for part, names in PARTS.items():
        own = sorted(
            file
            for file in folder.iterdir()
            if file.stem.casefold() in names and file.suffix.casefold() in ENDINGS
        )
        if len(own) > 1:
            listed = " and ".join(file.name for file in own)
            raise ValueError(f"{folder} holds {listed}, both {part}; keep one of them there")
        found[part] = str(own[0]) if own else None
        kinds |= {file.suffix.casefold(): file.name for file in own}
    if found["train"] is None:
        raise ValueError(
            f"{folder} is a folder without a file train.csv, train.tsv, train.jsonl or so; name it "
            "so (with test and validation or dev beside it), or give a file"
        )
    if len(kinds) > 1:
        raise ValueError(
            f"{folder} holds files of several kinds ({', '.join(sorted(kinds.values()))}); save "
            "all in one kind"
        )
    return found


def reader(columns: Sequence[str]) -> partial[Iterator[Columns]]:
    """`read_texts` of some columns, for a path."""
    return partial(read_texts, columns=columns)
