"""Where samples come from that no data set holds: lines of a pipe or a file, or Python objects."""

from __future__ import annotations

import logging
import os
import select
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dal.utils.signals import PreemptedError

log = logging.getLogger(__name__)

STDIN = "-"
"""The name of the standard input, which is no file."""
PIECE = 2**16
"""Bytes that are read at a time: what a pipe holds."""
LONGEST = 2**26
"""Bytes of a line at most: of what has no line breaks, all memory would be one line."""
TURN = 1.0
"""Seconds that are waited at a time: signals wait no longer."""
BOM = b"\xef\xbb\xbf"


class Incoming(ABC):
    """Gives what comes, in pieces.

    Attributes:
        title: What it is, for people.
        again: Whether it begins anew whenever it is opened; what came before is left out then.
    """

    title: str
    again: bool

    @abstractmethod
    def take(self, most: int, check: Callable[[], None]) -> list[Any]:
        """What has come, waited for where there is nothing; nothing at the end.

        Args:
            most: How many are wanted at once; lines give all that were read, so that none is lost.
            check: Called at least once a second while nothing comes; may raise.
        """

    @abstractmethod
    def skip(self, count: int) -> None:
        """Leave out so many that come first."""

    def close(self) -> None:  # noqa: B027 - objects have nothing open
        """Let go of what it reads from."""


class Lines(Incoming):
    """The lines of a pipe or a file, as bytes without their ends.

    A pipe ends when its last writer is gone. What it had not ended by a line break then is left
    out, since half of a line may look like a whole one. A pipe that breaks ends as well.

    Args:
        path: A pipe, such as ``mkfifo`` makes it, or a file; ``-`` for the standard input.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is a folder, or no name at all.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise ValueError("setting.arrivals is empty; give a pipe or a file of lines, or null")
        self.title = "the standard input" if path == STDIN else str(path)
        self._own = path != STDIN
        where = Path(path).expanduser()
        if self._own and not where.exists():
            raise FileNotFoundError(
                f"{path} does not exist; make a pipe there (mkfifo {path}), or give a file, or - "
                "for the standard input"
            )
        if self._own and where.is_dir():
            raise ValueError(f"{path} is a folder; give a pipe or a file of lines")
        # A pipe without a writer would keep whoever opens it, and signals, waiting.
        self._file = os.open(where, os.O_RDONLY | os.O_NONBLOCK) if self._own else 0
        self.again = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._begun, self._waits, self._ended, self._skipped = False, False, False, 0
        self._rest = bytearray()

    def take(self, most: int, check: Callable[[], None]) -> list[bytes]:
        """See `Incoming.take`."""
        while not self._ended:
            check()
            if not select.select([self._file], [], [], TURN)[0]:
                if not self._begun and not self._waits:
                    self._waits = True
                    log.info("waiting for %s", self.title)
            else:
                lines = self._read()
                left_out = min(self._skipped, len(lines))
                self._skipped -= left_out
                if lines[left_out:]:
                    return lines[left_out:]
        return []

    def skip(self, count: int) -> None:
        """See `Incoming.skip`."""
        self._skipped += count

    def close(self) -> None:
        """See `Incoming.close`."""
        if self._own and not self._ended:
            os.close(self._file)
        self._ended = True

    def _read(self) -> list[bytes]:
        try:
            piece = os.read(self._file, PIECE)
        except BlockingIOError:
            return []
        except OSError as error:
            log.warning("%s broke (%s): the stream ends here", self.title, error.strerror or error)
            piece = b""
        if not piece:
            self.close()
            return self._last()
        if not self._begun:
            piece, self._begun = piece.removeprefix(BOM), True
        first, *others = piece.split(b"\n")
        self._rest += first
        if len(self._rest) > LONGEST:
            raise ValueError(
                f"{self.title} gives a line of more than {LONGEST / 2**20:.0f} MiB, or has no "
                "line breaks; give a sample a line"
            )
        if not others:
            return []
        lines, self._rest = [bytes(self._rest), *others[:-1]], bytearray(others[-1])
        return [line.removesuffix(b"\r") for line in lines]

    def _last(self) -> list[bytes]:
        """A last line without an end."""
        rest, self._rest = bytes(self._rest), bytearray()
        if rest and not self.again:
            log.warning("%s ended within a line, which is left out: %.40r", self.title, rest)
            return []
        return [rest] if rest else []


class Objects(Incoming):
    """What a Python iterable gives.

    An iterator, such as a generator, goes on where it stands; what can be iterated over again, such
    as a list, begins anew. Where it raises an `OSError`, as a connection that breaks, it ends.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self.title = f"a {type(objects).__name__}"
        self._objects: Iterator[Any] = iter(objects)
        self.again = self._objects is not objects
        self._error: Exception | None = None

    def take(self, most: int, check: Callable[[], None]) -> list[Any]:
        """See `Incoming.take`; what came before an error, or a signal, is given before that."""
        check()
        found: list[Any] = []
        try:
            for one in islice(self._objects if self._error is None else (), most):
                found.append(one)
                check()
        except PreemptedError:
            return found  # the next call raises it
        except Exception as error:
            self._error = error
        if self._error is not None and not found:
            if not isinstance(self._error, OSError):
                raise self._error
            log.warning("%s broke (%s): the stream ends here", self.title, self._error)
        return found

    def skip(self, count: int) -> None:
        """See `Incoming.skip`."""
        for _ in islice(self._objects, count):
            pass


def incoming(given: str | Path | Iterable[Any]) -> Incoming:
    """What gives the samples of ``setting.arrivals``.

    Raises:
        OSError, ValueError: See `Lines`.
        TypeError: It is nothing of these.
    """
    if not isinstance(given, str | Path | Iterable):
        raise TypeError(f"setting.arrivals={given!r}; give a pipe, a file, - or an iterable")
    return Lines(given) if isinstance(given, str | Path) else Objects(given)
