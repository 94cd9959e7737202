"""Telling out-of-memory from other errors, and naming the settings that ask for too much."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORDS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "can't allocate memory",
    "not enough memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a GPU, cuBLAS, cuDNN or the CPU allocator ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)


@contextmanager
def fitting(size: int, settings: str) -> Iterator[None]:
    """Name the settings that a block's memory depends on, if there is not enough of it.

    Args:
        size: Bytes that the block needs at least.
        settings: Names and values of these settings.

    Raises:
        ValueError: The machine has less memory than ``size``, or memory runs out in the block.
    """
    fact = check_memory(size, settings)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ValueError(f"{fact} at least, and so much is not free; ask for less") from error


def memory_of_machine() -> int:
    """Bytes that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(size: int, settings: str) -> str:
    """Refuse settings that ask for more memory than the machine has; see `fitting`.

    Returns:
        How much the settings ask for, in words.

    Raises:
        ValueError: The machine has less memory than they ask for.
    """
    whole = memory_of_machine()
    fact = f"{settings}: this takes {min(size, 10**30) / 2**30:,.1f} GiB of memory"
    if size > whole:
        raise ValueError(f"{fact}, and this machine has {whole / 2**30:,.1f}; ask for less")
    return fact
