"""Digests of tensors and of files, to tell whether two runs began alike."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dal.utils.kept import kept

RECENT = 0.1
"""Seconds in which a file may change once more without another time of its own."""
_CHUNK = 2**24


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, dtypes and values; strides and devices make no difference.

    Args:
        tensors: Tensors by name, of any shape, dtype and device.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous(memory_format=torch.contiguous_format)
        digest.update(repr((name, tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's content, which is read once for as long as the file stays untouched.

    What is kept belongs to the file's path, size, inode, and times of modification and of change to
    the nanosecond. A file that differs in any of these is read again, so a copy of it gives the
    same digest after one reading. A file that was written a moment ago is not kept yet: it might
    change again at what the file system takes for the same time.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    where = Path(path).resolve()
    facts = where.stat()
    if time.time() - max(facts.st_mtime, facts.st_ctime) < RECENT:
        return _content(where)
    return str(kept(repr(("content", *_identity(where, facts))), lambda: _content(where)))


def _identity(path: Path, facts: os.stat_result) -> tuple[str | int, ...]:
    times = facts.st_mtime_ns, facts.st_ctime_ns
    return str(path), facts.st_size, facts.st_dev, facts.st_ino, *times


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
