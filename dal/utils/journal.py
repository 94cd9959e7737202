"""Text files that are appended to: a round costs what it adds, however many rounds were before.

A checkpoint holds the `mark` of each journal. So the checkpoint is the commit: when a killed run
goes on, what was appended after the mark is cut off.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dal.utils.safe_files import DamagedError, saving, write_atomically


class Journal:
    """A text file to which entries are appended, each a line or a few.

    Args:
        path: The file; its folder is created with it.
        header: What stands before the first entry.
        sync: Wait for the disk whenever something is appended.
    """

    def __init__(self, path: Path, header: str = "", sync: bool = False) -> None:
        self.path, self.header, self.sync = path, header.encode(), sync
        self._begin()

    def _begin(self) -> None:
        self.count, self._size = 0, len(self.header)
        self._hash = hashlib.sha256(self.header)
        self._provisional = 0

    @property
    def mark(self) -> dict[str, Any]:
        """Number and digest of the bytes so far; given these, `read` gives the same text again."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    def extend(self, entries_from: Callable[[int], Sequence[str]], last: str = "") -> None:
        """Append the entries that are new.

        Args:
            entries_from: Gives the entries from a number on, each ending with a newline. Where
                somebody has removed or shortened the file, it is asked for all entries.
            last: Text behind the entries until the next call; it is no part of the `mark`.

        Raises:
            OSError: The disk is full or not writable.
        """
        new, tail = "".join(added := entries_from(self.count)).encode(), last.encode()
        if not (new or tail or self._provisional) and self._is_there():
            return
        with saving(self.path):
            if not self._is_there():
                content = self.header + "".join(entries_from(0)).encode() + tail
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.path, lambda file: file.write(content), self.sync)
            else:
                self._append(new + tail)
        self.count += len(added)
        self._size += len(new)
        self._hash.update(new)
        self._provisional = len(tail)

    def _append(self, data: bytes) -> None:
        with self.path.open("r+b", buffering=0) as file:
            file.truncate(self._size)
            file.seek(self._size)
            try:
                while data:  # a disk that is nearly full takes a part first
                    data = data[file.write(data) :]
                if self.sync:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(self._size)
                raise

    def read(self, mark: dict[str, Any]) -> str:
        """The text behind the header as it was when a mark was made; the file is not changed.

        Raises:
            DamagedError: The file no longer holds that text.
        """
        try:
            content = self.path.read_bytes()[: mark["bytes"]]
        except OSError as error:
            raise DamagedError(f"{self.path} cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != mark["sha256"]:
            raise DamagedError(f"{self.path} is damaged: its content does not match its digest")
        return content[len(self.header) :].decode()

    def take(self, entries: Sequence[str]) -> None:
        """Go on after these entries: what the file holds beyond them is cut off."""
        self._begin()
        content = self.header + "".join(entries).encode()
        with saving(self.path):
            found = self.path.read_bytes() if self.path.exists() else None
            if found is None or not found.startswith(content):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.path, lambda file: file.write(content), self.sync)
            elif len(found) > len(content):
                os.truncate(self.path, len(content))
        self.count, self._size = len(entries), len(content)
        self._hash = hashlib.sha256(content)

    def _is_there(self) -> bool:
        try:
            return self.path.stat().st_size >= self._size + self._provisional
        except FileNotFoundError:
            return False
