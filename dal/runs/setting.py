"""Where the questions of a run come from: its setting of active learning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from dal.data.source import Source
from dal.events import Origin

if TYPE_CHECKING:
    from dal.runs.job import Job


class Setting(ABC):
    """Asks the questions of a round: about samples of a pool, of a stream, or made ones.

    It may keep plain values and tensors in ``job.state.setting``: they are part of what is saved,
    and all that it may remember from round to round.

    Attributes:
        cooperates: Whether it has the candidates predicted in every round, and calls
            `dal.runs.cooperating.cooperate`.
        ended: Why a run ends that has no candidates left.
        origin: What answers are entered as that are about samples which the data did not come with.
    """

    cooperates: bool = False
    ended: str = "pool_exhausted"
    origin: Origin = "oracle"

    def prepared(self, source: Source) -> Source:
        """The data as this setting needs them; called once, before the learner is made.

        Raises:
            ValueError: They are none that it can work on.
        """
        return source

    def begin(self, job: Job) -> None:  # noqa: B027 - most have nothing to do
        """Called when a run begins or goes on, after ``job.state`` is where it was left.

        Raises:
            TypeError: Strategy, learner or oracle do not go with it.
        """

    @abstractmethod
    def ask(self, job: Job) -> None:
        """Ask the question of a round: the entry becomes ``job.state.pending``.

        None is left there where nothing is to be asked any more: there are no candidates then.
        """

    def exhausted(self, job: Job) -> bool:
        """Whether nothing is left that could be asked about."""
        return len(job.candidates) == 0

    def columns(self, job: Job) -> dict[str, Any]:
        """What the row of a round says of it, when its model has been fitted."""
        return {}

    def __enter__(self) -> Self:
        """Begin a block, after which a run has ended in whatever way."""
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027 - most have nothing open
        """Let go of what is read from."""
