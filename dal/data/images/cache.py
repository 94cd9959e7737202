"""Pictures of a folder: looked at once, decoded once, read by rows."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dal.data.images.decode import VERSION, Decoding, UnreadableError
from dal.data.images.examine import check_file, cores, examine, reason, shape_of
from dal.data.images.new_part import remove_damaged, remove_unfinished, tidy
from dal.data.images.parts import Digests, Index, Ints, as_bytes, no_digests, read_parts
from dal.data.images.stores import CachedPictures, LazyPictures, PictureFiles
from dal.data.store import Store
from dal.utils.alone import alone

log = logging.getLogger(__name__)

NOT_THERE = -1
"""Size of a file that is not there."""


@dataclass(frozen=True)
class Seen:
    """What is known of the N files that were asked about, in their order.

    Attributes:
        digests: SHA-256 of each file's content as it was last readable, (N, 32); zeros where it
            never was.
        gray: Whether a picture has no colors, (N,).
        faults: Why files cannot be read now, by position.
        usable: Whether there are pixels for a file, (N,): also of one that cannot be read now,
            where the cache has those of the content that was expected.
    """

    digests: Digests
    gray: NDArray[np.bool_]
    faults: Mapping[int, str]
    usable: NDArray[np.bool_]


class Pictures:
    """The picture files of a folder, as arrays of one size.

    Their pixels are kept in a cache, by the content of the files. It can be deleted at any time.

    Args:
        root: The folder of the files.
        how: How they are decoded.
        cache_dir: Where the caches of all folders are; created if it is missing.
        lazy: Keep no pixels, and decode whenever a file is read. None: only where the pixels would
            take more than half of the free disk space. Where the cache cannot be written to,
            nothing else is kept either, and all files are looked at again at the next start.
        workers: Processes that decode at once; None for as many as there are cores for this one.
    """

    def __init__(
        self,
        root: Path,
        how: Decoding,
        *,
        cache_dir: str | Path,
        lazy: bool | None = None,
        workers: int | None = None,
    ) -> None:
        self.root, self.how, self.lazy = root.expanduser().absolute(), how, lazy
        self.workers = workers or cores()
        key = hashlib.sha256(repr((str(self.root), how)).encode(errors="surrogateescape"))
        self.folder = Path(cache_dir).expanduser() / "images" / key.hexdigest()[:32]
        self._spare: Path | None = None
        self._told: set[Path] = set()
        self._pool = ThreadPoolExecutor(self.workers, "pictures")
        self._names: Sequence[str] = ()
        self._stamps = _Stamps(np.zeros(0, np.int64), np.zeros(0, np.int64), {})
        self._index = Index([])
        self._seen = Seen(no_digests(), np.zeros(0, bool), {}, np.zeros(0, bool))

    def look_at(self, names: Sequence[str], expected: Digests | None = None) -> Seen:
        """Decode what the cache does not have yet, in parallel, and say what every file is.

        A file whose size and time are those of last time is not opened.

        Args:
            names: Of the files, relative to the folder, posix.
            expected: Digests of the contents that are meant, (N, 32), zeros for any. Of a file that
                cannot be read now, the pixels of that content are used, if the cache has them.

        Raises:
            OSError: The cache cannot be read or written.
            RuntimeError: A process that decodes was killed.
        """
        self._names, self._stamps = names, _stamps(str(self.root), names)
        try:
            self._index, gone = self._looked()
        except OSError as error:
            raise self._refused(error) from error
        self._seen = self._judged({**self._stamps.gone, **gone}, expected)
        return self._seen

    def _looked(self) -> tuple[Index, dict[int, str]]:
        """What the cache has once all files were looked at, and why some cannot be opened."""
        index, keep = self._read(), self.lazy is not True
        todo = self._unknown(index, keep)
        if keep and len(todo) and self.lazy is None and not self._has_room(len(todo)):
            keep = False
            todo = self._unknown(index, keep)
        if not len(todo):
            return index, {}
        if self._spare is None:
            try:
                return self._completed(self.folder, keep)
            except OSError as error:
                if keep:
                    raise
                log.warning(
                    "%s cannot be written to (%s): what is known of the pictures is not kept, and "
                    "all are looked at again at the next start",
                    self.folder,
                    error.strerror or error,
                )
            self._spare = Path(tempfile.mkdtemp(prefix="dal"))
            weakref.finalize(self, shutil.rmtree, self._spare, ignore_errors=True)
        return self._completed(self._spare, keep)

    def _completed(self, folder: Path, keep: bool) -> tuple[Index, dict[int, str]]:
        """As `_looked`, where what is not known yet goes into a folder."""
        with self._alone(folder):
            index = self._read()  # another process may have done it meanwhile
            remove_damaged(index)
            todo = self._unknown(index, keep)
            if not len(todo):
                return index, {}
            gone = self._examine(folder, todo, index, keep)
            index = self._read()
            if folder == self.folder and tidy(folder, index, shape_of(self.how)):
                index = self._read()
            return index, gone

    def store(self, positions: Tensor) -> Store:
        """Some of the files that were looked at last.

        Args:
            positions: int64, (n,), of usable ones, in the order that is wanted.

        Raises:
            ValueError: One of them is not usable.
        """
        chosen = positions.numpy()
        if not self._seen.usable[chosen].all():
            bad = int(chosen[~self._seen.usable[chosen]][0])
            raise ValueError(
                f"{self._names[bad]}: {self._seen.faults.get(bad, 'it is not usable')}"
            )
        contents, paths = self._seen.digests[chosen], _Paths(self.root, self._names, chosen)
        found = [self._index.pixels.get(one) for one in as_bytes(contents)]
        parts = {n: part.pixels for n, part in enumerate(self._index.parts) if part.pixels}
        kept = {n: (parts[one[0]], one[1]) for n, one in enumerate(found) if one is not None}
        if len(kept) == len(found):
            places = np.array(found, np.int64).reshape(-1, 2)
            return CachedPictures(contents, self.how, parts, places[:, 0], places[:, 1], paths)
        sizes, times = self._stamps.sizes[chosen], self._stamps.times[chosen]
        files = PictureFiles(paths, sizes, times, kept)
        return LazyPictures(contents, self.how, files, self._pool, self.workers)

    def _unknown(self, index: Index, keep: bool) -> NDArray[np.int64]:
        """Positions of the files that must be opened: int64, (n,)."""
        facts, stamps = index.facts, self._stamps
        places = np.array([index.place.get(name, -1) for name in self._names], np.int64)
        known = places >= 0
        own = places[known]
        same = facts.sizes[own] == stamps.sizes[known]
        same &= facts.times[own] == stamps.times[known]
        if keep:
            done = [one in index.pixels for one in as_bytes(facts.digests[own])]
            faulty = [bool(facts.faults[place]) for place in own.tolist()]
            same &= np.array(done, bool) | np.array(faulty, bool)
        known[known] = same
        known[list(stamps.gone)] = True
        return np.flatnonzero(~known)

    def _examine(
        self, folder: Path, todo: NDArray[np.int64], index: Index, keep: bool
    ) -> dict[int, str]:
        """Look at some files; gives those that could not be opened, by position."""
        if self.how.version != VERSION:
            log.warning(
                "%d pictures are decoded by %s, others before by %s; their bits may differ",
                len(todo),
                VERSION,
                self.how.version,
            )
        names = [self._names[position] for position in todo.tolist()]
        gone = examine(
            folder,
            str(self.root),
            names,
            self.how,
            index,
            keep=keep,
            workers=self.workers,
        )
        return {int(todo[n]): gone[name] for n, name in enumerate(names) if name in gone}

    def _judged(self, gone: Mapping[int, str], expected: Digests | None) -> Seen:
        index, facts, count = self._index, self._index.facts, len(self._names)
        digests, gray = np.zeros((count, 32), np.uint8), np.zeros(count, bool)
        faults = dict(gone)
        places = np.array([index.place.get(name, -1) for name in self._names], np.int64)
        known = np.flatnonzero(places >= 0)
        own = places[known]
        faults |= {
            position: facts.faults[place]
            for position, place in zip(known.tolist(), own.tolist(), strict=True)
            if facts.faults[place] and position not in gone
        }
        sound = np.array([not facts.faults[place] for place in own.tolist()], bool)
        digests[known[sound]], gray[known[sound]] = (
            facts.digests[own[sound]],
            facts.gray[own[sound]],
        )
        usable = np.ones(count, bool)
        usable[list(faults)] = False
        for position in sorted(faults) if expected is not None else ():
            assert expected is not None
            meant = expected[position].tobytes()
            if any(meant):
                digests[position] = expected[position]
                usable[position] = meant in index.pixels
                gray[position] = meant in index.contents and facts.gray[index.contents[meant]]
        return Seen(digests, gray, faults, usable)

    def _has_room(self, count: int) -> bool:
        """Whether the pixels of so many pictures take no more than half of the free space."""
        wanted, above = count * math.prod(shape_of(self.how)), self.folder
        while not above.exists():
            above = above.parent
        free = shutil.disk_usage(above).free
        if wanted <= free // 2:
            return True
        log.info(
            "the pixels of %d pictures would take %.1f GB, more than half of what is free in %s: "
            "they are decoded whenever they are read (data.lazy=false keeps them all the same)",
            count,
            wanted / 1e9,
            above,
        )
        return False

    def _read(self) -> Index:
        folders = [self.folder] if self._spare is None else [self.folder, self._spare]
        parts = [part for folder in folders for part in read_parts(folder, shape_of(self.how))]
        for part in parts:
            if part.damage and part.path not in self._told:
                log.warning("%s; its pictures are decoded again", part.damage)
                self._told.add(part.path)
        return Index(parts)

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """A block in which this process alone writes into a cache, where there are locks."""
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / "pictures.lock", "these pictures") as locked:
            if locked:
                remove_unfinished(folder)
            yield

    def _refused(self, error: OSError) -> OSError:
        lazy = "" if self.lazy else ", or data.lazy=true"
        return OSError(
            error.errno,
            f"cannot keep decoded pictures in {self.folder} ({error.strerror or error}); free "
            f"space, or set data.cache_dir to a folder you may write to{lazy}, and run the same "
            "command again: what is decoded is kept",
        )


@dataclass(frozen=True)
class _Stamps:
    """Sizes and times of files, (N,), and why some have none, by position."""

    sizes: Ints
    times: Ints
    gone: Mapping[int, str]


class _Paths(Sequence[str]):
    """Paths of some files, which take no memory."""

    def __init__(self, root: Path, names: Sequence[str], chosen: NDArray[np.int64]) -> None:
        self._root, self._names, self._chosen = root, names, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, place: Any) -> Any:
        return f"{self._root}/{self._names[int(self._chosen[place])]}"


def _stamps(root: str, names: Sequence[str]) -> _Stamps:
    sizes, times = np.full(len(names), NOT_THERE), np.full(len(names), NOT_THERE)
    gone: dict[int, str] = {}
    for position, name in enumerate(names):
        try:
            facts = os.stat(f"{root}/{name}")  # noqa: PTH116 - several times as fast
            check_file(facts)
        except (OSError, UnreadableError) as error:
            gone[position] = reason(error)
            continue
        sizes[position], times[position] = facts.st_size, facts.st_mtime_ns
    return _Stamps(sizes, times, gone)
