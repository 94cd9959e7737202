"""A table of one's own, from a file or several."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.faults import naming
from dal.data.label_columns import column, override
from dal.data.rows import Rows
from dal.data.table_features import Encoded, Encoder, Recipe, filled, learn_medians, say_unknown
from dal.data.table_files import Columns
from dal.data.table_parts import check_apart, numbered, part_blocks
from dal.data.table_survey import Survey
from dal.utils.memory import check_memory

log = logging.getLogger(__name__)


def table(
    path: str,
    target: str | Sequence[str] | None,
    id: str | None = None,
    test_path: str | None = None,
    validation_path: str | None = None,
    split: str | None = None,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: Literal["refuse", "fill"] = "refuse",
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    standardize: bool = True,
) -> Dataset:
    """Rows of a table: CSV, JSON Lines, or Parquet where pyarrow is installed.

    - A column is of numbers where all cells that are not empty are numbers with a point (or say
      that there is none, such as ``NA``); each is a feature, and standardized. Any other column is
      of categories, and each of its values a feature, 1 where it stands and 0 elsewhere.
    - A column that holds the same in all training rows is left out.
    - Which columns and categories there are, medians and most frequent categories are learned from
      all training rows; labels and rows of test tables play no part.

    Tables of more rows than fit into memory are better saved as ``.npy`` files, see `dal.data.npz`.

    Args:
        path: The file, see `dal.data.table_files.read_blocks` for its kinds.
        target: The column of the labels, or several of 0 and 1, see
            `dal.data.label_columns.labels_of`; None where no label is known yet.
        id: A column that names the rows for people, besides their cells; it is not learned from.
            None: only the cells do.
        test_path: A table of test rows, or None.
        validation_path: A table of validation rows, or None.
        split: A column that says for each row whether it is for ``train`` (or empty),
            ``validation`` or ``test``; None where all are for training.
        drop: Columns that are not learned from.
        categorical: Columns whose numbers are codes of categories.
        missing: ``fill`` puts the median of a column of numbers, and the most frequent category,
            where there is none; ``refuse`` names the columns instead.
        class_names: Names of the classes in the order that outputs shall have; None for those in
            the table, in ascending order.
        name: Short name, used in the run directory; None for the name of the file.
        standardize: Scale numbers by the mean and deviation of the training part.

    Returns:
        float32 inputs (N, D), with the parts that there are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file cannot be used as it is; names it, and the column.
    """
    if missing not in ("refuse", "fill"):
        raise ValueError(f"data.missing={missing!r} is unknown; use refuse or fill")
    apart = _Apart(target, id, split, tuple(drop), tuple(categorical))
    files = {"train": path, "test": test_path, "validation": validation_path}
    check_apart(files)
    parts, survey = _looked_through(files, apart)
    with naming(path):
        recipe = survey.recipe(missing) | {"id": id}
        labels = {name: part.labels for name, part in parts.items()}
        rows = {name: part.rows for name, part in parts.items()}
        targets, names = numbered(labels, rows, target, class_names)
    inputs = _features(files, apart, recipe, parts)
    _say(path, parts, survey, recipe)
    contents = parts.pop("train").contents
    for part in parts.values():
        contents.append(part.contents)
    return Dataset(
        name=name or Path(path).stem,
        inputs=inputs["train"],
        targets=targets["train"],
        class_names=names,
        test_inputs=inputs.get("test"),
        test_targets=targets.get("test"),
        standardize=standardize and Encoder(recipe).numbers,
        contents=contents,
        validation_inputs=inputs.get("validation"),
        validation_targets=targets.get("validation"),
        recipe=recipe,
    )


@dataclass(frozen=True)
class _Apart:
    """Which columns are not learned from, or otherwise than they look."""

    target: str | Sequence[str] | None
    id: str | None
    split: str | None
    drop: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def targets(self) -> list[str]:
        """The columns of labels."""
        return [self.target] if isinstance(self.target, str) else list(self.target or ())

    def learned(self, columns: Mapping[str, Sequence[str]]) -> list[str]:
        """The columns to learn from, of those that a table has.

        Raises:
            ValueError: A column that is named is not there, or is named for two things.
        """
        named = {
            "data.target": self.targets,
            "data.id": [self.id] if self.id else [],
            "data.split": [self.split] if self.split else [],
            "data.drop": self.drop,
            "data.categorical": self.categorical,
        }
        known: dict[str, str] = {}
        for setting, names in named.items():
            for name in names:
                column(columns, name, setting)
                if name in known:
                    raise ValueError(f"{known[name]} and {setting} both name {name!r}; take one")
                known[name] = setting
        return [
            name for name in columns if known.get(name, "data.categorical") == "data.categorical"
        ]


@dataclass
class _Part:
    """What is kept of the rows of one part, beside their features."""

    labels: dict[str, list[str]]
    contents: Rows
    rows: int = 0

    def add(self, block: Columns, apart: _Apart) -> None:
        for name, cells in self.labels.items():
            cells += map(intern, block[name])  # a few words in many rows
        hidden = (*apart.targets, apart.split)  # what people are to find out
        self.contents.extend({name: block[name] for name in block if name not in hidden})
        self.rows += len(next(iter(block.values())))


def _looked_through(
    files: Mapping[str, str | None], apart: _Apart
) -> tuple[dict[str, _Part], Survey]:
    """All rows once: what is kept of them, and what the training rows hold."""
    parts: dict[str, _Part] = {}
    survey: Survey | None = None
    for part, block in part_blocks(files, apart.split):
        with naming(str(files[part] or files["train"])):
            if survey is None:
                survey = Survey(apart.learned(block), apart.categorical)
            own = parts.setdefault(
                part, _Part({name: [] for name in apart.targets}, Rows(apart.id))
            )
            for name in (*apart.targets, *([apart.id] if apart.id else [])):
                column(block, name, "data.id" if name == apart.id else "data.target")
            own.add(block, apart)
            if part == "train":
                survey.add(block)
    if survey is None or "train" not in parts:
        raise ValueError(f"{files['train']} has no row for training in the column {apart.split!r}")
    for name in survey.row_numbers():
        log.warning(
            "the column %r seems to count the rows and is learned from like the others; %s or %s "
            "keeps it out",
            name,
            override("data.id", name, several=False),
            override("data.drop", name),
        )
    order = [part for part in files if part in parts]
    return {part: parts[part] for part in order}, survey


def _features(
    files: Mapping[str, str | None], apart: _Apart, recipe: Recipe, parts: Mapping[str, _Part]
) -> dict[str, Tensor]:
    """The features of each part; what is learned for them is written into the recipe."""
    encoder = Encoder(recipe)
    rows = sum(part.rows for part in parts.values())
    with naming(str(files["train"])):
        what = f"{rows} rows of {encoder.width} features; as .npy files they stay on the disk, see"
        check_memory(4 * rows * encoder.width, f"{what} data=npz")
    found = {name: np.empty((part.rows, encoder.width), np.float32) for name, part in parts.items()}
    at: Counter[str] = Counter()
    unknown: dict[str, Counter[str]] = {}
    for part, block in part_blocks(files, apart.split):
        with naming(str(files[part] or files["train"])):
            encoded = encoder(block)
            _refuse(encoded, at[part], part)
        stop = at[part] + len(encoded.inputs)
        if stop > len(found[part]):
            raise ValueError(f"{files['train']} was written to while it was read; run again")
        found[part][at[part] : stop] = encoded.inputs
        at[part] = stop
        unknown.setdefault(part, Counter()).update(encoded.unknown)
    learn_medians(recipe, found["train"])
    for part, counts in unknown.items():
        say_unknown(f"of the {part} rows", counts)
    return {part: torch.from_numpy(filled(recipe, inputs)) for part, inputs in found.items()}


def _refuse(encoded: Encoded, start: int, part: str) -> None:
    if not encoded.faults:
        return
    row, fault = min(encoded.faults.items())
    remedy = "; mend it, or set data.missing=fill" if "is empty" in fault else "; mend it"
    raise ValueError(f"row {start + row + 1} of the {part} rows: {fault}{remedy}")


def _say(path: str, parts: Mapping[str, _Part], survey: Survey, recipe: Recipe) -> None:
    """What the columns were taken for, in one line."""
    numbers = [c["name"] for c in recipe["columns"] if c["kind"] == "number"]
    kinds = [
        f"{c['name']} ({len(c['values'])})" for c in recipe["columns"] if c["kind"] == "category"
    ]
    filled_in = [
        f"{c.name} ({c.gaps} rows)" for c in survey.columns if c.gaps and not c.is_constant
    ]
    said = {
        "numbers": numbers,
        "categories": kinds,
        "filled in": filled_in,
        "left out, the same in all rows": survey.left_out(),
    }
    log.info(
        "%s: %s rows, %d features; %s",
        path,
        " + ".join(f"{part.rows} {name}" for name, part in parts.items()),
        Encoder(recipe).width,
        "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names),
    )
