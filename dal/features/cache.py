"""Features on the disk: written once, compared with their digest when touched, memory-mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from dal.data.mapped import Mapped, open_mapped
from dal.data.store import Store, update
from dal.utils.alone import alone
from dal.utils.digest import digest_file
from dal.utils.safe_files import (
    DamagedError,
    remove_temporary,
    write_array,
    write_atomically,
    write_text_atomically,
)

log = logging.getLogger(__name__)


def key_of(stores: Sequence[Store], *facts: object) -> str:
    """A digest of data and of whatever else decides the features: 32 hexadecimal digits."""
    digest = hashlib.sha256(repr(facts).encode())
    for store in stores:
        update(digest, store, torch.arange(len(store)))
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def making(folder: Path, key: str, what: str, check: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time make the files of a key, so that others find them.

    What a killed process left half-written of them is removed. Where the file system knows no
    locks, several may make the same, to no harm.

    Args:
        folder: Where they are; created if it is missing.
        key: Names them.
        what: What is made, told to who waits.
        check: Called every second of waiting; may raise to end it.

    Raises:
        OSError: The folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        with writing(folder, what):
            folder.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(alone(folder / f"{key}.lock", what, check)):
                remove_temporary(folder, key)
        yield


@contextlib.contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Say in one line what it means that something cannot be written into the cache.

    Raises:
        OSError: With fact and remedy, for any that the block raises.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            raise IsADirectoryError(
                error.errno,
                f"cannot write {what}: {error.filename2 or error.filename} is a folder in the "
                "place of a file; remove it, and run the same command again",
            ) from error
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(
            error.errno,
            f"cannot write {what} into {folder} ({reason}); free space, or set "
            "features.cache_dir to a folder you may write to, and run the same command again",
        ) from error


class FeatureCache:
    """One array of features, ``<key>.npy``, and what is known of it, ``<key>.json``.

    The second file is written last and holds the digest of the first, so that a file half written,
    or altered since, is never taken for whole.

    Args:
        folder: Where the files are; created if it is missing.
        key: Names them.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.folder = Path(folder).expanduser()
        self.array, self.facts = (self.folder / f"{key}{end}" for end in (".npy", ".json"))

    @contextlib.contextmanager
    def alone(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """See `making`."""
        with making(self.folder, self.array.stem, "features", check):
            yield

    def read(self) -> tuple[Mapped, dict[str, Any]] | None:
        """Features (N, D) and what is known of them; None where there are none, or damaged ones."""
        if not self.facts.is_file() or not self.array.is_file():
            return None
        try:
            facts = dict(json.loads(self.facts.read_text()))
            if facts["sha256"] != digest_file(self.array):
                raise DamagedError("it does not match its digest")
            array = open_mapped(str(self.array), "features.cache_dir")
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s); its features are computed again", self.array, error)
            return None
        return array, facts

    def write(self, blocks: Sequence[Callable[[], Tensor]], **facts: Any) -> None:
        """Compute features block by block, so that they are never in memory as a whole.

        Each block is a file of its own until all are there, and is not computed again after the
        process was killed.

        Args:
            blocks: Each gives float16 or float32, (b, D); at least one.
            **facts: Plain values to be kept beside the features.

        Raises:
            OSError: The disk is full or not writable; no file is half written.
        """
        start = time.perf_counter()
        folder = self.array.with_suffix(".parts")
        with writing(self.folder, "features"):
            folder.mkdir(exist_ok=True)
            remove_temporary(folder)
            parts = [folder / f"{number:06d}.npy" for number in range(len(blocks))]
            for part, block in zip(parts, blocks, strict=True):
                if not part.exists():
                    write_array(part, block().numpy())
            digest = self._join(parts)
            known = {"sha256": digest, "seconds": time.perf_counter() - start, **facts}
            write_text_atomically(self.facts, json.dumps(known, indent=2) + "\n", sync=True)
        shutil.rmtree(folder)

    def _join(self, parts: Sequence[Path]) -> str:
        """Write all parts into one file; gives its digest."""
        arrays = [np.load(part, mmap_mode="r", allow_pickle=False) for part in parts]
        digest = hashlib.sha256()
        shape = (sum(map(len, arrays)), arrays[0].shape[1])
        layout = {"descr": arrays[0].dtype.str, "fortran_order": False, "shape": shape}

        def write(file: IO[bytes]) -> None:
            hashing = _Hashing(file, digest)
            np.lib.format.write_array_header_1_0(cast("IO[bytes]", hashing), layout)
            for array in arrays:
                hashing.write(np.ascontiguousarray(array).data)

        write_atomically(self.array, write)
        return digest.hexdigest()


class _Hashing:
    """A file whose content is hashed as it is written."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self.file, self.digest = file, digest

    def write(self, data: bytes | memoryview) -> None:
        self.digest.update(data)
        self.file.write(data)
