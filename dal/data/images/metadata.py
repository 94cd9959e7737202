"""Labels of pictures from a table beside them, with a row and a ``file_name`` for each."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from dal.data.arrays import as_label_rows
from dal.data.images.layout import PARTS, TRAIN, UNLABELED, Catalog, place, word
from dal.data.images.names import counted, fact, shown, some
from dal.data.images.tree import Tree
from dal.data.label_columns import labels_of
from dal.data.source import UNKNOWN
from dal.data.table_files import read_blocks, read_table

FILE, SPLIT, LABEL = "file_name", "split", "label"
_FOUND = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Kinds of tables that are looked for; `data.metadata` may name others."""


@dataclass(frozen=True)
class Table:
    """The rows of one table, or of one for each part.

    Attributes:
        columns: Cells by column.
        folders: For each row the folder that file names are seen from, besides that of the data.
        parts: For each row the part that its table is of, or None.
        files: The tables themselves, those of them that lie in the folder of the data.
        title: What to call it.
    """

    columns: Mapping[str, list[str]]
    folders: list[str]
    parts: list[int | None]
    files: Sequence[str]
    title: str


def find_table(root: Path, tree: Tree, metadata: Path | None) -> tuple[Table | None, list[str]]:
    """The table of labels: the one that is named, or what lies at the top or in each part.

    Args:
        root: The folder of the data.
        tree: What lies in it.
        metadata: The table, or None.

    Returns:
        The table, None where there is none; and what is odd about others, in phrases.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It cannot be read, has no file names, or several could be meant.
    """
    if metadata is not None:
        return _named(root, metadata), []
    odd: list[str] = []
    found = {name: part for name, part in _candidates(tree) if _has_names(root / name, odd)}
    top = [name for name in found if "/" not in name]
    parts = [found[name] for name in top]
    if len(top) > 1 and (None in parts or len(set(parts)) < len(parts)):
        raise ValueError(
            f"{some(top)} in {shown(str(root))} have a column {FILE}; name the one that is meant "
            f"by data.metadata, such as data.metadata={shown(str(root / top[0]))}"
        )
    names = top or list(found)
    folders = [name.rpartition("/")[0] for name in names]
    if len(set(folders)) < len(folders) and not top:
        raise ValueError(
            f"{some(names)} have a column {FILE}; keep one of them in each folder, or name the one "
            "that is meant by data.metadata"
        )
    if len(top) == 1:
        found[top[0]] = None  # of all parts, whatever it is called
    return (_joined(root, {name: found[name] for name in names}) if names else None), odd


def _candidates(tree: Tree) -> list[tuple[str, int | None]]:
    """Tables at the top, and in the folders of the parts; with the part that they are named for."""
    found: list[tuple[str, int | None]] = []
    for name in tree.others:
        path = PurePosixPath(name)
        if path.suffix.lower() not in _FOUND or len(path.parts) > 2:
            continue
        part = word(path.parts[0] if len(path.parts) > 1 else path.stem)
        if len(path.parts) == 1 or part is not None:
            found.append((name, part))
    return found


def _has_names(path: Path, odd: list[str]) -> bool:
    try:
        columns = next(iter(read_blocks(path, 1)), {})
        if [*columns] == [FILE]:
            odd.append(f"{shown(path.name)} lists files and says nothing else of them")
        elif columns and FILE not in columns:
            there = ", ".join([*columns][:5]) + ", ..." * (len(columns) > 5)
            odd.append(f"{shown(path.name)} is no table of labels: it has {there} and no {FILE}")
        return FILE in columns and len(columns) > 1
    except (ValueError, OSError) as error:
        odd.append(f"{error}, and is not taken for a table of labels")
        return False


def _named(root: Path, metadata: Path) -> Table:
    columns = read_table(metadata)
    if FILE not in columns:
        raise ValueError(
            f"{shown(str(metadata))} has no column {FILE} (it has {', '.join(columns)}); give that "
            "name to the column of file names"
        )
    try:
        inside = metadata.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        inside = ""
    count = len(columns[FILE])
    folder = inside.rpartition("/")[0]
    files = [inside] if inside else []
    return Table(columns, [folder] * count, [None] * count, files, shown(metadata.name))


def _joined(root: Path, found: Mapping[str, int | None]) -> Table:
    columns: dict[str, list[str]] = {}
    folders: list[str] = []
    parts: list[int | None] = []
    for name, part in found.items():
        table = read_table(root / name)
        count = len(table[FILE])
        for column in {**columns, **table}:
            before = columns.setdefault(column, [""] * len(folders))
            before += table.get(column) or [""] * count
        folders += [name.rpartition("/")[0]] * count
        parts += [part] * count
    return Table(columns, folders, parts, list(found), some(list(found)))


def by_table(
    tree: Tree,
    table: Table,
    target: str | Sequence[str] | None,
    class_names: Sequence[str] | None,
) -> Catalog:
    """The pictures of a folder with the labels of a table; those without a row have none.

    Raises:
        ValueError: A column is missing or holds something else, or two rows contradict each other;
            names the table.
    """
    try:
        return _by_table(tree, table, target, class_names)
    except ValueError as error:
        raise ValueError(f"{table.title}: {error}") from error


def _by_table(
    tree: Tree,
    table: Table,
    target: str | Sequence[str] | None,
    class_names: Sequence[str] | None,
) -> Catalog:
    labels, classes = _labels(table, target, class_names)
    splits = _splits(table, target)
    files, lost = _files(tree, table)
    if not files:
        raise ValueError(
            f"it names {counted(len(lost), 'file')}, and none is there (such as {some(lost, 1)}); "
            f"write in {FILE} where each lies, as seen from the table or from data.path, or "
            "move the table away"
        )
    rows: dict[str, int] = {}
    for row, name in files.items():
        first = rows.setdefault(name, row)
        if row == first:
            continue
        if splits[row] != splits[first] or not labels[row].equal(labels[first]):
            raise ValueError(
                f"it has two rows for {shown(name)}, {first + 1} and {row + 1}, that contradict "
                "each other; keep one"
            )
    order = sorted({*rows, *tree.names})
    unknown = torch.full_like(labels[:1], UNKNOWN)
    which = torch.tensor([rows.get(name, len(labels)) for name in order])
    told = [splits[rows[name]] if name in rows else None for name in order]
    tops = [name.partition("/")[0] if "/" in name else "" for name in order]
    of_top = {top: _pool_too(word(top)) for top in {*tops}}
    parts = [
        part if part is not None else of_top[top] or TRAIN
        for part, top in zip(told, tops, strict=True)
    ]
    return Catalog(
        order,
        np.array(parts, np.int8),
        torch.cat([labels, unknown])[which],
        classes,
        _odd_rows(tree, table, rows, lost),
        table.title,
    )


def _labels(
    table: Table, target: str | Sequence[str] | None, class_names: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """int64 (rows,) or (rows, C), and the C class names."""
    columns = {
        name: [unicodedata.normalize("NFC", cell) for cell in cells]
        for name, cells in table.columns.items()
        if name != FILE
    }
    if target is None:
        left = [name for name in columns if name.lower() != SPLIT]
        left = [LABEL] if LABEL in left else left
        if len(left) > 1:
            raise ValueError(
                f"it has the columns {', '.join(left)}; set data.target to the one of the labels"
            )
        target = left[0] if left else None
    if target is None:
        known = tuple(class_names or ())
        return torch.full((len(table.folders),), UNKNOWN), known
    names = class_names and [unicodedata.normalize("NFC", name) for name in class_names]
    labels, found = labels_of(columns, target, names)
    if labels.ndim == 2:
        return as_label_rows(labels, str(target)), found
    numbers = {name: number for number, name in enumerate(found)} | {"": UNKNOWN}
    return torch.tensor([numbers[str(label)] for label in labels.tolist()]), found


def _files(tree: Tree, table: Table) -> tuple[dict[int, str], list[str]]:
    """The file of each row that has one, and the names of those that have none."""
    present = {*tree.names, *tree.others} - {*table.files}
    alike = {_form(name): name for name in sorted(present, reverse=True)}
    found, lost = {}, []
    for row, (folder, cell) in enumerate(zip(table.folders, table.columns[FILE], strict=True)):
        name = _find(cell, present, alike)
        if folder:
            name = _find(f"{folder}/{cell}", present, alike) or name
        if name is None:
            lost.append(cell)
        else:
            found[row] = name
    return found, lost


def _find(path: str, present: set[str], alike: Mapping[str, str]) -> str | None:
    """A file as it is named on the disk, or else as another program would write its name."""
    if path in present:
        return path
    return alike.get(_form(path)) or alike.get(
        _form(posixpath.normpath(path.strip().replace("\\", "/")))
    )


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", shown(name))


def _splits(table: Table, target: str | Sequence[str] | None) -> list[int | None]:
    """The part that each row tells, or None."""
    taken = (target,) if isinstance(target, str) else target or ()
    column = next((n for n in table.columns if n.lower() == SPLIT and n not in taken), None)
    if column is None:
        return [_pool_too(part) for part in table.parts]
    found = {cell: word(cell) for cell in {*table.columns[column]}}
    for row, cell in enumerate(table.columns[column], 1):
        if found[cell] is None and cell.strip():
            raise ValueError(
                f"row {row} has {cell[:40]!r} in the column {column!r}; write "
                f"{', '.join(PARTS)}, or nothing for {PARTS[0]}"
            )
    return [
        _pool_too(part if found[cell] is None else found[cell])
        for cell, part in zip(table.columns[column], table.parts, strict=True)
    ]


def _pool_too(part: int | None) -> int | None:
    """Pictures that are meant to be asked about belong to the training part."""
    return TRAIN if part == UNLABELED else part


def _odd_rows(tree: Tree, table: Table, rows: Mapping[str, int], lost: Sequence[str]) -> list[str]:
    odd = []
    if lost:
        odd.append(fact(lost, "row", f"of {table.title} without a file"))
    if alone := [name for name in tree.names if name not in rows]:
        odd.append(fact(alone, "picture", f"without a row in {table.title}"))
    folders = {name.rpartition("/")[0] for name in tree.names}
    labels = {place(folder, (), False).label for folder in folders} - {None}
    if len(labels) > 1:
        odd.append(f"labels are those of {table.title}, not the names of folders")
    return odd
