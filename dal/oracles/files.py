"""An oracle that asks through a file: for people who label with their own tools."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.class_names import ABSTAINED, NO_LABEL, SEPARATOR, target_name
from dal.data.source import UNKNOWN, Source
from dal.oracles.base import Answers, Oracle
from dal.oracles.pictures import draw
from dal.oracles.table import Row, read_answers
from dal.query.base import Query
from dal.task import Multiclass, Multilabel
from dal.utils.safe_files import csv_text, write_text_atomically

log = logging.getLogger(__name__)

LISTED = 20
"""So many class names are listed in an error."""


class FilesOracle(Oracle):
    """Writes ``round_0003.csv`` with an empty column ``label`` and waits until it is filled in.

    What is asked before the first round, where no label is known, is ``initial_0001.csv``.

    The run ends with status ``waiting``; the same command goes on when every row has a label: a
    class name, or ``?`` where no label can be given. Where no class name looks like a number, the
    number of a class, from 0, will do too. A file that was moved away is written anew.

    Where a sample may have several labels, all that hold are written with ``;`` between them, such
    as ``joy;surprise``, and ``-`` where none holds. A row left empty has not been answered yet.

    Beside the label a row has the sample's index, its file name or text where the data have one,
    the model's guess with its probability (of a set of labels: as if they were independent), and
    the strategy's score, each where there is one. Rows and columns may be put in another order, all
    columns but ``index`` and ``label`` taken out, and others added. Of these ``annotator``, a name,
    and ``seconds``, how long the answer took, go into the ledger; their cells may be empty.
    `read_answers` says which tables are understood.

    Args:
        folder: Where the files go; created if it is missing.
        class_names: The C class names.
        positions: int64, (num_total,), the number that people know each sample of the training
            part by: its position in the arrays they gave (`Split.positions`). None for its own.
        multilabel: A sample may have any number of the labels.
        guess: Show the model's guess; without it people label uninfluenced.
        pictures: Write the picked images too: a folder ``round_0003`` of PNG files named by index,
            and a sheet of them, ``round_0003.png``.
    """

    name = "files"

    def __init__(
        self,
        folder: str | Path,
        class_names: tuple[str, ...],
        positions: Tensor | None = None,
        multilabel: bool = False,
        guess: bool = True,
        pictures: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.class_names = class_names
        self.positions = positions
        self.multilabel = multilabel
        self._task = (Multilabel if multilabel else Multiclass)(len(class_names))
        self.wants_probs = guess
        self.pictures = pictures
        self._source: Source | None = None
        self._numbers = not any(_looks_like_a_number(name) for name in class_names)

    def open(self, source: Source) -> None:
        """Take the data, for file names, texts and pictures.

        Raises:
            ValueError: Pictures are asked for and the samples are no images.
        """
        if self.pictures and source.train.image(0) is None:
            raise ValueError(
                f"oracle.pictures=true but the samples of {source.name} are no images (rows of a "
                "table, or features in place of images); set it to false"
            )
        self._source = source

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Write the file, unless it is there already from before an interruption.

        Raises:
            ValueError: A file that people have begun to fill in asks for other samples.
        """
        kind = "round" if round_number >= 0 else "initial"
        path = self.folder / f"{kind}_{abs(round_number):04d}.csv"
        indices = query.indices.tolist()
        samples = indices if self.positions is None else self.positions[query.indices].tolist()
        ticket = {"indices": indices, "samples": samples, "file": path.name}
        if not (path.exists() and _asks_for(path, samples)):
            self._ask(ticket, query)
        return ticket

    def _ask(self, ticket: dict[str, Any], query: Query) -> None:
        """Write the file of a ticket, with the pictures where they are asked for."""
        path = self.folder / ticket["file"]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._draw(ticket)
        columns = self._columns(query, ticket["samples"])
        text = csv_text([list(columns), *zip(*columns.values(), strict=True)])
        # Without a mark at its beginning, spreadsheet programs take UTF-8 for something else.
        mark = "" if text.isascii() else "\ufeff"
        write_text_atomically(path, mark + text, sync=True)

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """Read the file; None while a label is missing.

        A file that is gone is written anew, without guesses and scores, which no ticket holds.

        Raises:
            ValueError: A label is neither a class nor ``?``, the rows are not those asked for, or
                the file cannot be read without guessing; names the line, and changes nothing.
        """
        path = self.folder / ticket["file"]
        samples: list[int] = ticket["samples"]
        if not path.exists():
            log.warning("%s was gone and is written anew, without any label", path)
            indices = torch.tensor(ticket["indices"], dtype=torch.int64)
            self._ask(ticket, Query(indices, torch.full(indices.shape, math.nan)))
        rows = _rows_in_order(path, read_answers(path), samples)
        self._check(path, rows)
        targets = [self._answer(row) for row in rows if row.label]
        if missing := len(rows) - len(targets):
            if not path.with_suffix(".png").exists():
                self._draw(ticket)
            log.info("%s: %d of %d labels are missing", path, missing, len(rows))
            return None
        return Answers(
            indices=torch.tensor(ticket["indices"], dtype=torch.int64),
            targets=torch.tensor(targets),
            abstained=torch.tensor([row.label == ABSTAINED for row in rows]),
            cost=torch.ones(len(rows)),
            seconds=torch.tensor([row.seconds for row in rows], dtype=torch.float64),
            annotators=[row.annotator or self.name for row in rows],
        )

    def _draw(self, ticket: dict[str, Any]) -> None:
        """Write the pictures, where they are asked for."""
        if self.pictures and self._source is not None:
            found = map(self._source.train.image, ticket["indices"])
            images = [image for image in found if image is not None]
            draw(torch.stack(images), ticket["samples"], self.folder / Path(ticket["file"]).stem)

    def _columns(self, query: Query, samples: list[int]) -> dict[str, list[Any]]:
        """What stands in the file, by the names of its columns."""
        columns: dict[str, list[Any]] = {"index": samples}
        if self._source is not None and self._source.contents is not None:
            columns["content"] = [self._source.content(index) for index in query.indices.tolist()]
        if self.wants_probs and query.probs is not None:
            guesses = self._task.guess(query.probs)
            columns["guess"] = [target_name(target, self.class_names) for target, _ in guesses]
            columns["probability"] = [f"{probability:.4f}" for _, probability in guesses]
        if not query.scores.isnan().all():
            columns["score"] = [f"{score:.6g}" for score in query.scores.tolist()]
        columns["label"] = [""] * len(samples)
        return columns

    def _check(self, path: Path, rows: Sequence[Row]) -> None:
        """Refuse labels that are no classes, all of them at once."""
        wrong = [
            f"{name!r} in line {row.line}"
            for row in rows
            for name in self._names(row)
            if self._number(name) is None
        ]
        if not wrong:
            return
        names = ", ".join(self.class_names[:LISTED])
        if len(self.class_names) > LISTED:
            names += f", ... ({len(self.class_names)} in all)"
        several = f" (several with {SEPARATOR} between them), {NO_LABEL} where none holds"
        listed = ", ".join(wrong[:LISTED]) + (", ..." if len(wrong) > LISTED else "")
        fact = f"{len(wrong)} labels are not classes: {listed}"
        if len(wrong) == 1:
            fact = f"label {listed} is not a class"
        raise ValueError(
            f"{path}: {fact}; give one of {names}"
            f"{several if self.multilabel else ''}, or {ABSTAINED} where no label can be given"
        )

    def _answer(self, row: Row) -> int | list[int]:
        """What a person wrote as a target; -1 where they abstained."""
        held = {self._number(name) for name in self._names(row)}
        if not self.multilabel:
            return next(number for number in held or {UNKNOWN} if number is not None)
        if row.label == ABSTAINED:
            return [UNKNOWN] * len(self.class_names)
        return [int(number in held) for number in range(len(self.class_names))]

    def _names(self, row: Row) -> list[str]:
        """The labels in a row; none where there is no answer yet, or a person abstained."""
        if row.label in ("", ABSTAINED) or (self.multilabel and row.label == NO_LABEL):
            return []
        if not self.multilabel:
            return [row.label]
        return [name.strip() for name in row.label.strip(SEPARATOR).split(SEPARATOR)]

    def _number(self, name: str) -> int | None:
        """The class of a name, or of its number where no name looks like one; None for others."""
        if name in self.class_names:
            return self.class_names.index(name)
        known = self._numbers and name in map(str, range(len(self.class_names)))
        return int(name) if known else None


def _looks_like_a_number(name: str) -> bool:
    try:
        float(name.replace(",", "."))
    except ValueError:
        return name.isnumeric()
    return True


def _asks_for(path: Path, samples: list[int]) -> bool:
    """Whether a file asks for these samples; one without any label may be written anew."""
    rows = read_answers(path)
    if Counter(row.index for row in rows) == Counter(samples):
        return True
    if any(row.label for row in rows):
        raise ValueError(
            f"{path} holds labels for other samples than this query asks for; move it away to be "
            "asked anew"
        )
    return False


def _rows_in_order(path: Path, rows: list[Row], samples: list[int]) -> list[Row]:
    """The rows in the order of the query; of copies of a sample, in that of the file.

    Raises:
        ValueError: They are not those asked for.
    """
    asked = Counter(samples)
    found: defaultdict[int, deque[Row]] = defaultdict(deque)
    for row in rows:
        found[row.index].append(row)
        if len(found[row.index]) > asked[row.index]:
            raise ValueError(
                f"{path}, line {row.line}: index {row.index} was asked for {asked[row.index]} "
                "times; take out the rows that were not there and run the same command again"
            )
    for sample, times in asked.items():
        if len(found[sample]) < times:
            raise ValueError(
                f"{path}: the row of index {sample} is missing; put it back (with ? as its label "
                "if nobody can tell) and run the same command again"
            )
    return [found[sample].popleft() for sample in samples]
