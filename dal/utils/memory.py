"""Telling out-of-memory from other errors."""

from __future__ import annotations

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
