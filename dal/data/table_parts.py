"""The parts of a data set that stand in tables: in files of their own, or told by a column."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dal.data.arrays import number_targets
from dal.data.class_names import ALIKE, alike, check_class_names
from dal.data.faults import naming
from dal.data.label_columns import column, labels_of
from dal.data.source import is_known
from dal.data.table_files import Columns, read_blocks

log = logging.getLogger(__name__)

PARTS = {
    "train": "train",
    "training": "train",
    "unlabeled": "train",
    "pool": "train",
    "": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What may stand in a column that divides a table, and which part it means."""


def check_apart(files: Mapping[str, str | None]) -> None:
    """Refuse one file for two parts, by whatever path: a model is not tested on what it learns."""
    taken: dict[Path, str] = {}
    for part, file in files.items():
        if file is None:
            continue
        setting = "data.path" if part == "train" else f"data.{part}_path"
        other = taken.setdefault(Path(file).expanduser().resolve(), setting)
        if other != setting:
            raise ValueError(
                f"{file}: {other} and {setting} are the same file; give each part rows of its own, "
                "or divide one table by a column, data.split"
            )


def part_blocks(
    files: Mapping[str, str | None],
    split: str | None,
    read: Callable[[Path], Iterator[Columns]] = read_blocks,
) -> Iterator[tuple[str, Columns]]:
    """Some rows of a part at a time, in the order of files and rows.

    Args:
        files: The file of each part, None where there is none.
        split: The column that divides the first of them, the training file, or None.
        read: Gives the blocks of a file.

    Raises:
        ValueError: The column is not there, or holds something else than `PARTS`.
    """
    for part, file in files.items():
        start = 0
        for block in read(Path(file).expanduser()) if file is not None else ():
            if split is None or part != "train":
                yield part, block
                continue
            with naming(str(file)):
                meant = _meant(column(block, split, "data.split"), split, start)
            start += len(meant)
            for own in dict.fromkeys(meant):
                rows = [row for row, part in enumerate(meant) if part == own]
                yield own, {name: [cells[row] for row in rows] for name, cells in block.items()}


def _meant(cells: Sequence[str], split: str, start: int) -> list[str]:
    """The part of each row, as a column tells it."""
    found = {cell: PARTS.get(cell.strip().casefold()) for cell in set(cells)}
    for row, cell in enumerate(cells, start + 1):
        if found[cell] is None:
            raise ValueError(
                f"the column {split!r} has {cell[:40]!r} in row {row}; it may hold train, "
                "validation, test, or nothing for train"
            )
    return [str(found[cell]) for cell in cells]


def numbered(
    cells: Mapping[str, Mapping[str, Sequence[str]]],
    rows: Mapping[str, int],
    target: str | Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The targets of each part as a run takes them, and the class names.

    Args:
        cells: The columns of labels of each part.
        rows: How many rows each part has.
        target: See `dal.data.label_columns.labels_of`.
        names: The names in the order that outputs shall have, None for their own.

    Raises:
        ValueError: The labels cannot be used, or some of a part that is not trained on are unknown.
    """
    columns = {
        name: [cell for part in cells.values() for cell in part[name]]
        for name in next(iter(cells.values()))
    }
    labels, found = labels_of(columns or {"": [""] * sum(rows.values())}, target, names)
    if not found:
        raise ValueError("no label is known; name the classes, data.class_names=[first,second]")
    key = "data.target"
    numbers, class_names = number_targets({"targets": labels}, {"targets": key}, found)
    check_class_names(class_names, numbers["targets"].ndim == 2, key)
    if same := alike(class_names):
        log.warning("%s: %s", ALIKE, ", ".join(same))
    divided = torch.split(numbers["targets"], list(rows.values()))
    targets = dict(zip(rows, divided, strict=True))
    for part, own in targets.items():
        if part != "train" and (unknown := int((~is_known(own)).sum())):
            raise ValueError(
                f"{unknown} of {len(own)} {part} rows have no label; label them, or leave them out"
            )
    _say_unlearned(targets, class_names)
    return targets, class_names


def _say_unlearned(targets: Mapping[str, Tensor], class_names: Sequence[str]) -> None:
    """Warn of classes that no row for training has, where all of their labels are known."""
    train = targets["train"]
    if not is_known(train).all():
        return
    count = [
        (own.bincount(minlength=len(class_names)) if own.ndim == 1 else own.sum(0)).tolist()
        for own in (train, *targets.values())
    ]
    for part, tested_on in zip(targets, count[1:], strict=True):
        pairs = zip(class_names, count[0], tested_on, strict=True)
        if tested := [name for name, learned, tested in pairs if tested and not learned]:
            log.warning(
                "%s rows have labels that no train row has (%s), so no model can learn them; take "
                "these rows out, or put some among those for training",
                part,
                ", ".join(tested),
            )
