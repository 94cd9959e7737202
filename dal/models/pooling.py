"""Pooling, faster where no gradient is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool_2x2(x: Tensor) -> Tensor:
    """Maxima of 2 x 2 squares, equal to ``max_pool2d(x, 2)`` bit for bit.

    On a CPU PyTorch's own pooling also finds where each maximum stood, one value at a time, which
    only a backward pass needs; maxima of rows, then of columns, are vectorized.

    Args:
        x: float, (B, C, H, W), in any memory format.

    Returns:
        (B, C, H // 2, W // 2), in the memory format of ``x``; NaN where a square holds one.
    """
    height, width = x.shape[-2:]
    if torch.is_grad_enabled() or x.device.type != "cpu" or height % 2 or width % 2:
        return F.max_pool2d(x, 2)
    rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])
