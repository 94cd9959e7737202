"""Keeps costly records (figures take about 0.1 s each) from slowing down short rounds."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throttle:
    """Says yes at most once per interval, the first time at once.

    Example:
        >>> throttle = Throttle(seconds=30)
        >>> throttle.ready(), throttle.ready(), throttle.ready(force=True)
        (True, False, True)
    """

    def __init__(
        self, seconds: float = 30.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start an interval that has already passed.

        Args:
            seconds: Least time between two yeses, in seconds; 0 for "always".
            clock: Gives the current time in seconds and never goes back.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds={seconds} is negative; use 0 for no limit")
        self._seconds = seconds
        self._clock = clock
        self._last: float | None = None

    def ready(self, *, force: bool = False) -> bool:
        """Whether to record now; a yes starts the next interval.

        Args:
            force: Say yes whatever the time, as for the last round of a run.
        """
        now = self._clock()
        if not force and self._last is not None and now - self._last < self._seconds:
            return False
        self._last = now
        return True
