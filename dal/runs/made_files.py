"""Made samples on the disk: written before anybody is asked about them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from dal.checkpoint import load, save
from dal.data.made import MadeSplit
from dal.runs.job import Job
from dal.synthesis.bisection import Chain
from dal.utils.inputs import Inputs, in_words, num_samples
from dal.utils.ranks import current
from dal.utils.safe_files import DamagedError

log = logging.getLogger(__name__)

MADE = "made"
"""The folder of a run that holds what it made."""
RESTORE = "restore it, or move the run directory away to begin anew"

T = TypeVar("T")


def read_kept(path: Path, make: Callable[..., T]) -> T:
    """What is made of a file that holds samples which a run made or received.

    Raises:
        DamagedError: It is damaged, or something else, with the remedy.
        ValueError: It could run code.
    """
    try:
        return make(**load(path))
    except DamagedError as error:
        raise DamagedError(f"{error}; {RESTORE}") from error
    except (TypeError, IsADirectoryError) as error:
        raise DamagedError(f"{path} is no file of samples; {RESTORE}") from error


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

        None where there is nothing, or it was another question: of other indices, or not so many;
        and where it is damaged, since the same can be made again.
        """
        if self._folder is None or not (path := self._path(round_number)).exists():
            return None
        try:
            made = self._read(path, first)
        except DamagedError:
            log.warning("%s is damaged; its samples, whose answers are not in, are made anew", path)
            return None
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
        train, last = job.source.train, last_index(job)
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
                f"{RESTORE}"
            )
        return found

    def _read(self, path: Path, expected: int) -> Made | None:
        def made(first: int, **content: Any) -> Made | None:
            return Made(**content) if first == expected else None

        return read_kept(path, made)

    def _remove(self) -> None:
        """Take away what is left of a run that was begun here before, and has lost everything."""
        if self._folder is not None and current().is_main:
            for path in self._folder.glob("round_*.pt"):
                path.unlink()

    def _path(self, round_number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"round_{round_number:04d}.pt"


def last_index(job: Job) -> int:
    """The highest index that the ledger or an open question names."""
    pending = [] if job.state.pending is None else [job.state.pending]
    asked = [index for entry in (*job.state.tickets, *pending) for index in entry["indices"]]
    known = [int(event["index"]) for event in job.pool.events()]
    return int(max([-1, *asked, *known]))
