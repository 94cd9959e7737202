"""Made samples on the disk: written before anybody is asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dal.checkpoint import load, save
from dal.data.made import MadeSplit, with_room
from dal.data.source import Source
from dal.runs.job import Job
from dal.synthesis.bisection import Chain
from dal.utils.inputs import Inputs, in_words, num_samples
from dal.utils.ranks import current
from dal.utils.safe_files import DamagedError

MADE = "made"
"""The folder of a run that holds what it made."""


@dataclass(frozen=True)
class Made:
    """What was made in a round.

    Attributes:
        inputs: As the store keeps samples: (b, ...), on the CPU.
        scores: float64, (b,), NaN where no strategy was asked; None where not yet computed.
        info: Plain values worth recording.
        chains: Pairs that go on, see `dal.synthesis.bisection`; None where there are none.
    """

    inputs: Inputs
    scores: Tensor | None = None
    info: dict[str, Any] = field(default_factory=dict)
    chains: Sequence[Chain] | None = None

    @property
    def count(self) -> int:
        """How many samples."""
        return num_samples(self.inputs)


class MadeFiles:
    """The made samples of a run, a file for each round that asked about some.

    Args:
        folder: ``made`` in the run directory; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def write(self, round_number: int, first: int, made: Made) -> None:
        """Write down what was made in a round.

        Args:
            round_number: The round.
            first: Index of its first sample.
            made: With scores.

        Raises:
            OSError: The disk is full or not writable.
        """
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            save(self._path(round_number), {"first": first, **vars(made)})

    def read(self, round_number: int, first: int, count: int) -> Made | None:
        """What a killed process had made for a round, and may have asked about already.

        None where there is nothing, or it was another question: of other indices, or not so many.
        """
        if self._folder is None or not (path := self._path(round_number)).exists():
            return None
        made = self._read(path, first)
        return made if made is not None and made.count == count else None

    def take_back(self, job: Job) -> None:
        """Give the training part the samples that a run was asked about before it goes on.

        Which these are, ledger and open questions tell: they are there when all checkpoints are
        lost. Pairs are taken back where the state has none.

        Raises:
            DamagedError: A file is damaged or gone.
        """
        if not job.standing.begun:
            self._remove()
            return
        train, last = job.source.train, _last_index(job)
        assert isinstance(train, MadeSplit)
        found = current().broadcast(lambda: self.up_to(train, last))
        for made in found:
            train.add(made.inputs)
        if found and not job.state.setting and found[-1].chains is not None:
            job.state.setting = {"chains": [list(chain) for chain in found[-1].chains]}

    def up_to(self, train: MadeSplit, last: int) -> list[Made]:
        """Files in their order, until the last sample is there.

        Args:
            train: The training part, without made samples.
            last: Index of the last sample that is wanted.

        Raises:
            DamagedError: A file is damaged or gone.
        """
        found: list[Made] = []
        number = len(train)
        for path in sorted(self._folder.glob("round_*.pt")) if self._folder is not None else []:
            if number > last:
                break
            made = self._read(path, number)
            if made is not None and in_words(made.inputs) == in_words(train.store.first):
                found.append(made)
                number += made.count
        if number <= last:
            raise DamagedError(
                f"{self._folder} lacks made samples that were asked about, number {number} first; "
                "restore it, or move the run directory away to begin anew"
            )
        return found

    def _read(self, path: Path, first: int) -> Made | None:
        content = load(path)
        if content.pop("first") != first:
            return None
        return Made(**content)

    def _remove(self) -> None:
        """Take away what is left of a run that was begun here before, and has lost everything."""
        if self._folder is not None and current().is_main:
            for path in self._folder.glob("round_*.pt"):
                path.unlink()

    def _path(self, round_number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"round_{round_number:04d}.pt"


def _last_index(job: Job) -> int:
    """The highest index that the ledger or an open question names."""
    pending = [] if job.state.pending is None else [job.state.pending]
    asked = [index for entry in (*job.state.tickets, *pending) for index in entry["indices"]]
    known = [int(event["index"]) for event in job.pool.events()]
    return int(max([-1, *asked, *known]))


def with_made(source: Source, run_dir: Path) -> Source:
    """The data of a run with the samples that it made; as they are where it made none.

    Raises:
        DamagedError: A file of these is damaged.
    """
    paths = sorted((run_dir / MADE).glob("round_*.pt"))
    if not paths:
        return source
    source = with_room(source)
    train = source.train
    assert isinstance(train, MadeSplit)
    for path in paths:
        content = load(path)
        if content["first"] == len(train) + train.num_made:
            train.add(content["inputs"])
    return source
