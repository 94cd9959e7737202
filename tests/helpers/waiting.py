"""Waiting that ends: a test that waits in vain says for what it waited, and what it saw."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest


class Limit:
    """The time that something may take.

    Args:
        seconds: From now on.
        seen: What the test says where they do not suffice.
    """

    def __init__(self, seconds: float, seen: Callable[[], object]) -> None:
        self._seconds, self._seen = seconds, seen
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Fail where the time is over."""
        if time.monotonic() > self._end:
            pytest.fail(f"nothing came in {self._seconds:.0f} s; seen: {self._seen()}")


def join(thread: threading.Thread, seconds: float = 120) -> None:
    """Wait for a thread."""
    thread.join(seconds)
    assert not thread.is_alive(), f"{thread} did not end in {seconds:.0f} s"


def needed(work: Callable[..., None]) -> Callable[..., None]:
    """What a thread does for a run of this process: where it fails, the run ends as by SIGTERM.

    Otherwise the run would wait forever for what the thread was to do.
    """

    @wraps(work)
    def done(*arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException:
            if callable(signal.getsignal(signal.SIGTERM)):  # the run is there to hear of it
                os.kill(os.getpid(), signal.SIGTERM)
            raise

    return done


def code_of(process: subprocess.Popen[Any], out: Path, seconds: float = 120) -> int:
    """The exit code of a process that writes to a file; it is killed where it takes too long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired as late:
        process.kill()
        pytest.fail(f"{late}; it wrote: {out.read_text()[-4000:]}")


def completed(command: Sequence[str], seconds: float = 240, **options: Any) -> Any:
    """`subprocess.run` that ends the process, and says what it wrote, where it takes too long."""
    try:
        return subprocess.run(command, timeout=seconds, **options)
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"{late}; it wrote: {late.output!r} {late.stderr!r}")
