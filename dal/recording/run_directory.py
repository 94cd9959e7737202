"""The run directory while a process works in it: its lock, its log, its status."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from dal.utils.lock import RunLock
from dal.utils.logs import log_to_file
from dal.utils.safe_files import remove_temporary, saving, write_text_atomically
from dal.utils.signals import PreemptedError

log = logging.getLogger(__name__)

STATUS = "status.json"
START = "start.json"
MODEL = "model.pt"


class RunDirectory:
    """Locks a run directory for the time of a block; may be entered again inside the block.

    ``train.log`` gets every message of the block, and the traceback if it fails, which a note of
    the exception says. ``status.json`` says ``running``, then whatever `update` was told, or
    ``preempted`` after a signal, or ``failed`` with the reason.

    Args:
        path: The directory; created if it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._depth = 0
        self._stack = ExitStack()
        self._status: dict[str, Any] = {}

    def __enter__(self) -> RunDirectory:
        if self._depth == 0:
            with ExitStack() as stack:
                stack.enter_context(RunLock(self.path))
                remove_temporary(self.path)
                stack.enter_context(log_to_file(self.path / "train.log"))
                self._stack = stack.pop_all()
            self._status = read_status(self.path)
            self.update(status="running", reason="")
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        with self._stack:
            if error is None or self._status["status"] != "running":
                return
            if isinstance(error, PreemptedError):
                self.update(status="preempted", reason=str(error))
                return
            log.debug("the run failed", exc_info=error)
            error.add_note(f"traceback: {self.path / 'train.log'}")
            self.update(status="failed", reason=f"{type(error).__name__}: {error}")

    def update(self, **fields: Any) -> None:
        """Change fields of ``status.json``; a full disk is only logged, not to hide an error."""
        self._status |= fields
        now = {"updated": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        try:
            self.write(STATUS, json.dumps(self._status | now, indent=2) + "\n")
        except OSError as error:
            log.warning("%s", error)

    def write(self, name: str, text: str) -> None:
        """Write a text file of the directory in one step.

        Raises:
            OSError: The disk is full or not writable.
        """
        with saving(self.path / name):
            write_text_atomically(self.path / name, text)


def read_status(path: Path) -> dict[str, Any]:
    """What ``status.json`` says; empty where there is none that can be read."""
    try:
        return dict(json.loads((path / STATUS).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
