"""Files that are either the old ones or the new ones, whenever the process is killed."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

import numpy as np
from numpy.typing import NDArray


class DamagedError(ValueError):
    """A file does not hold what was written into it."""


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], sync: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it.

    Args:
        path: Where the file shall stand; its folder must exist.
        write: Writes the content into the open binary file it is given.
        sync: Wait for the disk. Without it a power cut, though no kill, may lose the file.

    Raises:
        OSError: The disk is full or not writable, naming the path; the previous file is intact and
            the temporary one removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):  # the first error says more
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text_atomically(path: Path, text: str, sync: bool = False) -> None:
    """`write_atomically` for a UTF-8 text; not synced, for files that can be written again."""
    write_atomically(path, lambda file: file.write(text.encode()), sync)


def write_array(path: Path, array: NDArray[Any], ending: bytes = b"") -> None:
    """`write_atomically` for an array as a file of NumPy, with what NumPy does not read behind it.

    `np.save` would write through C's buffer, which does not say why it failed.
    """

    def write(file: IO[bytes]) -> None:
        layout = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, layout | {"fortran_order": False})
        file.write(np.ascontiguousarray(array).data)
        file.write(ending)

    write_atomically(path, write)


@contextmanager
def saving(path: Path, size: int | None = None) -> Iterator[None]:
    """Say in one line what a failed write of a run's file means.

    Args:
        path: The file.
        size: Its bytes, where they are known.

    Raises:
        OSError: With fact and remedy, for any that the block raises.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OSError(
            error.errno,
            f"{'the disk is full' if full else 'cannot write'}: {path.name}"
            f"{'' if size is None else f' ({size / 2**20:.1f} MiB)'} was not saved in "
            f"{path.parent} ({error.strerror}); the state saved before it is intact: mend this and "
            "run the same command again",
        ) from error


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV with line feeds; what holds a comma, a quote or a line break is quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def make_folder(path: Path) -> None:
    """Create a folder for results, with those above it, unless it is there.

    Raises:
        OSError: It cannot be created, with the reason.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else (error.strerror or "").lower()
        raise OSError(f"{path} cannot be a folder for results: {reason}; give another") from error


def remove_temporary(folder: Path, of: str = "") -> None:
    """Remove what a killed process left half-written in a folder, of files whose names begin so."""
    for path in folder.glob(f".{of}*.tmp"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def open_text(path: Path, mode: Literal["r", "w"]) -> Iterator[TextIO]:
    """A UTF-8 text file, compressed if its name ends in ``.gz``; equal texts give equal files."""
    if path.suffix != ".gz":
        with path.open(mode, newline="", encoding="utf-8") as file:
            yield cast(TextIO, file)
        return
    with (
        path.open(f"{mode}b") as raw,
        gzip.GzipFile("", f"{mode}b", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, newline="", encoding="utf-8") as file,
    ):
        yield file
