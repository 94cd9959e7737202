"""An oracle that asks through a file: for people who label with their own tools."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.class_names import NO_LABEL, SEPARATOR
from dal.data.source import UNKNOWN
from dal.oracles.base import Answers, Oracle
from dal.query.base import Query
from dal.utils.files import write_text_atomically

ABSTAIN = "?"


class FilesOracle(Oracle):
    """Writes ``round_0003.csv`` with an empty column ``label`` and waits until it is filled in.

    The run ends with status ``waiting``; the same command goes on when every row has a label: a
    class name, a class number, or ``?`` where no label can be given.

    Where a sample may have several labels, all that hold are written with ``;`` between them, such
    as ``joy;surprise``, and ``-`` where none holds. A row left empty has not been answered yet.

    Args:
        folder: Where the files go; created if it is missing.
        class_names: The C class names.
        positions: int64, (num_total,), the number that people know each sample of the training
            part by: its position in the arrays they gave (`Split.positions`). None for its own.
        multilabel: A sample may have any number of the labels.
    """

    name = "files"

    def __init__(
        self,
        folder: str | Path,
        class_names: tuple[str, ...],
        positions: Tensor | None = None,
        multilabel: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.class_names = class_names
        self.positions = positions
        self.multilabel = multilabel

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Write the file, unless it is there already from before an interruption.

        Raises:
            ValueError: A file that people have begun to fill in asks for other samples.
        """
        path = self.folder / f"round_{round_number:04d}.csv"
        indices = query.indices.tolist()
        samples = indices if self.positions is None else self.positions[query.indices].tolist()
        if path.exists() and _asks_for(path, samples):
            return {"indices": indices, "samples": samples, "file": path.name}
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{sample},{score:.6g},\n"
            for sample, score in zip(samples, query.scores.tolist(), strict=True)
        ]
        write_text_atomically(path, "index,score,label\n" + "".join(rows), sync=True)
        return {"indices": indices, "samples": samples, "file": path.name}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """Read the file; None while a label is missing.

        Raises:
            ValueError: A label is neither a class nor ``?``, or the rows are not those asked for.
        """
        path = self.folder / ticket["file"]
        rows = _read(path)
        given = dict(rows)
        samples: list[int] = ticket["samples"]
        if sorted(sample for sample, _ in rows) != sorted(samples):
            raise ValueError(
                f"{path}: the column index must hold the {len(samples)} numbers that were asked "
                "for, each once; restore them and run the same command again"
            )
        if not all(given.values()):
            return None
        labels = [given[sample] for sample in samples]
        return Answers(
            indices=torch.tensor(ticket["indices"], dtype=torch.int64),
            targets=torch.tensor([self._answer(path, label) for label in labels]),
            abstained=torch.tensor([label == ABSTAIN for label in labels]),
            cost=torch.ones(len(labels)),
        )

    def _answer(self, path: Path, label: str) -> int | list[int]:
        """What a person wrote as a target; -1 where they abstained."""
        if not self.multilabel:
            return UNKNOWN if label == ABSTAIN else self._target(path, label)
        if label == ABSTAIN:
            return [UNKNOWN] * len(self.class_names)
        names = [] if label == NO_LABEL else label.strip(SEPARATOR).split(SEPARATOR)
        held = {self._target(path, name.strip()) for name in names}
        return [int(number in held) for number in range(len(self.class_names))]

    def _target(self, path: Path, label: str) -> int:
        if label in self.class_names:
            return self.class_names.index(label)
        if label.isdecimal() and int(label) < len(self.class_names):
            return int(label)
        several = f" (several with {SEPARATOR} between them), {NO_LABEL} where none holds"
        raise ValueError(
            f"{path}: label {label!r} is not a class; give one of {', '.join(self.class_names)}"
            f"{several if self.multilabel else ''}, or {ABSTAIN} where no label can be given"
        )


def _asks_for(path: Path, samples: list[int]) -> bool:
    """Whether a file asks for these samples; one without any label may be written anew."""
    rows = _read(path)
    if sorted(sample for sample, _ in rows) == sorted(samples):
        return True
    if any(label for _, label in rows):
        raise ValueError(
            f"{path} holds labels for other samples than this query asks for; move it away to be "
            "asked anew"
        )
    return False


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
