"""An oracle that asks through a file: for people who label with their own tools."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.class_names import (
    ABSTAINED,
    NO_LABEL,
    SEPARATOR,
    names_written,
    target_name,
)
from dal.data.source import Source
from dal.oracles.base import Answers, Oracle, known_by
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

    The run ends with status ``waiting``; the same command goes on when every row has a label (or so
    many as ``enough`` says): a class name, ``-`` where the sample is of none of the classes, or
    ``?`` where nobody can tell. Where no class name looks like a number, the number of a class,
    from 0, will do too. A file that was moved away is written anew.

    Rows that are filled in later, and labels that are changed, count from the next round on: files
    of earlier rounds are read again. One that is gone or damaged by then is warned about.

    Where a sample may have several labels, all that hold are written with ``;`` between them, such
    as ``joy;surprise``, and ``-`` where none holds. A row left empty has not been answered yet.

    Beside the label a row has the sample's index, its file name or text where the data have one,
    the model's guess with its probability (of a set of labels: as if they were independent), and
    the strategy's score, each where there is one. Rows and columns may be put in another order, all
    columns but ``index`` and ``label`` taken out, and others added. Of these ``annotator``, a name,
    and ``seconds``, how long the answer took, go into the ledger; their cells may be empty. Several
    rows of a sample with different annotators are several answers. `read_answers` says which tables
    are understood.

    Args:
        folder: Where the files go; created if it is missing.
        class_names: The C class names.
        positions: int64, (num_total,), the number that people know each sample of the training
            part by: its position in the arrays they gave (`Split.positions`). None for its own.
        multilabel: A sample may have any number of the labels.
        guess: Show the model's guess; without it people label uninfluenced.
        pictures: Write the picked images too: a folder ``round_0003`` of PNG files named by index,
            and a sheet of them, ``round_0003.png``.
        enough: Share of the samples, above 0 up to 1, with whose answers the run goes on.
        annotators_per_sample: So many rows are written for each sample, for people who put their
            names into the column ``annotator``.
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
        enough: float = 1.0,
        annotators_per_sample: int = 1,
    ) -> None:
        self.folder = Path(folder)
        self.class_names = class_names
        self.positions = positions
        if annotators_per_sample < 1:
            raise ValueError(
                f"oracle.annotators_per_sample={annotators_per_sample}; give at least 1"
            )
        self.enough, self.answers_per_sample = enough, annotators_per_sample
        self._task = (Multilabel if multilabel else Multiclass)(len(class_names))
        self.wants_probs = guess
        self.pictures = pictures
        self._source: Source | None = None
        self._unread: dict[str, str] = {}
        self._earlier: dict[str, tuple[tuple[int, int], Answers]] = {}
        self._numbers = not any(_looks_like_a_number(name) for name in class_names)

    def open(self, source: Source) -> None:
        """Take the data, for file names, texts and pictures.

        Raises:
            ValueError: Pictures are asked for and the samples are no images.
        """
        if self.pictures and source.image(0) is None:
            raise ValueError(
                f"oracle.pictures=true but the samples of {source.name} are no images (rows of a "
                "table, or texts); set it to false"
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
        samples = known_by(query.indices, self.positions, self._source)
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
        """Read the file: the answers so far; None while there is none.

        A file that is gone is written anew, without guesses and scores, which no ticket holds.

        Raises:
            ValueError: A label is no class, the rows are not those asked for, or the file cannot be
                read without guessing; names the line, and changes nothing.
        """
        path = self.folder / ticket["file"]
        if not path.exists():
            log.warning("%s was gone and is written anew, without any label", path)
            indices = torch.tensor(ticket["indices"], dtype=torch.int64)
            self._ask(ticket, Query(indices, torch.full(indices.shape, math.nan)))
        rows = self._read(path, ticket)
        if missing := sum(not row.label for _, row in rows):
            if not path.with_suffix(".png").exists():
                self._draw(ticket)
            log.info("%s: %d of %d labels are missing", path, missing, len(rows))
        return self._answers(rows) if missing < len(rows) else None

    def revisit(self, ticket: dict[str, Any]) -> Answers:
        """What an earlier file says now; a file that cannot be read is warned about.

        What it said before stands then: no label is taken back by an empty cell, or a lost file.
        """
        path = self.folder / ticket["file"]
        try:
            found = path.stat()
            state = found.st_mtime_ns, found.st_size
            if self._earlier.get(path.name, ((), ()))[0] != state:
                self._earlier[path.name] = state, self._answers(self._read(path, ticket))
        except (OSError, ValueError) as error:
            fact = f"{path} is gone" if isinstance(error, FileNotFoundError) else str(error)
            if self._unread.get(path.name) != fact:
                log.warning("%s; what it said before stands", fact)
            self._unread[path.name] = fact
            return self._answers([])
        return self._earlier[path.name][1]

    def _read(self, path: Path, ticket: dict[str, Any]) -> list[tuple[int, Row]]:
        """The rows of a file, each with the position of its sample, checked."""
        rows = _rows_of(path, read_answers(path), ticket["samples"], ticket["indices"])
        self._check(path, [row for _, row in rows])
        return rows

    def _answers(self, rows: Sequence[tuple[int, Row]]) -> Answers:
        """What is written in those rows that have a label."""
        given = [(index, row) for index, row in rows if row.label]
        targets = [self._answer(row) for _, row in given]
        shape = () if self._task.exclusive else (self._task.num_classes,)
        return Answers(
            indices=torch.tensor([index for index, _ in given], dtype=torch.int64),
            targets=torch.tensor(targets, dtype=torch.int64).view(len(given), *shape),
            abstained=torch.tensor([self._names(row) is None for _, row in given]).bool(),
            cost=torch.ones(len(given)),
            seconds=torch.tensor([row.seconds for _, row in given], dtype=torch.float64),
            annotators=[row.annotator or self.name for _, row in given],
        )

    def _draw(self, ticket: dict[str, Any]) -> None:
        """Write the pictures, where they are asked for."""
        if self.pictures and self._source is not None:
            found = map(self._source.image, ticket["indices"])
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
            scores = query.scores.tolist()
            columns["score"] = ["" if math.isnan(score) else f"{score:.6g}" for score in scores]
        columns["label"] = [""] * len(samples)
        if self.answers_per_sample > 1:
            columns["annotator"] = [""] * len(samples)
        times = range(self.answers_per_sample)
        return {
            name: [c for cell in column for c in [cell for _ in times]]
            for name, column in columns.items()
        }

    def _check(self, path: Path, rows: Sequence[Row]) -> None:
        """Refuse labels that are no classes, all of them at once."""
        wrong = [
            f"{name!r} in line {row.line}"
            for row in rows
            for name in self._names(row) or ()
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
            f"{'' if self._task.exclusive else several}, or {ABSTAINED} where no label can be given"
            f"{f' ({NO_LABEL} where it is none of them)' * self._task.exclusive}"
        )

    def _answer(self, row: Row) -> int | list[int]:
        """What a person wrote as a target."""
        names = self._names(row)
        found = None if names is None else [n for n in map(self._number, names) if n is not None]
        return self._task.answer(found)

    def _names(self, row: Row) -> list[str] | None:
        """The names of classes in a row; none where there is no answer, None for an abstention."""
        if not row.label:
            return []
        return names_written(row.label, self.class_names, not self._task.exclusive)

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
    found, asked = Counter(row.index for row in rows), Counter(samples)
    if found.keys() == asked.keys() and found >= asked:
        return True
    if any(row.label for row in rows):
        raise ValueError(
            f"{path} holds labels for other samples than this query asks for; move it away to be "
            "asked anew"
        )
    return False


def _rows_of(
    path: Path, rows: list[Row], samples: list[int], indices: list[int]
) -> list[tuple[int, Row]]:
    """The rows, each with the position of its sample, in the order of the query.

    Rows of copies of a sample are taken in the order of the file. Where a sample has more rows than
    were asked for, they are answers of different annotators.

    Args:
        path: The file, for errors.
        rows: What it holds.
        samples: The numbers that people know the samples by, in the order of the query.
        indices: Their positions in the training part.

    Raises:
        ValueError: They are not those asked for.
    """
    asked: defaultdict[int, list[int]] = defaultdict(list)
    for sample, index in zip(samples, indices, strict=True):
        asked[sample].append(index)
    written = Counter(row.index for row in rows)
    for sample, copies in asked.items():
        if written[sample] < len(copies):
            raise ValueError(
                f"{path}: the row of index {sample} is missing; put it back (with ? as its label "
                "if nobody can tell) and run the same command again"
            )
    found: dict[int, list[Row]] = {index: [] for index in indices}
    taken: Counter[tuple[int, str]] = Counter()
    for row in rows:
        copies, several = asked[row.index], written[row.index] > len(asked[row.index])
        if several and copies and not row.label:
            continue
        who = row.annotator if several else ""
        place = taken[row.index, who]
        if place >= len(copies):
            by = f" and answered by {who!r}" if who else ""
            raise ValueError(
                f"{path}, line {row.line}: index {row.index} was asked for {len(copies)} times"
                f"{by}; take out the rows that were not there (several answers of a sample need "
                "different names in the column annotator) and run the same command again"
            )
        taken[row.index, who] += 1
        found[copies[place]].append(row)
    return [(index, row) for index in indices for row in found[index] or [Row(0, index, "")]]
