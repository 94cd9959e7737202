"""Stores of pictures: pixels in the parts of a cache, or files that are decoded when read."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.images.decode import Decoding, UnreadableError, decode
from dal.data.images.examine import read_file, reason, shape_of
from dal.data.images.parts import Digests, Ints
from dal.data.mapped import FileRows
from dal.data.store import BLOCK, CPU, Store, fits

log = logging.getLogger(__name__)

RESIDENT_BYTES = 2**31
"""Pixels that move to a CUDA device as a whole, at most."""
AHEAD_BYTES = 2**28
"""Pixels that are decoded ahead, at most, besides those of one batch."""


class PictureStore(Store):
    """What stores of pictures have in common: they are told by contents, not by names.

    So a copy of a folder is the same data, whether its pixels are cached or not.

    Args:
        contents: Digest of each file's content, (N, 32).
        how: How they are decoded.
        paths: Of the N files; empty where they are not known.
    """

    def __init__(self, contents: Digests, how: Decoding, paths: Sequence[str] = ()) -> None:
        self.contents, self.how, self.paths = contents, how, paths

    def __len__(self) -> int:
        return len(self.contents)

    def original(self, row: int) -> bytes | None:
        """See `Store.original`."""
        try:
            content = read_file(self.paths[row])[2]
        except (OSError, UnreadableError, IndexError, MemoryError) as error:
            log.debug("the file of a picture cannot be shown: %s", error)
            return None
        same = hashlib.sha256(content).digest() == self.contents[row].tobytes()
        return content if same else None

    def digest(self) -> str:
        """By the files' contents in order, and by how they are decoded."""
        digest = hashlib.sha256(repr((self.how, len(self))).encode())
        digest.update(np.ascontiguousarray(self.contents).data)
        return digest.hexdigest()


class CachedPictures(PictureStore):
    """Pictures in several files of rows.

    Args:
        contents: See `PictureStore`.
        how: See `PictureStore`.
        parts: The files.
        numbers: In which of them each picture is, (N,).
        rows: In which of its rows, (N,).
        paths: See `PictureStore`.
    """

    def __init__(
        self,
        contents: Digests,
        how: Decoding,
        parts: Mapping[int, FileRows],
        numbers: Ints,
        rows: Ints,
        paths: Sequence[str] = (),
    ) -> None:
        super().__init__(contents, how, paths)
        self._parts, self._numbers, self._rows = parts, numbers, rows
        self._on: dict[torch.device, Tensor | None] = {}

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Tensor:
        """See `Store.read`: uint8, (B, channels, size, size).

        Raises:
            ValueError: The cache was written to by something else.
        """
        device = torch.device(device)
        moved = self._moved(device)
        if moved is not None:
            return moved.index_select(0, rows.to(device, non_blocking=True))
        return torch.from_numpy(self._gathered(rows.cpu().numpy())).to(device)

    def _gathered(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        out = np.empty((len(rows), *shape_of(self.how)), np.uint8)
        numbers, places = self._numbers[rows], self._rows[rows]
        for number in np.unique(numbers):
            own = np.flatnonzero(numbers == number)
            part = self._parts[int(number)]
            if own[-1] - own[0] + 1 == len(own):  # as in a pass, which goes in order
                part.copy(places[own], out[own[0] : own[-1] + 1])
            else:
                some = np.empty((len(own), *out.shape[1:]), np.uint8)
                part.copy(places[own], some)
                out[own] = some
        return out

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return self._moved(torch.device(device)) is not None

    def _moved(self, device: torch.device) -> Tensor | None:
        """All pictures on a CUDA device, or None where they do not fit, and on the CPU."""
        if device.type != "cuda":
            return None
        if device not in self._on:
            shape = len(self), *shape_of(self.how)
            size = int(np.prod(shape))
            moved = None
            if size <= RESIDENT_BYTES and fits(size, device):
                moved = torch.empty(shape, dtype=torch.uint8, device=device)
                for start in range(0, len(self), BLOCK):
                    rows = np.arange(start, min(start + BLOCK, len(self)))
                    moved[start : start + len(rows)] = torch.from_numpy(self._gathered(rows))
            self._on[device] = moved
        return self._on[device]


@dataclass(frozen=True)
class PictureFiles:
    """Files that are decoded when they are read.

    Attributes:
        paths: Of the N files.
        sizes: Bytes of each when it was looked at, (N,).
        times: Of modification, in nanoseconds, (N,).
        kept: Pixels that are taken in the place of some files: a file of rows and a row each.
    """

    paths: Sequence[str]
    sizes: Ints
    times: Ints
    kept: Mapping[int, tuple[FileRows, int]]


class LazyPictures(PictureStore):
    """Picture files that are decoded whenever they are read, ahead of time where that is known.

    What was announced (`expect`) is decoded by threads, which is mostly done outside of Python. Any
    other batch is decoded at once; the bits are the same.

    Args:
        contents: See `PictureStore`.
        how: See `PictureStore`.
        files: The files.
        pool: Threads that decode.
        workers: How many.
    """

    def __init__(
        self, contents: Digests, how: Decoding, files: PictureFiles, pool: Executor, workers: int
    ) -> None:
        super().__init__(contents, how, files.paths)
        self._files, self._pool, self._workers = files, pool, workers
        self._coming: Iterator[Tensor] = iter(())
        self._ready: deque[_Batch] = deque()
        weakref.finalize(self, _forget, self._ready)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """See `Store.expect`."""
        _forget(self._ready)
        self._coming = iter(batches)
        self._go_ahead()

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Tensor:
        """See `Store.read`: uint8, (B, channels, size, size).

        Raises:
            ValueError: A file is not there any more, or is not what it was.
        """
        rows = rows.cpu()
        if self._ready and torch.equal(self._ready[0].rows, rows):
            batch = self._ready.popleft()
            self._go_ahead()
        else:
            batch = self._begun(rows)
        try:
            return batch.pixels().to(device)
        except BaseException:
            _forget(self._ready)
            batch.forget()
            raise

    def _go_ahead(self) -> None:
        """Begin batches until all threads have enough to do for a while."""
        size = int(np.prod(shape_of(self.how)))
        while True:
            pictures = sum(len(batch.rows) for batch in self._ready)
            enough = len(self._ready) >= 2 and pictures >= 8 * self._workers
            if self._ready and (enough or pictures * size >= AHEAD_BYTES):
                return
            rows = next(self._coming, None)
            if rows is None:
                return
            self._ready.append(self._begun(rows.cpu()))

    def _begun(self, rows: Tensor) -> _Batch:
        out = np.empty((len(rows), *shape_of(self.how)), np.uint8)
        pairs = enumerate(rows.tolist())
        return _Batch(rows, out, [self._pool.submit(self._decode, r, out[n]) for n, r in pairs])

    def _decode(self, row: int, out: NDArray[np.uint8]) -> None:
        files, path = self._files, self._files.paths[row]
        if row in files.kept:
            part, number = files.kept[row]
            part.copy(np.array([number]), out[None])
            return
        try:
            size, time, content = read_file(path)
            same = (size, time) == (files.sizes[row], files.times[row])
            if not same and hashlib.sha256(content).digest() != self.contents[row].tobytes():
                raise UnreadableError("it is not what it was when the run began")
            out[:] = decode(content, self.how)
        except (OSError, UnreadableError, MemoryError) as error:
            raise ValueError(
                f"{path}: {reason(error)}; restore it and run the same command again"
            ) from error


class _Batch:
    """A batch that threads decode."""

    def __init__(self, rows: Tensor, out: NDArray[np.uint8], work: list[Future[Any]]) -> None:
        self.rows, self._out, self._work = rows, out, work

    def pixels(self) -> Tensor:
        """All pictures, once they are there; or the error of the first that failed."""
        for one in self._work:
            one.result()
        return torch.from_numpy(self._out)

    def forget(self) -> None:
        """Do nothing more for it."""
        for one in self._work:
            one.cancel()


def _forget(batches: deque[_Batch]) -> None:
    while batches:
        batches.pop().forget()
