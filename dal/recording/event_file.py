"""A TensorBoard event file that is written from the calling thread."""

from __future__ import annotations

import io
import os
import socket
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from dal.utils.safe_files import saving

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

FLUSH_S = 1.0
"""Points wait at most so many seconds for the file, in a run that goes on adding some."""

_numbers = count()


class EventFile:
    """Appends summaries to an event file of its own, from the calling thread.

    torch's ``SummaryWriter`` hands every point to a thread. Where many runs share a process and an
    epoch takes less than a millisecond, the threads' struggle for the interpreter costs more than
    the epochs.

    Args:
        folder: Created if need be.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path = folder / f"events.out.tfevents.{name}"
        self._file = self._path.open("ab")
        self._waiting: list[Event] = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        self.flush()

    def add(self, summary: Summary, step: int) -> None:
        """Append a summary; it reaches the disk within a second, or with the next `flush`.

        Raises:
            OSError: This or an earlier point could not be written.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        now = time.time()
        self._waiting.append(Event(wall_time=now, step=step, summary=summary))
        if now - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: The disk is full or not writable.
        """
        with saving(self._path):
            self._write()

    def _write(self) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._flushed = time.time()
        if not self._waiting:
            return
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in self._waiting:
            writer.write(event.SerializeToString())
        self._file.write(records.getbuffer())
        self._file.flush()
        self._waiting = []

    def close(self) -> None:
        """Write what waits and close the file; the last call.

        Raises:
            OSError: The disk is full or not writable.
        """
        with saving(self._path), self._file:
            self._write()
