"""Files are read, told by their content, and decoded, by several processes."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import stat
import sys
import time
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dal.data.images.decode import Decoding, UnreadableError, decode_gray
from dal.data.images.new_part import NewPart, next_number, write_at
from dal.data.images.parts import AGAIN, PART_BYTES, Facts, Index, chunk_rows, sum_of
from dal.utils.digest import RECENT
from dal.utils.ranks import current

AHEAD = 32
"""Chunks that each process may be ahead, so that none waits while a part goes to the disk."""
FILES = 4096
"""Files of a part without pixels."""
LARGEST_FILE = 2**31
"""Bytes of a file that is read; so many pixels as Pillow decodes take less in any format."""
NO_MEMORY = "there is not enough memory to decode it"


@dataclass(frozen=True)
class Chunk:
    """Files that are looked at together.

    Attributes:
        names: Relative to the folder.
        path: Where their pixels go; None where those are not kept.
        offset: From where on in that file.
    """

    names: Sequence[str]
    path: Path | None
    offset: int


@dataclass(frozen=True)
class Found:
    """What came of a chunk.

    Attributes:
        facts: Of the files that could be opened.
        decoded: Which of these have their pixels written, one behind the other.
        checksum: Of these rows.
        gone: Why the others could not be opened, by name.
        failed: Number and text of the error where pixels could not be written.
    """

    facts: Facts
    decoded: NDArray[np.bool_]
    checksum: int
    gone: dict[str, str]
    failed: tuple[int, str] | None = None


class _Chunks(Dataset[Found]):
    """Chunks as items; asking for one does the work."""

    def __init__(self, root: str, how: Decoding, index: Index, chunks: Sequence[Chunk]) -> None:
        self.root, self.how, self.index, self.chunks = root, how, index, chunks
        longest = max(len(chunk.names) for chunk in chunks)
        self._room = np.empty((longest, *shape_of(how)), np.uint8)
        index.contents  # noqa: B018 - made here once, and not in every process

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> Found:
        chunk = self.chunks[number]
        rows = self._room[: len(chunk.names)]
        seen: list[tuple[str, int, int, bytes, bool, str, bool]] = []
        gone: dict[str, str] = {}
        count = 0
        for name in chunk.names:
            try:
                size, changed, content = read_file(f"{self.root}/{name}")
                digest = hashlib.sha256(content).digest()
                gray, fault, pixels = self._judge(content, digest, chunk.path is not None)
            except (OSError, UnreadableError, MemoryError) as error:
                gone[name] = reason(error)
                continue
            if pixels is not None:
                rows[count] = pixels
                count += 1
            seen.append((name, size, changed, digest, gray, fault, pixels is not None))
        return _found(seen, gone, rows, count, chunk)

    def _judge(
        self, content: bytes, digest: bytes, keep: bool
    ) -> tuple[bool, str, NDArray[np.uint8] | None]:
        """Whether a picture is gray, what is wrong with it, and its pixels if they are to be kept.

        A content that was seen before is not decoded again.
        """
        facts, place = self.index.facts, self.index.contents.get(digest)
        if place is not None and (facts.faults[place] or not keep or digest in self.index.pixels):
            return bool(facts.gray[place]), facts.faults[place], None
        try:
            pixels, gray = decode_gray(content, self.how)
        except UnreadableError as error:
            return False, str(error), None
        return gray, "", pixels if keep else None


def _found(
    seen: Sequence[tuple[str, int, int, bytes, bool, str, bool]],
    gone: dict[str, str],
    rows: NDArray[np.uint8],
    count: int,
    chunk: Chunk,
) -> Found:
    names, sizes, times, digests, gray, faults, decoded = (
        zip(*seen, strict=True) if seen else [()] * 7
    )
    facts = Facts(
        names,
        np.array(sizes, np.int64),
        np.array(times, np.int64),
        np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        np.array(gray, bool),
        faults,
    )
    failed = None
    if count and chunk.path is not None:
        try:
            write_at(chunk.path, chunk.offset, rows[:count])
        except OSError as error:
            failed = error.errno or 0, error.strerror or ""
    return Found(facts, np.array(decoded, bool), sum_of(rows[:count]), gone, failed)


def read_file(path: str) -> tuple[int, int, bytes]:
    """Size, time of modification (see `Facts.times`) and content of a file.

    Raises:
        OSError: It cannot be read.
        UnreadableError: See `check_file`.
        MemoryError: There is too little for it.
    """
    with open_file(path) as file:
        facts = os.fstat(file.fileno())
        content = file.read()
    recent = abs(time.time() - facts.st_mtime) < RECENT or len(content) != facts.st_size
    return facts.st_size, AGAIN if recent else facts.st_mtime_ns, content


def open_file(path: str) -> FileIO:
    """Open a file to read it, and wait for nothing: of a pipe there may be no other end.

    Raises:
        OSError: It cannot be opened.
        UnreadableError: See `check_file`.
    """
    file = FileIO(path, opener=_open_at_once)
    try:
        check_file(os.fstat(file.fileno()))
    except UnreadableError:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def check_file(facts: os.stat_result) -> None:
    """Refuse what is not to be read.

    Raises:
        UnreadableError: It is no regular file, or larger than any picture.
    """
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableError("it is no regular file")
    if facts.st_size > LARGEST_FILE:
        raise UnreadableError(f"it has more than {LARGEST_FILE / 1e9:.0f} GB")


def reason(error: OSError | UnreadableError | MemoryError) -> str:
    """Why a file cannot be read, as one says it of a file."""
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    return f"it cannot be opened: {(error.strerror or str(error)).lower()}"


def shape_of(how: Decoding) -> tuple[int, int, int]:
    """Of a decoded picture: (channels, size, size)."""
    return how.channels, how.size, how.size


def examine(
    folder: Path,
    root: str,
    names: Sequence[str],
    how: Decoding,
    index: Index,
    *,
    keep: bool,
    workers: int,
) -> dict[str, str]:
    """Look at files and write what was found into new parts of a cache.

    Args:
        folder: The cache.
        root: Where the files are.
        names: Which, relative to it.
        how: How they are decoded.
        index: What the cache has.
        keep: Whether their pixels are kept; all are decoded in any case.
        workers: Processes that do it at once, at most.

    Returns:
        Why some could not be opened, by name; of these the cache says nothing.

    Raises:
        OSError: The disk is full or not writable; whole parts that were written are kept.
        RuntimeError: One of the processes was killed; the same is kept.
    """
    shape = shape_of(how)
    step = chunk_rows(math.prod(shape))
    length = max(PART_BYTES // (step * math.prod(shape)), 1) * step if keep else FILES
    first = next_number(folder)
    parts = [
        NewPart(folder, first + number, len(names[start : start + length]), shape)
        for number, start in enumerate(range(0, len(names), length))
    ]
    starts = [range(n * length, min((n + 1) * length, len(names)), step) for n in range(len(parts))]
    chunks = [
        Chunk(
            names[start : min(start + step, own.stop)],
            part.temporary if keep else None,
            part.offset(start - own.start),
        )
        for part, own in zip(parts, starts, strict=True)
        for start in own
    ]
    results = _in_parallel(_Chunks(root, how, index, chunks), workers)
    gone: dict[str, str] = {}
    silent = None if current().is_main else True
    try:
        with tqdm(total=len(names), desc="pictures", leave=False, disable=silent) as bar:
            for part, own in zip(parts, starts, strict=True):
                for start in own:
                    found = next(results)
                    _take(part, found, keep)
                    gone |= found.gone
                    bar.update(min(step, own.stop - start))
                part.finish()
    finally:
        results.close()  # ends the processes, which may be writing
        for part in parts:
            part.abandon()
    return gone


def _take(part: NewPart, found: Found, keep: bool) -> None:
    if found.failed is not None:
        raise OSError(*found.failed)
    part.add_facts(found.facts)
    if keep:
        part.add_chunk(found.facts.digests[found.decoded], found.checksum)


def _in_parallel(chunks: _Chunks, workers: int) -> Generator[Found]:
    """What came of the chunks, in order."""
    if len(chunks) == 1 or workers == 1:
        yield from map(chunks.__getitem__, range(len(chunks)))
        return
    with warnings.catch_warnings():
        # From Python 3.12 on, of any fork beside threads; these processes use none of their locks.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        # More processes than cores are what somebody asked for whose disk is slow.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Found] = DataLoader(
            chunks,
            batch_size=None,
            num_workers=min(workers, len(chunks)),
            collate_fn=_as_it_is,
            prefetch_factor=AHEAD,
            generator=torch.Generator(),  # else a number would be drawn from torch's own
            worker_init_fn=_begin,
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        results = iter(loader)
    try:
        while True:
            yield next(results)
    except StopIteration:
        return
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise RuntimeError(
            f"a process that decodes pictures has ended ({said}); if memory ran out, set "
            "data.workers=1; run the same command again: what is decoded is kept"
        ) from error


def _begin(worker: int) -> None:
    """Let the garbage collector leave alone what came from the parent, and so is not copied."""
    gc.freeze()


def _as_it_is(found: Any) -> Any:
    return found


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
