"""The file of answers: each stands on the disk before anybody is told that it was taken."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.utils.safe_files import make_folder, write_atomically

log = logging.getLogger(__name__)


class AnswerLog:
    """Lines of JSON that are only appended to; one that was cut short counts as never written.

    Args:
        path: The file; created, with its folder, at the first line.

    Attributes:
        entries: What stands in it, in its order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._handle: int | None = None
        self._size, self._break = 0, b""
        if path.exists():
            self._read(path.read_bytes())

    def _read(self, content: bytes) -> None:
        """Take what is whole; a last line without its end was cut short by a kill."""
        whole, _, last = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            if not self._take(line):
                log.warning("%s, line %d is damaged and left out", self.path, number)
        self._size = len(content) - len(last)
        if last and self._take(last):
            self._size, self._break = len(content), b"\n"

    def _take(self, line: bytes) -> bool:
        try:
            self.entries.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            return False
        return True

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write a line and wait until it is on the disk.

        Raises:
            OSError: The disk is full, or the folder is gone; the file holds what it held before.
        """
        handle = self._opened()
        data = self._break + _line(entry)
        try:
            os.ftruncate(handle, self._size)  # what a failed line may have left
            os.lseek(handle, self._size, os.SEEK_SET)
            while data:  # a disk that is nearly full takes a part first
                written = os.write(handle, data)
                data = data[written:]
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, self._size)
            raise
        self._size, self._break = os.lseek(handle, 0, os.SEEK_CUR), b""
        self.entries.append(dict(entry))

    def _opened(self) -> int:
        """The file, which is still the one at the path: answers must not go where nobody looks."""
        if self._handle is not None:
            there, ours = self.path.stat(), os.fstat(self._handle)
            same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
            if same and ours.st_size >= self._size:
                return self._handle
            raise OSError(errno.ESTALE, "another file has taken its place", str(self.path))
        if not self.path.exists():
            content = b"".join(map(_line, self.entries))
            make_folder(self.path.parent)
            write_atomically(self.path, lambda file: file.write(content))
            self._size, self._break = len(content), b""
        self._handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self._handle

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
