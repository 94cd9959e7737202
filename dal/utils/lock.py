"""One process to a run directory."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO

STALE_AFTER = 300.0
BEAT_EVERY = 60.0


class LockedError(RuntimeError):
    """Another process works in the run directory."""


class RunLock:
    """Holds ``run.lock`` for the time of a block: ``flock``, or heartbeats where it is missing.

    The lock file tells host, process and job of its holder. A refused process leaves the
    directory as it was. On file systems without ``flock`` the holder touches ``run.heartbeat``
    every minute, and a heartbeat older than five minutes counts as dead.

    Args:
        run_dir: The run directory; created if it is missing.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "run.lock"
        self.heartbeat = run_dir / "run.heartbeat"
        self._file: IO[str] | None = None
        self._stop = threading.Event()

    def __enter__(self) -> RunLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+")
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot write in the run directory {self.path.parent} ({error.strerror}); "
                "set saved_dir to a folder you may write to",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                self._refuse()
            self._beat()
        self._file.truncate(0)
        self._file.write(json.dumps(_holder()) + "\n")
        self._file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if not self._stop.is_set() and self.heartbeat.exists():
            self._stop.set()
            self.heartbeat.unlink(missing_ok=True)

    def _refuse(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        holder = self._file.read().strip() or "an unknown process"
        self._file.close()
        raise LockedError(
            f"another process works in {self.path.parent}: {holder}; wait for it, or stop it"
        )

    def _beat(self) -> None:
        """Take the lock by heartbeat and keep it alive from a thread."""
        if self.heartbeat.exists():
            age = time.time() - self.heartbeat.stat().st_mtime
            if age < STALE_AFTER:
                self._refuse()
        self.heartbeat.touch()

        def beat() -> None:
            while not self._stop.wait(BEAT_EVERY):
                self.heartbeat.touch()

        threading.Thread(target=beat, daemon=True).start()


def _holder() -> dict[str, object]:
    job = os.environ.get("SLURM_JOB_ID", "")
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": job}
