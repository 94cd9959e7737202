"""The pictures of a folder and their labels, by the folders they lie in or by a table.

No picture is opened here. See `dal.data.images.folder.image_folder` for what may lie where.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dal.data.images.layout import TRAIN, Catalog, Place, place, word
from dal.data.images.metadata import Table, by_table, find_table
from dal.data.images.names import counted, fact, shown, some
from dal.data.images.tree import Tree, walk
from dal.data.source import UNKNOWN, is_known


def catalog(
    root: Path,
    metadata: Path | None = None,
    target: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Catalog:
    """What lies in a folder.

    Args:
        root: The folder.
        metadata: A table of labels; None for one that lies in the folder, if any does.
        target: Its column of labels, or several; None for the only one that can be meant.
        class_names: Names of the classes, in the order that columns of outputs shall have; None for
            those that are found, sorted.

    Returns:
        Its pictures; test and validation pictures without a label are left out, and told of.

    Raises:
        OSError: The folder does not exist or cannot be read.
        ValueError: Names do not fit what is there, or the table cannot be used.
    """
    tree = walk(root)
    table, odd = find_table(root, tree, metadata)
    if table is None and target is not None:
        raise ValueError(
            f"data.target={target} names labels of a table, and no table with a column file_name "
            f"lies in {shown(str(root))}; name it by data.metadata, or leave data.target out"
        )
    if table is None:
        found = by_folders(tree, class_names)
    else:
        found = by_table(tree, table, target, class_names)
    odd = [*found.odd, *odd, *_odd_files(tree, table)]
    return _labeled(replace(found, odd=odd))


def by_folders(tree: Tree, class_names: Sequence[str] | None) -> Catalog:
    """Labels from the folders that pictures lie in; those beside all classes have none.

    Raises:
        ValueError: There is a folder of a class that the names lack.
    """
    given = tuple(unicodedata.normalize("NFC", name) for name in class_names or ())
    files: dict[str, list[str]] = defaultdict(list)
    for name in tree.names:
        files[name.rpartition("/")[0]].append(name)
    lone = {name.rpartition("/")[0] for name in tree.others}
    folders = {*tree.folders, *files, *lone}
    has_train = any(
        word(top, given) == TRAIN for folder in folders for top, _, rest in [folder.partition("/")]
        if rest or folder in files
    )  # fmt: skip
    places = {folder: place(folder, given, has_train) for folder in folders}
    classes, odd = _classes(places, files, lone, given)
    numbers = {label: number for number, label in enumerate(classes)}
    rows = [
        (name, where.part, UNKNOWN if where.label is None else numbers[where.label])
        for folder, names in files.items()
        if (where := places[folder]).part is not None
        for name in names
    ]
    rows.sort()
    odd += _strays(files, places)
    return Catalog(
        [name for name, _, _ in rows],
        np.array([part for _, part, _ in rows], np.int8),
        torch.tensor([target for _, _, target in rows], dtype=torch.int64),
        classes,
        odd,
    )


def _classes(
    places: dict[str, Place], files: dict[str, list[str]], lone: set[str], given: tuple[str, ...]
) -> tuple[tuple[str, ...], list[str]]:
    """The classes: those given, or of the folders that hold pictures or nothing at all."""
    folders = {where.folder: where.label for where in places.values() if where.label is not None}
    full = {places[folder].folder for folder in files}
    other = {places[folder].folder for folder in lone} - full
    found = sorted({label for folder, label in folders.items() if folder not in other})
    absent = [label for label in found if label not in given]
    if given and absent:
        raise ValueError(
            f"the folder {absent[0]!r} is no class of data.class_names {list(given)}; add it, or "
            "move the folder into unlabeled/"
        )
    no_class = sorted(other & folders.keys())
    odd = [f"no class, since only other files lie there: {some(no_class)}"] if no_class else []
    return given or tuple(found), odd


def _strays(files: dict[str, list[str]], places: dict[str, Place]) -> list[str]:
    """Pictures that lie where nothing says what they are."""
    odd = []
    beside = {where.folder: 0 for where in places.values() if where.part is None}
    for folder, names in files.items():
        if (where := places[folder]).part is None:
            beside[where.folder] += len(names)
    if sum(beside.values()):
        held = sorted(folder for folder, count in beside.items() if count)
        odd.append(
            f"{counted(sum(beside.values()), 'picture')} beside train/ left out (in {some(held)}); "
            "move what is meant into train/ or unlabeled/"
        )
    has_classes = any(where.label is not None for where in places.values())
    if has_classes and (loose := files.get("")):
        odd.append(fact(loose, "picture", "beside the folders, unlabeled"))
    return odd


def _odd_files(tree: Tree, table: Table | None) -> list[str]:
    """Files that are not read."""
    odd = []
    tables = table.files if table else ()
    if others := [name for name in tree.others if name not in tables]:
        odd.append(fact(others, "file", "of other kinds"))
    if tree.skipped:
        odd.append(fact(tree.skipped, "link", "to what is read already"))
    return odd


def _labeled(found: Catalog) -> Catalog:
    """Without the pictures of the test and the validation part that have no label."""
    known = is_known(found.targets).numpy()
    kept = known | (found.parts == TRAIN)
    if kept.all():
        return found
    left = [found.names[row] for row in np.flatnonzero(~kept)]
    odd = [
        *found.odd,
        fact(left, "test or validation picture", "without a label left out")
        + "; where test is the name of a class, name all classes by data.class_names",
    ]
    return replace(
        found,
        names=[found.names[row] for row in np.flatnonzero(kept)],
        parts=found.parts[kept],
        targets=found.targets[torch.from_numpy(kept)],
        odd=odd,
    )
