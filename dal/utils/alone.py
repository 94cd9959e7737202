"""One process at a time makes what several need."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@contextmanager
def alone(path: Path, what: str, check: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold a file's lock for the time of a block; wait while another process holds it.

    Where the file system knows no locks, several may be in the block at once.

    Args:
        path: The file; its folder must exist.
        what: What the block makes, told to who waits.
        check: Called every second of waiting; may raise to end it.

    Yields:
        Whether this process is alone.

    Raises:
        OSError: The file cannot be written to.
    """
    with path.open("a") as file:
        yield _locked(file, path, what, check)


def _locked(file: IO[str], path: Path, what: str, check: Callable[[], None]) -> bool:
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                log.info("another process makes %s in %s; waiting for it", what, path.parent)
            told = True
            check()
            time.sleep(1)
        except OSError:
            log.debug("no locks in %s", path.parent)
            return False
        else:
            return True
