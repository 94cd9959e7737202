"""How the cache of pictures grows: new parts, and small ones joined."""

from __future__ import annotations

import io
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dal.data.images.parts import (
    FORMAT,
    PART_BYTES,
    PATTERN,
    Digests,
    Facts,
    Index,
    as_bytes,
    chunk_rows,
    no_digests,
    packed,
    seal,
    sum_of,
)
from dal.utils.safe_files import remove_temporary, write_atomically


def write_at(path: Path, offset: int, pixels: NDArray[np.uint8]) -> None:
    """Write pixels into a file from an offset on; it is created where it is missing.

    Raises:
        OSError: The disk is full or not writable.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        left = np.ascontiguousarray(pixels).data.cast("B")
        while left:
            done = os.pwrite(handle, left, offset)
            left, offset = left[done:], offset + done
    finally:
        os.close(handle)


def next_number(folder: Path) -> int:
    """The place behind all parts."""
    return 1 + max((int(path.name[:6]) for path in folder.glob(PATTERN)), default=-1)


class NewPart:
    """A part that is being written: chunks of rows in order, whose last rows may stay empty.

    Until it is finished its pixels have a temporary name, under which any process may write them.

    Args:
        folder: Where it shall stand.
        number: Its place among the parts.
        length: Its rows.
        shape: Of a row.
    """

    def __init__(self, folder: Path, number: int, length: int, shape: tuple[int, ...]) -> None:
        # Processes that write at once, where there are no locks, choose other names.
        self.path = folder / f"{number:06d}-{secrets.token_hex(4)}.npz"
        self.temporary = folder / f".{self.path.name}.{os.getpid()}.tmp"
        header = io.BytesIO()
        layout = {"descr": "|u1", "fortran_order": False, "shape": (length, *shape)}
        np.lib.format.write_array_header_1_0(header, layout)
        self._header, self._length, self._row_bytes = header.getvalue(), length, math.prod(shape)
        self._facts: list[Facts] = []
        self._contents: list[Digests] = [no_digests()]
        self._rows: list[int] = []
        self._sums: list[int] = []

    def offset(self, row: int) -> int:
        """Where a row begins in the temporary file."""
        return len(self._header) + row * self._row_bytes

    def write(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Write some rows from that one on."""
        write_at(self.temporary, self.offset(row), pixels)

    def add_facts(self, facts: Facts) -> None:
        """Note what is known of some files."""
        self._facts.append(facts)

    def add_chunk(self, contents: Digests, checksum: int) -> None:
        """Note the next chunk.

        Args:
            contents: Whose pixels its first rows hold, (r, 32).
            checksum: Of these rows.
        """
        start = len(self._sums) * chunk_rows(self._row_bytes)
        self._sums.append(checksum)
        self._contents.append(contents)
        self._rows += range(start, start + len(contents))

    def finish(self) -> None:
        """Give it its name, once all is on the disk; nothing is written where nothing was noted.

        Raises:
            OSError: The disk is full or not writable.
        """
        facts = Facts.joined(self._facts)
        if not len(facts) and not self._rows:
            return
        columns: dict[str, Any] = {
            "format": np.array(FORMAT),
            "names": packed(facts.names),
            "sizes": facts.sizes,
            "times": facts.times,
            "digests": facts.digests,
            "gray": facts.gray,
            "faults": packed(facts.faults),
            "contents": np.concatenate(self._contents),
            "rows": np.array(self._rows, np.int64),
            "written": np.array(self._finish_pixels() if self._rows else (0, 0), np.int64),
            "sums": np.array(self._sums, np.uint32),
        }
        buffer = io.BytesIO()
        np.savez(buffer, **columns, seal=seal(columns))
        write_atomically(self.path, lambda file: file.write(buffer.getbuffer()))

    def _finish_pixels(self) -> tuple[int, int]:
        """Size and time of the array's file."""
        with self.temporary.open("r+b") as file:
            file.truncate(self.offset(self._length))
            file.write(self._header)
            file.flush()
            os.fsync(file.fileno())
        array = self.path.with_suffix(".npy")
        self.temporary.replace(array)
        facts = array.stat()
        return facts.st_size, facts.st_mtime_ns

    def abandon(self) -> None:
        """Remove what is not finished."""
        self.temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left, while no other one writes."""
    remove_temporary(folder)
    for path in folder.glob("*.npy"):
        if not path.with_suffix(".npz").exists():
            path.unlink(missing_ok=True)


def remove_damaged(index: Index) -> None:
    """Remove parts that say nothing any more, while no other process writes."""
    for part in index.parts:
        if part.damage and not len(part.facts):
            part.remove()


def tidy(folder: Path, index: Index, shape: tuple[int, ...]) -> bool:
    """Join the last parts where they are small, so that there are few however often files come.

    Each byte is written again about as often as all can be halved.

    Args:
        folder: Where they are.
        index: All of them.
        shape: Of a picture.

    Returns:
        Whether there was something to do.

    Raises:
        OSError: The disk is full or not writable; all parts are there still.
    """
    count, total = 0, 0
    for part in reversed(index.parts):
        if count and (part.weight > 2 * total or part.weight + total > PART_BYTES):
            break
        count, total = count + 1, total + part.weight
    if count < 2 and not any(part.is_sparse for part in index.parts[-1:]):
        return False
    first = len(index.parts) - count
    _join(folder, index, first, shape)
    for part in index.parts[first:]:
        part.remove()
    return True


def _join(folder: Path, index: Index, first: int, shape: tuple[int, ...]) -> None:
    """Write all parts from that one on as one, without what later ones know better."""
    parts = index.parts[first:]
    skipped = sum(len(part.facts) for part in index.parts[:first])
    latest = np.zeros(len(index.facts), bool)
    latest[list(index.place.values())] = True
    wanted = [
        (part.pixels, content, row)
        for number, part in enumerate(parts, first)
        for content, row in zip(as_bytes(part.contents), part.rows.tolist(), strict=True)
        if part.pixels is not None and index.pixels[content] == (number, row)
    ]
    new = NewPart(folder, next_number(folder), len(wanted), shape)
    new.add_facts(Facts.joined([part.facts for part in parts]).where(latest[skipped:]))
    step = chunk_rows(math.prod(shape))
    try:
        for start in range(0, len(wanted), step):
            chunk = wanted[start : start + step]
            block = np.empty((len(chunk), *shape), np.uint8)
            for place, (pixels, _, row) in enumerate(chunk):
                pixels.copy(np.array([row]), block[place : place + 1])
            new.write(start, block)
            contents = np.frombuffer(b"".join(one for _, one, _ in chunk), np.uint8)
            new.add_chunk(contents.reshape(-1, 32), sum_of(block))
        new.finish()
    finally:
        new.abandon()
