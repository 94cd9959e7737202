"""An oracle that asks through a file: for people who label with their own tools."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from dal.oracles.base import Answers, Oracle
from dal.query.base import Query
from dal.utils.files import write_text_atomically

ABSTAIN = "?"


class FilesOracle(Oracle):
    """Writes ``round_0003.csv`` with an empty column ``label`` and waits until it is filled in.

    The run ends with status ``waiting``; the same command goes on when every row has a label: a
    class name, a class number, or ``?`` where no label can be given.

    Args:
        folder: Where the files go; created if it is missing.
        class_names: The C class names.
    """

    name = "files"

    def __init__(self, folder: str | Path, class_names: tuple[str, ...]) -> None:
        self.folder = Path(folder)
        self.class_names = class_names

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Write the file, unless it is there already from before an interruption."""
        path = self.folder / f"round_{round_number:04d}.csv"
        indices = query.indices.tolist()
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = [
                f"{index},{score:.6g},\n"
                for index, score in zip(indices, query.scores.tolist(), strict=True)
            ]
            write_text_atomically(path, "index,score,label\n" + "".join(rows), sync=True)
        return {"indices": indices, "file": path.name}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """Read the file; None while a label is missing.

        Raises:
            ValueError: A label is neither a class nor ``?``, or the rows are not those asked for.
        """
        path = self.folder / ticket["file"]
        rows = _read(path)
        labels = dict(rows)
        indices: list[int] = ticket["indices"]
        if sorted(index for index, _ in rows) != sorted(indices):
            raise ValueError(
                f"{path}: the column index must hold the {len(indices)} numbers that were asked "
                "for, each once; restore them and run the same command again"
            )
        if not all(labels.values()):
            return None
        targets = [self._target(path, labels[index]) for index in indices]
        return Answers(
            indices=torch.tensor(indices, dtype=torch.int64),
            targets=torch.tensor(targets, dtype=torch.int64),
            abstained=torch.tensor([labels[index] == ABSTAIN for index in indices]),
            cost=torch.ones(len(indices)),
        )

    def _target(self, path: Path, label: str) -> int:
        if label == ABSTAIN:
            return -1
        if label in self.class_names:
            return self.class_names.index(label)
        if label.isdecimal() and int(label) < len(self.class_names):
            return int(label)
        raise ValueError(
            f"{path}: label {label!r} is not a class; give one of {', '.join(self.class_names)}, "
            f"or {ABSTAIN} where no label can be given"
        )


def _read(path: Path) -> list[tuple[int, str]]:
    """Index and label of every row; labels stripped, empty where none was given."""
    try:
        # Spreadsheet programs put a byte order mark before UTF-8.
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [(int(row["index"]), (row["label"] or "").strip()) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error!r}); it must be a CSV file with the columns index and "
            "label, as it was written"
        ) from error
