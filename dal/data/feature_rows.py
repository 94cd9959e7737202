"""Samples as rows of numbers, by which they are near to or far from each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dal.data.source import Split
from dal.data.store import BLOCK
from dal.utils.inputs import numel_of, one_shape, one_tensor
from dal.utils.memory import check_memory


def feature_rows(split: Split, who: str, check: Callable[[], None] = lambda: None) -> Tensor:
    """The prepared samples of a part, flattened: float32, (N, D), on the CPU.

    Args:
        split: Samples of one tensor each: features, columns of a table, or pixels.
        who: Named in errors.
        check: Called between blocks.

    Raises:
        TypeError: Samples are tensors by name.
        ValueError: They do not fit into memory.
    """
    shape = one_shape(split.input_shape, who)
    check_memory(4 * numel_of(shape) * len(split), f"{who} of {len(split)} samples {shape}")
    rows_ND = torch.empty(len(split), numel_of(shape))
    for batch in torch.split(torch.arange(len(split)), BLOCK):
        check()
        rows_ND[batch] = one_tensor(split.take(batch), who).flatten(1).float()
    return rows_ND
