"""The cache of decoded pictures on the disk: parts that are written once and never changed.

A part is two files: ``.npy``, pixels (rows, channels, size, size), and ``.npz``, what is known of
some files and of those rows. The second is written last, so an array without it counts for nothing.
Later parts know better: what they say of a file takes the place of what earlier ones said. Pixels
belong to a content, told by its digest, and not to a name; so a file that was moved, copied or
touched is read once more and decoded no more.

What is said of files is sealed by a digest, read at every start. Pixels have checksums, which are
compared where size or time of their file are not those of when it was written: so a copied cache is
checked, and bits that a disk lost without a trace are not noticed.
"""

from __future__ import annotations

import hashlib
import io
import math
import stat
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dal.data.mapped import FileRows
from dal.utils.digest import digest_file
from dal.utils.kept import kept

FORMAT = 2
PATTERN = f"{'[0-9]' * 6}-*.npz"
"""Names of parts."""
PART_BYTES = 2**28
"""Pixels of a part, at most."""
CHUNK_BYTES = 2**20
"""Pixels of about so many bytes have a checksum of their own."""
AGAIN = -1
"""Time of a file that must be read again: it changed too shortly before."""

Ints = NDArray[np.int64]
Digests = NDArray[np.uint8]


@dataclass(frozen=True)
class Facts:
    """What is known of n files.

    Attributes:
        names: Relative to the folder of the pictures, posix.
        sizes: Bytes, (n,).
        times: Of modification, in nanoseconds, (n,); or `AGAIN`.
        digests: SHA-256 of each file's content, (n, 32).
        gray: Whether a picture has no colors, (n,).
        faults: Why a content is no picture; empty for those that are.
    """

    names: Sequence[str]
    sizes: Ints
    times: Ints
    digests: Digests
    gray: NDArray[np.bool_]
    faults: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def where(self, mask: NDArray[np.bool_]) -> Facts:
        """Those files where the mask, (n,), holds."""
        return Facts(
            list(compress(self.names, mask)),
            self.sizes[mask],
            self.times[mask],
            self.digests[mask],
            self.gray[mask],
            list(compress(self.faults, mask)),
        )

    @classmethod
    def joined(cls, parts: Sequence[Facts]) -> Facts:
        """Those of several behind each other."""
        return cls(
            [name for part in parts for name in part.names],
            np.concatenate([no_ints(), *(part.sizes for part in parts)]),
            np.concatenate([no_ints(), *(part.times for part in parts)]),
            np.concatenate([no_digests(), *(part.digests for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.gray for part in parts)]),
            [fault for part in parts for fault in part.faults],
        )


def no_ints() -> Ints:
    """None: (0,)."""
    return np.zeros(0, np.int64)


def no_digests() -> Digests:
    """None: (0, 32)."""
    return np.zeros((0, 32), np.uint8)


@dataclass(frozen=True)
class Part:
    """A part of the cache.

    Attributes:
        path: Its facts; the pixels are beside it.
        facts: What it says of files.
        contents: Digests of the contents whose pixels it has, (r, 32).
        rows: In which rows of the array those are, (r,).
        pixels: The array; None where there is none.
        damage: What of it cannot be used, and why; empty for nothing.
    """

    path: Path
    facts: Facts
    contents: Digests = field(default_factory=no_digests)
    rows: Ints = field(default_factory=no_ints)
    pixels: FileRows | None = None
    damage: str = ""

    @property
    def weight(self) -> int:
        """About how many bytes are of use in it."""
        return len(self.rows) * (self.pixels.row_bytes if self.pixels else 0) + 100 * len(
            self.facts
        )

    @property
    def is_sparse(self) -> bool:
        """Whether most of its rows hold nothing."""
        return self.pixels is not None and 2 * len(self.rows) < len(self.pixels)

    def remove(self) -> None:
        """Delete its files; who has opened them keeps them."""
        for path in (self.path, self.path.with_suffix(".npy")):
            with suppress(IsADirectoryError):  # not of this cache: it stays, and is told of again
                path.unlink(missing_ok=True)


class Index:
    """All parts together.

    Attributes:
        parts: In the order in which they were written.
        facts: Those of all parts.
        place: For each name the position in `facts` of what is known of it.
        pixels: For each content number of the part and row of its pixels.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.facts = Facts.joined([part.facts for part in parts])
        self.place = {name: position for position, name in enumerate(self.facts.names)}
        self.pixels: dict[bytes, tuple[int, int]] = {}
        for number, part in enumerate(parts):
            numbers = [number] * len(part.rows)
            found = zip(numbers, part.rows.tolist(), strict=True)
            self.pixels.update(zip(as_bytes(part.contents), found, strict=True))

    @cached_property
    def contents(self) -> dict[bytes, int]:
        """For each content that was seen a position in `facts`."""
        return {one: position for position, one in enumerate(as_bytes(self.facts.digests))}


def as_bytes(digests: Digests) -> list[bytes]:
    """Digests (n, 32), each as 32 bytes."""
    flat = digests.tobytes()
    return [flat[start : start + 32] for start in range(0, len(flat), 32)]


def packed(words: Sequence[str]) -> NDArray[np.uint8]:
    """Words without a zero character, in one array; names of files may hold any other bytes."""
    return np.frombuffer("\0".join(words).encode("utf-8", "surrogateescape"), np.uint8)


def _unpacked(array: NDArray[np.uint8], count: int) -> list[str]:
    return array.tobytes().decode("utf-8", "surrogateescape").split("\0") if count else []


def chunk_rows(row_bytes: int) -> int:
    """Rows of a chunk: decoded together, with a checksum of their own."""
    return min(max(CHUNK_BYTES // row_bytes, 1), 256)


def seal(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """SHA-256 of names, types, shapes and content of arrays: (32,)."""
    digest = hashlib.sha256()
    for name, array in sorted(columns.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def read_parts(folder: Path, shape: tuple[int, ...]) -> list[Part]:
    """All parts of a folder, for pictures of a shape; what is damaged of them is not there.

    Raises:
        OSError: One cannot be read.
    """
    while True:
        paths = sorted(folder.glob(PATTERN))
        try:
            return [_read(path, shape) for path in paths]
        except FileNotFoundError:  # another process has joined parts meanwhile
            if paths == sorted(folder.glob(PATTERN)):
                raise


def _read(path: Path, shape: tuple[int, ...]) -> Part:
    try:
        _check_regular(path)
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            known = {name: found[name] for name in found.files}
        if int(known["format"]) != FORMAT:
            raise ValueError("another version wrote it")
        if not np.array_equal(known.pop("seal"), seal(known)):
            raise ValueError("its content is not what was written")
        count = len(known["sizes"])
        facts = Facts(
            _unpacked(known["names"], count),
            known["sizes"],
            known["times"],
            known["digests"],
            known["gray"],
            _unpacked(known["faults"], count),
        )
        _check(known, facts, chunk_rows(math.prod(shape)))
    except OSError:
        raise
    except Exception as error:  # damaged archives raise of many kinds
        return Part(path, Facts.joined([]), damage=f"{path} is damaged ({error})")
    contents, rows = known["contents"], known["rows"]
    if not len(rows):
        return Part(path, facts)
    pixels, good, damage = _checked(path.with_suffix(".npy"), shape, known)
    return Part(path, facts, contents[good], rows[good], pixels, damage)


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")


def _check(known: Mapping[str, NDArray[Any]], facts: Facts, step: int) -> None:
    """Refuse columns of other types, shapes or ranges than a part has.

    Raises:
        ValueError: Naming the column.
    """
    count, rows, chunks = len(facts.sizes), len(known["rows"]), len(known["sums"])
    for name, kind, shape in (
        ("sizes", np.int64, (count,)),
        ("times", np.int64, (count,)),
        ("digests", np.uint8, (count, 32)),
        ("gray", np.bool_, (count,)),
        ("contents", np.uint8, (rows, 32)),
        ("rows", np.int64, (rows,)),
        ("written", np.int64, (2,)),
        ("sums", np.uint32, (chunks,)),
    ):
        if known[name].dtype != kind or known[name].shape != shape:
            raise ValueError(f"{name}: {known[name].dtype}, {known[name].shape}")
    if {len(facts.names), len(facts.faults)} != {count}:
        raise ValueError("its columns have several lengths")
    places = np.concatenate([[-1], known["rows"], [chunks * step]])
    if (np.diff(places) <= 0).any():
        raise ValueError("its rows are in no order")


def _checked(
    path: Path, shape: tuple[int, ...], known: Mapping[str, NDArray[Any]]
) -> tuple[FileRows | None, NDArray[np.bool_], str]:
    """A part's array, which of its rows are what was written, and what is wrong with others."""
    rows, sums = known["rows"], known["sums"]
    try:
        _check_regular(path)
        facts = path.stat()
        array = np.lib.format.open_memmap(path, mode="r")
        if array.dtype != np.uint8 or array.shape[1:] != shape or not array.flags.c_contiguous:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
    except Exception as error:  # NumPy's header parser raises of many kinds
        if not path.parent.is_dir():
            raise
        return None, np.zeros(len(rows), bool), f"{path} cannot be read ({error})"
    good, damage = rows < len(array), ""
    if [facts.st_size, facts.st_mtime_ns] != known["written"].tolist():
        chunks = rows // chunk_rows(math.prod(shape))
        key = repr(("bad chunks", digest_file(path), chunks.tobytes(), sums.tobytes()))
        bad = kept(key, lambda: _bad_chunks(array, chunks, sums))
        good &= ~np.isin(chunks, bad)
        damage = f"{path} is damaged in some places" if bad else ""
    return FileRows(array), good, damage


def _bad_chunks(array: NDArray[Any], chunks: Ints, sums: NDArray[np.uint32]) -> list[int]:
    step, used = chunk_rows(array[:1].nbytes), np.bincount(chunks, minlength=len(sums))
    found = [array[n * step : n * step + count] for n, count in enumerate(used.tolist())]
    pairs = enumerate(zip(found, sums.tolist(), strict=True))
    return [number for number, (pixels, then) in pairs if sum_of(pixels) != then]


def sum_of(pixels: NDArray[Any]) -> int:
    """A checksum: CRC-32, since damage has no intentions, and SHA-256 takes four times as long."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)
