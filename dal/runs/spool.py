"""Samples that arrive from outside the data: written down before anything else happens to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.checkpoint import save
from dal.data.lines import Parser
from dal.data.made import MadeSplit, with_room
from dal.data.rows import Rows
from dal.data.source import Source
from dal.runs.host import current_host
from dal.runs.job import Job
from dal.runs.made_files import MADE, RESTORE, MadeFiles, last_index, read_kept
from dal.streams.coming import Incoming, Lines, incoming
from dal.utils.ranks import current
from dal.utils.safe_files import DamagedError

log = logging.getLogger(__name__)

ARRIVED = "arrived"
"""The folder of a run that holds what arrived."""


@dataclass(frozen=True)
class Piece:
    """What came at once.

    Attributes:
        first: Index of its first sample.
        taken: How many lines or objects had come in all, with those of this piece.
        head: The header of lines of CSV; empty where there is none.
        inputs: See `dal.data.lines.Came`, as ``cells`` is.
    """

    first: int
    taken: int
    head: str
    inputs: Tensor | list[str] | None
    cells: dict[str, list[str]]


class Spool:
    """What arrives, as samples behind the training part.

    A file of ``arrived/`` holds what came at once; scores are computed of no samples of two files
    together, so that a run which is killed comes to the same bits.

    Args:
        given: A path, ``-`` for the standard input, or an iterable.

    Attributes:
        ends: How many samples there were with those of each piece.
        over: Whether all has come.
    """

    def __init__(self, given: str | Path | Iterable[Any]) -> None:
        self._given = given
        self._reset()

    def _reset(self) -> None:
        self.ends: list[int] = []
        self.over = False
        self._incoming: Incoming | None = None
        self._taken, self._pieces = 0, 0
        self._folder: Path | None = None
        self._parser: Parser | None = None
        self._told: Rows | None = None

    def prepared(self, source: Source) -> Source:
        """The data with room for what arrives.

        Raises:
            ValueError: Nothing can be made samples of these data.
        """
        if source.appended:
            raise ValueError(
                f"setting.arrivals: samples of {source.name} have become more since the run began, "
                "and those that arrive are numbered behind them; restore the data of its beginning"
            )
        self._reset()
        self._parser = Parser(source)
        source, self._told = _with_room(source, self._parser)
        return source

    def begin(self, job: Job) -> None:
        """Take back what had arrived, and open what gives more.

        Raises:
            DamagedError: What had arrived is damaged or gone.
            OSError, ValueError: Nothing can be read; see `dal.streams.coming.incoming`.
        """
        directory = job.recorder.directory
        self._folder = None if directory is None else directory.path / ARRIVED
        for piece in current().broadcast(lambda: _read(self._folder) if self._folder else []):
            self._add(job, piece)
            self._pieces += 1
        _check_last(_train_of(job), last_index(job), self._folder)
        current().broadcast(self._open)

    def more(self, job: Job, most: int) -> bool:
        """Wait for samples; False where no more come.

        Args:
            job: The run, whose training part has them then.
            most: How many objects are taken at once.

        Raises:
            PreemptedError: A signal came.
            ValueError: What came is nothing that the model could take.
        """
        train = _train_of(job)
        count = train.num_made
        while train.num_made == count and not self.over:
            piece = current().broadcast(lambda: self._next(job, most))
            if piece is None:
                self.over = True
            else:
                self._add(job, piece)
        return train.num_made > count

    def close(self) -> None:
        """Let go of what it reads from."""
        if self._incoming is not None:
            self._incoming.close()

    def _open(self) -> None:
        found = incoming(self._given)
        self._incoming = found
        if isinstance(found, Lines) and not found.again and current_host().count > 1:
            raise ValueError(
                f"setting.arrivals: {found.title} goes to one run, and this process makes "
                f"{current_host().count}; give a file, which each of them reads, or one run"
            )
        if found.again:
            found.skip(self._taken)
        elif self._taken:
            log.info(
                "%d samples had arrived before; what %s gives now comes behind them",
                self.ends[-1] if self.ends else 0,
                found.title,
            )

    def _next(self, job: Job, most: int) -> Piece | None:
        """The next piece, written down; None at the end. The main process alone reads."""
        source, parser = self._incoming, self._parser
        assert source is not None
        assert parser is not None
        items = source.take(most, job.interrupts.check)
        if not items:
            return None
        parse = parser.lines if isinstance(source, Lines) else parser.objects
        came = parse(items, self._taken + 1)
        if came.faults:
            _, fault = min(came.faults.items())
            log.warning(
                "%d of %d that arrived are left out, the first: %s",
                len(came.faults),
                len(items),
                fault,
            )
        train = _train_of(job)
        first = len(train) + train.num_made
        piece = Piece(first, self._taken + len(items), parser.head, came.inputs, came.cells)
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            save(self._folder / f"piece_{self._pieces:08d}.pt", vars(piece))
        self._pieces += 1
        return piece

    def _add(self, job: Job, piece: Piece) -> None:
        """Give the training part what came.

        Raises:
            DamagedError: It is not what comes next.
        """
        train = _train_of(job)
        assert self._parser is not None
        _add(train, self._told, piece, self._folder)
        self._parser.head, self._taken = piece.head, piece.taken
        if piece.inputs is not None:
            self.ends.append(train.num_made)


def _with_room(source: Source, parser: Parser) -> tuple[Source, Rows | None]:
    """The data with room for samples that arrive, and where their rows are told."""
    source = with_room(source, parser.encode)
    if not isinstance(source.contents, Rows):
        return source, None
    # Several runs may have these data, and each its own samples that arrive.
    told = Rows(source.contents.id)
    told.append(source.contents)
    if gap := _made(source).first - len(told):  # foreign samples stand behind the rows
        told.extend({told.id or "": [""] * gap})
    return replace(source, contents=told), told


def _add(train: MadeSplit, told: Rows | None, piece: Piece, folder: Path | None) -> None:
    """Give a training part, and its rows, what came at once.

    Raises:
        DamagedError: It is not what comes next.
    """
    if piece.first != (number := len(train) + train.num_made):
        raise DamagedError(f"{folder} lacks samples that arrived, number {number} first; {RESTORE}")
    if piece.inputs is not None:
        train.add(piece.inputs)
        if told is not None:
            told.extend(piece.cells)


def _check_last(train: MadeSplit, last: int, folder: Path | None) -> None:
    """Refuse to go on without samples that were asked about."""
    if last >= len(train) + train.num_made:
        raise DamagedError(
            f"{folder} lacks samples that were asked about, number {last} last; {RESTORE}"
        )


def with_added(source: Source, run_dir: Path, events: Sequence[Mapping[str, Any]]) -> Source:
    """The data of a run that has ended, with the samples that it made or received.

    Args:
        source: Its data; as they are where it asked about no others.
        run_dir: Its directory.
        events: Its ledger, which says what it asked about.

    Raises:
        DamagedError: A file of these is damaged or gone.
    """
    last = max((int(event["index"]) for event in events), default=-1)
    if last < len(source.train):
        return source
    folder = run_dir / ARRIVED
    if folder.is_dir():
        source, told = _with_room(source, Parser(source))
        for piece in _read(folder):
            _add(_made(source), told, piece, folder)
        _check_last(_made(source), last, folder)
        return source
    source = with_room(source)
    for made in MadeFiles(run_dir / MADE).up_to(_made(source), last):
        _made(source).add(made.inputs)
    return source


def _read(folder: Path) -> list[Piece]:
    """What had arrived, in order."""
    return [read_kept(path, Piece) for path in sorted(folder.glob("piece_*.pt"))]


def _made(source: Source) -> MadeSplit:
    assert isinstance(source.train, MadeSplit)
    return source.train


def _train_of(job: Job) -> MadeSplit:
    return _made(job.source)


def order_of(job: Job) -> Tensor:
    """int64, the samples that have arrived, in order."""
    train = _train_of(job)
    return len(train) + torch.arange(train.num_made)
