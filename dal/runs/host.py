"""The process that a run works in: its own, or one that it shares with other runs.

`dal.utils.ranks` is about the opposite, one run in several processes. Both are found in the same
way: by a context variable whose default is an object for a run that is alone.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from dal.learners import Learner
from dal.utils.ranks import current
from dal.utils.signals import Interrupts

T = TypeVar("T")


class Host:
    """A process that does one run; `dal.lockstep.replicas.Place` is one that does several.

    Attributes:
        count: How many runs the process does at a time.
    """

    count = 1

    def interrupts(self) -> AbstractContextManager[Interrupts]:
        """A block in which signals to the process are noted."""
        return current().interrupts()

    def wrap(self, learner: Learner) -> Learner:
        """The learner that a run works with, given one that knows of no other run."""
        return learner

    def shared(self, settings: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for all runs of the process that have these settings.

        Args:
            settings: All that decides what is made, in plain containers.
            make: Makes it.
        """
        return make()


ALONE = Host()
_CURRENT: contextvars.ContextVar[Host] = contextvars.ContextVar("host", default=ALONE)


def current_host() -> Host:
    """The process that the code's run works in; one for a run alone, outside of `hosted_by`."""
    return _CURRENT.get()


@contextmanager
def hosted_by(host: Host) -> Iterator[None]:
    """Let `current_host` give a host for the time of a block, in this thread alone."""
    token = _CURRENT.set(host)
    try:
        yield
    finally:
        _CURRENT.reset(token)
