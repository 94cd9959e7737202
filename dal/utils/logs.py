"""Where log lines go: the console for people, ``train.log`` for the record."""

from __future__ import annotations

import contextvars
import itertools
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

log = logging.getLogger(__name__)

ROOTS = ("dal", "py.warnings")
REPLICA: contextvars.ContextVar[str] = contextvars.ContextVar("replica", default="")
"""The run that code works for, where a command does several; empty where one is alone."""
OUTCOME = logging.getLogger("dal.outcome")
"""Logs how runs end. Where a command does several, its console shows only these messages."""

CONSOLE_ONLY = "console_only"
"""An extra of records that hold a secret, which no file of a run shall hold."""

FLUSH_S = 1.0
"""Seconds that a message below INFO may wait for the file, if another message follows."""


@contextmanager
def working_for(name: str) -> Iterator[None]:
    """Give `REPLICA` a value for the time of a block."""
    token = REPLICA.set(name)
    try:
        yield
    finally:
        REPLICA.reset(token)


class _Console(logging.Handler):
    """Writes to standard output without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        name = REPLICA.get()
        tqdm.write(f"[{name}] " * bool(name) + self.format(record), file=sys.stdout)
        sys.stdout.flush()


class _File(logging.FileHandler):
    """Appends to a file: messages of level INFO and above at once, those below once a second.

    Small networks do hundreds of epochs a second. To write out the line of an epoch takes longer
    than the epoch.
    """

    _flushed, _urgent, _failed = 0.0, True, False

    def emit(self, record: logging.LogRecord) -> None:
        late = time.monotonic() - self._flushed > FLUSH_S
        self._urgent = late or record.levelno >= logging.INFO
        super().emit(record)
        self._urgent = True

    def flush(self) -> None:
        if self._urgent:
            super().flush()
            self._flushed = time.monotonic()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say once that the file cannot be written; whatever else is wrong with a record, always.

        What could not be written is written with the next line that can be.
        """
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._say(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file; on a full disk it lacks the last lines."""
        try:
            super().close()
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True  # first of all: this very handler gets the message too
            reason = error.strerror or str(error)
            log.warning("%s lacks lines, it cannot be written (%s)", self.baseFilename, reason)


class _ByRun(logging.Handler):
    """Passes each record to the log file of its run; a record of no run goes to the files of all.

    Logging shows every record to every handler. If each of a thousand runs had a handler of its
    own, each record would be looked at a thousand times; so one handler serves all runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, list[logging.Handler]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, CONSOLE_ONLY, False):
            return
        name = REPLICA.get()
        groups = [self._files.get(name, [])] if name else self._files.values()
        for file in itertools.chain.from_iterable(groups):
            file.handle(record)

    @contextmanager
    def opened(self, file: logging.Handler) -> Iterator[None]:
        """For the time of a block, pass the records of the run in `REPLICA` to a file."""
        name = REPLICA.get()
        files = self._files.setdefault(name, [])
        files.append(file)
        try:
            yield
        finally:
            files.remove(file)
            if not files:
                del self._files[name]


_BY_RUN = _ByRun()


@contextmanager
def log_to_console(quiet: bool = False, ends_only: bool = False) -> Iterator[None]:
    """Show messages of level INFO and above on standard output for the time of a block.

    Args:
        quiet: Show errors only, for a process whose other messages another process shows.
        ends_only: Show errors and how runs ended only, for a command that does many runs.
    """
    handler = _Console(logging.ERROR if quiet else logging.INFO)
    if ends_only:
        handler.addFilter(lambda r: r.name == OUTCOME.name or r.levelno >= logging.ERROR)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.captureWarnings(True)
    try:
        with _attached(handler, propagate=False):
            yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append messages of every level to a file for the time of a block.

    Where several runs share the process, the file gets the messages of its own run only.
    """
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    try:
        with files_may_come_and_go(), _BY_RUN.opened(handler):
            yield
    finally:
        handler.close()


@contextmanager
def files_may_come_and_go() -> Iterator[None]:
    """Let several runs open and close their files in any order within a block."""
    if _BY_RUN in logging.getLogger(ROOTS[0]).handlers:
        yield
    else:
        with _attached(_BY_RUN):
            yield


@contextmanager
def _attached(handler: logging.Handler, propagate: bool = True) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ROOTS]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = logger.propagate and propagate
    try:
        yield
    finally:
        for logger, level, passed_on in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = passed_on
