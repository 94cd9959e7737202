"""Like next to like: people answer faster where a sample resembles the one before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dal.data.source import Split

CHAINED = 2000
"""Samples of which each is compared with all; more are ordered by one direction."""
SIDE = 16
"""Pictures are compared at so many pixels a side."""
_BLOCK = 256


def alike(split: Split, indices: Sequence[int]) -> list[int]:
    """Order samples so that each resembles the one before.

    The first stays the first; each next is the nearest of those that are left, by the Euclidean
    distance of its inputs, of pictures when made small. Of more than `CHAINED` samples the order is
    that along their first principal component. Equal samples give equal orders.

    Args:
        split: Where they are.
        indices: Their positions in it.

    Returns:
        The same positions in another order; the order given where inputs have names.
    """
    blocks: list[Tensor] = []
    for start in range(0, len(indices), _BLOCK):
        inputs = split.take(torch.tensor(indices[start : start + _BLOCK]))
        if not isinstance(inputs, Tensor):
            return list(indices)
        blocks.append(_small(inputs))
    points = torch.cat(blocks)
    order = chain(points) if len(points) <= CHAINED else along(points)
    return [indices[place] for place in order.tolist()]


def _small(inputs: Tensor) -> Tensor:
    inputs = inputs.double()
    if inputs.ndim == 4 and min(inputs.shape[-2:]) > SIDE:
        inputs = F.adaptive_avg_pool2d(inputs, SIDE)
    return inputs.flatten(1)


def chain(points_ND: Tensor) -> Tensor:
    """A greedy chain from the first point on, each the nearest of those left: int64, (N,)."""
    left = torch.ones(len(points_ND), dtype=torch.bool)
    order = torch.zeros(len(points_ND), dtype=torch.int64)
    for place in range(1, len(points_ND)):
        left[order[place - 1]] = False
        distances = (points_ND - points_ND[order[place - 1]]).square().sum(1)
        order[place] = distances.masked_fill(~left, torch.inf).argmin()
    return order


def along(points_ND: Tensor, steps: int = 20) -> Tensor:
    """The order along the first principal component, by power iteration: int64, (N,)."""
    centered = points_ND - points_ND.mean(0)
    direction = centered[centered.square().sum(1).argmax()]
    for _ in range(steps):
        direction = F.normalize(centered.T @ (centered @ direction), dim=0)
    return (centered @ direction).argsort(stable=True)
