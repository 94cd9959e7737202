"""Texts of one's own, from a table or several, or from a NumPy archive."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from torch import Tensor

from dal.data.arrays import number_targets, present
from dal.data.class_names import check_class_names
from dal.data.dataset import Dataset
from dal.data.faults import naming
from dal.data.label_columns import column
from dal.data.npz import read_archive
from dal.data.table_features import numbers_of
from dal.data.table_files import Columns
from dal.data.table_parts import check_apart, numbered, part_blocks
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.reading import files_in, joined_texts, reader
from dal.data.texts.stores import TextStore, checked_texts
from dal.data.texts.survey import say_what_is_odd

log = logging.getLogger(__name__)


def text(
    path: str,
    target: str | Sequence[str] | None,
    text: str | Sequence[str] = "text",
    id: str | None = None,
    test_path: str | None = None,
    validation_path: str | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    encoder: TextEncoder | None = None,
) -> Dataset:
    """Texts with labels: CSV, TSV, JSON Lines, Parquet where pyarrow is installed, or ``.npz``.

    What becomes of them the encoder says, see `dal.data.texts.encoding`; it learns from the texts
    of the training part, and labels play no part in that. Texts that are empty, that stand there
    twice, or that are trained and tested on, are warned about.

    Args:
        path: A table, see `dal.data.table_files.read_blocks` for its kinds. Or a folder that holds
            one for each part: ``train.csv``, and ``test.csv`` and ``validation.csv`` (or
            ``dev.csv``) where there are such. Or a ``.txt`` file of a text a line, of which no
            label is known. Or an ``.npz`` archive of arrays of strings, ``texts`` and perhaps
            ``test_texts``, with ``targets`` and ``test_targets`` as those of `dal.data.npz`.
        target: The column of the labels, or several of 0 and 1, see
            `dal.data.label_columns.labels_of`; None where no label is known yet.
        text: The column of the text, or several, such as ``[title, body]``, which are joined by an
            empty line.
        id: A column that names the texts for people, besides their words; None: only these do.
        test_path: A table of test rows, or None.
        validation_path: A table of validation rows, or None.
        split: A column that says for each row whether it is for ``train`` (or empty),
            ``validation`` or ``test``; None where all are for training.
        class_names: Names of the classes in the order that outputs shall have; None for those in
            the table, in ascending order.
        name: Short name, used in the run directory; None for the name of the file or folder.
        encoder: Makes inputs of the texts; None for what the model takes.

    Returns:
        Texts, with the parts that there are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file cannot be used as it is; names it, and the column.
    """
    where = Path(path).expanduser()
    columns = [text] if isinstance(text, str) else list(text)
    if not columns:
        raise ValueError("data.text names no column; give one, or several")
    if where.suffix.casefold() == ".npz":
        others = {"test_path": test_path, "validation_path": validation_path, "split": split}
        others |= {"id": id, "target": None if target is None else str(target)}
        return _archive(where, others, class_names, name, encoder)
    files: dict[str, str | None]
    files = {"train": path, "test": test_path, "validation": validation_path}
    if where.is_dir():
        if test_path is not None or validation_path is not None:
            raise ValueError(
                f"{path} is a folder, whose files are the parts; leave data.test_path and "
                "data.validation_path out"
            )
        files = files_in(where)
    check_apart(files)
    apart = _Apart(tuple(columns), _names(target), id)
    if split is not None and split in (*columns, *_names(target), id):
        raise ValueError(
            f"data.split names {split!r}, which holds texts, labels or names; take another"
        )
    parts = _parts(files, split, apart)
    with naming(path):
        texts = {part: checked_texts(own.texts, f"{part} row", 1) for part, own in parts.items()}
        _refuse_numbers(texts["train"], columns)
        rows = {part: len(own) for part, own in texts.items()}
        labels = {part: own.labels for part, own in parts.items()}
        targets, names = numbered(labels, rows, target, class_names)
    say_what_is_odd(path, texts, targets)
    ids = {part: own.ids for part, own in parts.items()} if id is not None else None
    recipe = {"columns": columns, "id": id}
    return _dataset(name or where.stem, texts, targets, names, encoder, recipe, ids)


def _names(target: str | Sequence[str] | None) -> tuple[str, ...]:
    return (target,) if isinstance(target, str) else tuple(target or ())


@dataclass(frozen=True)
class _Apart:
    """What the columns are: of the text, of labels, of names."""

    text: tuple[str, ...]
    targets: tuple[str, ...]
    id: str | None

    def check(self, block: Columns) -> None:
        """Refuse names of columns that are not there, or that stand for two things."""
        named = {"data.text": self.text, "data.target": self.targets, "data.id": (self.id,)}
        known: dict[str, str] = {}
        for setting, names in named.items():
            for name in names:
                if name is None:
                    continue
                column(block, name, setting)
                if name in known:
                    raise ValueError(f"{known[name]} and {setting} both name {name!r}; take one")
                known[name] = setting


@dataclass
class _Part:
    """What is kept of the rows of one part."""

    labels: dict[str, list[str]]
    texts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def _parts(files: Mapping[str, str | None], split: str | None, apart: _Apart) -> dict[str, _Part]:
    """All rows of all files, by their part."""
    parts: dict[str, _Part] = {}
    for part, block in part_blocks(files, split, reader(apart.text)):
        with naming(str(files[part] or files["train"])):
            apart.check(block)
        own = parts.setdefault(part, _Part({name: [] for name in apart.targets}))
        own.texts += joined_texts(block, apart.text)
        own.ids += block[apart.id] if apart.id is not None else []
        for name, cells in own.labels.items():
            cells += map(intern, block[name])  # a few words in many rows
    if "train" not in parts:
        raise ValueError(f"{files['train']} has no row for training in the column {split!r}")
    return {part: parts[part] for part in files if part in parts}


def _refuse_numbers(texts: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse numbers in the place of texts."""
    held = [text.strip() for text in texts[:1000] if text.strip()]
    numbers = numbers_of(held)
    if held and not (numbers != numbers).any():
        what = f"the column {columns[0]!r} holds" if len(columns) == 1 else f"{columns} hold"
        raise ValueError(
            f"{what} numbers, such as {held[0][:40]}, and no texts; set data.text to the column of "
            "the texts, or take data=csv"
        )


def _archive(
    path: Path,
    others: Mapping[str, str | None],
    class_names: Sequence[str] | None,
    name: str | None,
    encoder: TextEncoder | None,
) -> Dataset:
    """Texts from arrays of strings."""
    if given := [setting for setting, value in others.items() if value is not None]:
        raise ValueError(
            f"{path} is an archive, which has no columns and holds its own targets and test part; "
            f"set data.{given[0]}=null"
        )
    with naming(str(path)):
        arrays, keys = read_archive(path)
        texts: dict[str, Sequence[str]] = {}
        for role in present(arrays, "inputs"):
            if arrays[role].dtype.kind != "U" or arrays[role].ndim != 1:
                raise ValueError(
                    f"{keys[role]!r} has shape {arrays[role].shape} and type {arrays[role].dtype}; "
                    "save texts as an array of strings, numpy.array(texts, dtype=str)"
                )
            part = "test" if role.startswith("test") else "train"
            texts[part] = checked_texts(arrays[role].tolist(), f"{keys[role]} row", 0)
        _refuse_numbers(texts["train"], [keys["inputs"]])
        names = class_names if class_names is not None else arrays.get("class_names")
        numbers, found = number_targets(arrays, keys, names)
        check_class_names(found, numbers["targets"].ndim == 2, "class_names")
    targets = {"train": numbers["targets"]}
    if "test_targets" in numbers:
        targets["test"] = numbers["test_targets"]
    say_what_is_odd(str(path), texts, targets)
    return _dataset(name or path.stem, texts, targets, found, encoder, {"columns": ["text"]}, None)


def _dataset(
    name: str,
    texts: Mapping[str, Sequence[str]],
    targets: Mapping[str, Tensor],
    class_names: tuple[str, ...],
    encoder: TextEncoder | None,
    recipe: dict[str, Any],
    ids: Mapping[str, Sequence[str]] | None,
) -> Dataset:
    """The parts as a data set; people know texts by their names where they have some."""
    stores = {part: TextStore(own) for part, own in texts.items()}
    contents = None
    if ids is not None:
        contents = [
            f"{one}: {text}"
            for part in texts
            for one, text in zip(ids[part], texts[part], strict=True)
        ]
    log.info(
        "%s: %s texts, of %.0f letters on average, %d at most",
        name,
        " + ".join(f"{len(own)} {part}" for part, own in texts.items()),
        sum(map(len, texts["train"])) / len(texts["train"]),
        max(len(text) for own in texts.values() for text in own),
    )
    return Dataset(
        name=name,
        inputs=stores["train"],
        targets=targets["train"],
        class_names=class_names,
        test_inputs=stores.get("test"),
        test_targets=targets.get("test"),
        contents=contents,
        validation_inputs=stores.get("validation"),
        validation_targets=targets.get("validation"),
        recipe=recipe,
        encoder=encoder,
    )
