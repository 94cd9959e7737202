"""Text files that only grow: a run of many rounds pays for what a round adds, not for all before.

A checkpoint holds the `mark` of a journal, so it stays the commit: what was appended after it is
cut off again when a killed run goes on.
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
        """How many bytes there are, and their digest: what `read` needs to give the same again."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    def extend(self, entries_from: Callable[[int], Sequence[str]], last: str = "") -> None:
        """Append the entries that are new.

        Args:
            entries_from: Gives the entries from a number on, each ending with a newline. It is
                asked for all of them where somebody has removed or shortened the file.
            last: Stands behind them until the next call, and is no part of the `mark`.

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
        """What stood behind the header when a mark was made; nothing is changed.

        Raises:
            DamagedError: It stands there no more.
        """
        try:
            content = self.path.read_bytes()[: mark["bytes"]]
        except OSError as error:
            raise DamagedError(f"{self.path} cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != mark["sha256"]:
            raise DamagedError(f"{self.path} is damaged: its content does not match its digest")
        return content[len(self.header) :].decode()

    def take(self, entries: Sequence[str]) -> None:
        """Go on behind these entries: whatever else the file holds is cut off."""
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
