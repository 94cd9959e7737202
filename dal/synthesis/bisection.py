"""Pairs of opposite classes, between which the boundary is halved in."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Chain = list[int]
"""Two samples of different classes, and what was asked between them or beside them; -1 if nothing
was asked yet."""


def advanced(chains: list[Chain], labels: Mapping[int, int]) -> list[Chain]:
    """Pairs after the answers to what was asked last: still of different classes.

    The answer takes the place of the end whose class it has; of a third class, that of the second.
    Pairs of which a label is missing, or that have become of one class, are left out.

    Args:
        chains: Pairs, each with what was asked.
        labels: The class of each sample that has one.
    """
    found = []
    for a, b, asked in chains:
        if asked in labels and a in labels and b in labels:
            a, b = (asked, b) if labels[asked] == labels[a] else (a, asked)
            if labels[a] != labels[b]:
                found.append([a, b, -1])
    return found


def drawn_pairs(labels: Mapping[int, int], count: int, rng: torch.Generator) -> list[Chain]:
    """Pairs of different classes, drawn at random; fewer where there are only so many.

    Args:
        labels: The class of each sample that has one.
        count: How many.
        rng: CPU generator.

    Returns:
        None where there is one class only.
    """
    samples = list(labels)
    if count < 1 or len(set(labels.values())) < 2:
        return []
    found = []
    for place in torch.randint(len(samples), (count,), generator=rng).tolist():
        first = samples[place]
        others = [s for s in samples if labels[s] != labels[first]]
        second = others[int(torch.randint(len(others), (1,), generator=rng))]
        found.append([first, second, -1])
    return found


def between(
    a: Tensor, b: Tensor, close: float, reach: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The points to ask about: the middle of each pair, or beside it where the pair is close.

    Beside it is on the plane through the middle at right angles to the pair, in a random direction,
    as far away as `reach` at most: along the boundary, where that is flat.

    Args:
        a: float64, (B, ...), in [0, 1].
        b: The other ends.
        close: Share of the diagonal of the unit cube below which a pair is close.
        reach: Share of the diagonal.
        rng: CPU generator.

    Returns:
        float64, (B, ...), in [0, 1]; and bool, (B,), which of them are beside their pairs.

    Reference:
        L. Wang, X. Hu, B. Yuan, J. Lu. Active learning via query synthesis and nearest neighbour
        search. Neurocomputing 147, 2015. Differs from the paper: several pairs go on at once, the
        middle is asked about itself and not its nearest neighbor, and there may be several classes.
    """
    middle, way = (a + b) / 2, (b - a).flatten(1)
    diagonal = math.sqrt(way.shape[1])
    length = way.norm(dim=1, keepdim=True)
    beside = length.squeeze(1) < close * diagonal
    drawn = torch.randn(way.shape, generator=rng, dtype=torch.float64)
    unit = way / length.clamp(min=1e-300)
    across = drawn - (drawn * unit).sum(1, keepdim=True) * unit
    across = across / across.norm(dim=1, keepdim=True).clamp(min=1e-300)
    far = torch.rand(len(way), 1, generator=rng, dtype=torch.float64) * reach * diagonal
    moved = (middle + (far * across).view_as(a)).clamp(0, 1)
    return torch.where(beside.view(-1, *[1] * (a.ndim - 1)), moved, middle), beside
