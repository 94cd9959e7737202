"""Signals end a run at the next safe point, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

WATCHED = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP")
    if hasattr(signal, name)
)


class PreemptedError(Exception):
    """A signal asked the run to end; its state is saved.

    Attributes:
        signum: Number of the signal; the exit code is 128 + signum.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"ended by {signal.Signals(signum).name}; run the same command to go on")
        self.signum = signum


class Interrupts:
    """Notes signals for the time of a block; after it, the handlers set before get what came.

    A second SIGINT ends the process at once. Signals that were ignored stay ignored. Handlers can
    be set in the main thread only: in other threads no signal is noted.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._pending: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for signum in WATCHED:
                previous = signal.getsignal(signum)
                if previous not in (signal.SIG_IGN, None):
                    self._previous[signum] = previous
                    signal.signal(signum, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous)
        if self._pending is None or not (error is None or isinstance(error, PreemptedError)):
            return
        signum, frame = self._pending
        previous = self._previous[signum]
        # Python's own SIGINT handler would only raise; a launcher's handler must requeue.
        if callable(previous) and previous is not signal.default_int_handler:
            previous(signum, frame)
        if error is None:  # it came after the last check: all work is done, and the caller must end
            raise PreemptedError(signum)

    @property
    def pending(self) -> bool:
        """Whether a signal has come."""
        return self._pending is not None

    def check(self) -> None:
        """Raise if a signal has come.

        Raises:
            PreemptedError: Naming it.
        """
        if self._pending is not None:
            raise PreemptedError(self._pending[0])

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self._pending is not None:
            raise KeyboardInterrupt
        self._pending = (signum, frame)
