"""What goes wrong with data files, said in the same words by every source."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

_DOWNLOAD_FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    HTTPException,
    EOFError,
    zlib.error,
    tarfile.TarError,
)


def damaged(path: Path, reason: str) -> ValueError:
    """The error for a file that is there but cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it.

    Returns:
        An error that names the file, the reason and the remedy; the caller raises it.
    """
    return ValueError(
        f"{path} is damaged: {reason}; delete it and run again to download it, "
        "or replace it with an intact copy"
    )


def require_intact(path: Path, md5: str) -> None:
    """Compare a file with its official md5 sum, if the file is there.

    Args:
        path: The file; a missing one passes, because it will be downloaded.
        md5: The official sum, 32 hexadecimal digits.

    Raises:
        ValueError: If the file is there and has another sum.
    """
    from torchvision.datasets.utils import check_integrity

    if path.exists() and not check_integrity(str(path), md5):
        raise damaged(path, "its md5 sum is not the official one")


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the path in front of every ValueError from inside the block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@contextmanager
def downloading(name: str, files: Sequence[str], folder: Path) -> Iterator[None]:
    """Turn whatever a download inside the block raises into one error that says what to do.

    Args:
        name: The data set.
        files: The files that are missing.
        folder: Where they belong.

    Raises:
        RuntimeError: If the download failed; names the files, the folder and the cause in brief.
    """
    try:
        yield
    except _DOWNLOAD_FAILURES as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RuntimeError(
            f"could not download {name} ({cause}); "
            f"put {', '.join(files)} into {folder} by hand and run again"
        ) from None
