"""One process to a run directory."""

from __future__ import annotations

import contextlib
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
PATIENCE = 0.2
"""Seconds that a starting process waits for the lock: `held` takes it for a moment to look."""

_HELD = (errno.EWOULDBLOCK, errno.EACCES)


class LockedError(RuntimeError):
    """Another process works in the run directory."""


class RunLock:
    """Holds ``run.lock`` for the time of a block: ``flock``, or heartbeats where it is missing.

    The lock file tells host, process and job of its holder. A refused process leaves the
    directory as it was. On file systems without ``flock`` the holder touches ``run.heartbeat``
    every minute. It counts as dead where its process ran on this machine and is gone, or else once
    the heartbeat is five minutes old. Its age is taken by the clock of the file system, since the
    clocks of machines may differ. Of several processes that start at once, the one that creates the
    heartbeat goes on.

    Args:
        run_dir: The run directory; created if it is missing.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "run.lock"
        self.heartbeat = run_dir / "run.heartbeat"
        self._file: IO[str] | None = None
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+")
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise
            raise OSError(
                error.errno,
                f"cannot write in the run directory {self.path.parent} ({error.strerror}); "
                "set saved_dir to a folder you may write to",
            ) from error
        try:
            self._flock(time.monotonic() + PATIENCE)
        except OSError as error:
            if error.errno in _HELD:
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
        if self._beating is not None:
            self._stop.set()
            self._beating.join()  # so that it cannot create the file again
            self._beating = None
            self.heartbeat.unlink(missing_ok=True)

    def _flock(self, until: float) -> None:
        """Take the lock; while another process holds it, try again until a time."""
        assert self._file is not None
        while True:
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _HELD or time.monotonic() > until:
                    raise
            time.sleep(PATIENCE / 10)

    def _refuse(self, until: str = "") -> None:
        assert self._file is not None
        self._file.seek(0)
        holder = self._file.read().strip() or "an unknown process"
        self._file.close()
        raise LockedError(
            f"another process works in {self.path.parent}: {holder}; wait for it, or stop it{until}"
        )

    def _beat(self) -> None:
        """Take the lock by heartbeat and keep it alive from a thread."""
        if _create(self.heartbeat):
            self._refresh()
        else:
            seen = _beat_time(self.heartbeat), _text(self.heartbeat)
            if not (_is_gone(seen[1]) or self._is_stale(seen[0])):
                self._refuse(f" (it counts as dead {STALE_AFTER:.0f} s after its last heartbeat)")
            self._take_over(*seen)
        self._stop.clear()
        self._beating = threading.Thread(target=self._keep_alive, daemon=True)
        self._beating.start()

    def _is_stale(self, beat: int) -> bool:
        """Whether a beat is too long ago, or dated ahead, by the clock of the file system."""
        if not beat:  # the holder removed the file just now
            return False
        probe = self.path.with_name(f".run.clock.{os.getpid()}.{threading.get_ident()}.tmp")
        probe.touch()
        now = _beat_time(probe)
        probe.unlink(missing_ok=True)
        return abs(now - beat) >= STALE_AFTER * 1e9

    def _take_over(self, beat: int, holder: str) -> None:
        """Refresh the heartbeat of a dead process, one at a time; it is never missing meanwhile.

        The claim to it carries the time of the beat that was found. Whoever takes over refreshes
        the heartbeat before the claim is removed, so a slower process either finds the claim or
        finds another beat, or another holder, than it had seen.
        """
        claims: list[Path] = []
        # A stale claim was left by a process that was killed in here.
        while not claims or self._is_stale(_beat_time(claims[-1])):
            claims.append(self.heartbeat.with_name(f"run.takeover-{beat}-{len(claims)}"))
        if not _create(claims[-1]):
            self._refuse()
        try:
            if (_beat_time(self.heartbeat), _text(self.heartbeat)) != (beat, holder):
                self._refuse()
            self._refresh()
        finally:
            for claim in claims:
                claim.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Say in the heartbeat whose it is now."""
        try:
            with self.heartbeat.open("r+") as file:
                file.truncate(0)
                file.write(json.dumps(_process()) + "\n")
            os.utime(self.heartbeat)
        except FileNotFoundError:  # its holder ended just now
            if not _create(self.heartbeat):
                self._refuse()
            self._refresh()

    def _keep_alive(self) -> None:
        while not self._stop.wait(BEAT_EVERY):
            with contextlib.suppress(OSError):  # the next beat may succeed
                self.heartbeat.touch()


def held(run_dir: Path, host: object) -> bool | None:
    """Whether a process holds the lock of a run directory; nothing is made or changed there.

    Args:
        run_dir: The run directory.
        host: Where the run says that it runs.

    Returns:
        None where this machine cannot tell: the lock file may not be read; or there is a fresh
        heartbeat, whose process may live; or the run is on another machine, whose locks not every
        file system shows.
    """
    try:
        file = (run_dir / "run.lock").open()
    except FileNotFoundError:
        return False if host == socket.gethostname() else None
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return True
    heartbeat = run_dir / "run.heartbeat"
    if beat := _beat_time(heartbeat):
        stale = time.time() - beat / 1e9 >= STALE_AFTER
        return False if stale or _is_gone(_text(heartbeat)) else None
    return False if host == socket.gethostname() else None


def _create(path: Path) -> bool:
    """Create a file; False if it is there. Of several processes only one gets True."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _beat_time(path: Path) -> int:
    """Time of the last beat, in nanoseconds; 0 for a file that is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _text(path: Path) -> str:
    """A file's text; empty for one that is not there or may not be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _holder() -> dict[str, object]:
    job = os.environ.get("SLURM_JOB_ID", "")
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": job}


def _process() -> dict[str, object]:
    """What names this process, and no other that has its number later or on another machine."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    boot = _text(Path("/proc/sys/kernel/random/boot_id")).strip()
    here = {"host": socket.gethostname(), "boot": boot, "namespace": namespace}
    return here | {"pid": os.getpid(), "started": _started(os.getpid())}


def _is_gone(holder: str) -> bool:
    """Whether the process that `_process` described ran on this machine and has ended."""
    try:
        told = dict(json.loads(holder))
        here = _process()
        if any(told[name] != here[name] for name in ("host", "boot", "namespace")):
            return False
        os.kill(int(told["pid"]), 0)
        started = _started(int(told["pid"]))
        return bool(started and told["started"] and started != told["started"])
    except ProcessLookupError:
        return True
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return False  # among these PermissionError: another user's process is there


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; its state if it has ended; or nothing."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if not fields:
        return ""
    return fields[0] if fields[0] in "ZX" else fields[19]
