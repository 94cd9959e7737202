"""Drawing samples at random, plainly or in class proportions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def share(fraction: float, total: int) -> int:
    """A fraction of a total, rounded up.

    Args:
        fraction: In (0, 1).
        total: Number of samples.

    Returns:
        ceil(fraction * total), with products that floating point lifts just above a whole number
        counted as that number.
    """
    return math.ceil(fraction * total - 1e-9)


def apportion(counts: Tensor, total: int) -> Tensor:
    """Divide a total in proportion to class counts by the method of the largest remainder.

    Args:
        counts: int64 (C,), samples there are of each class, at least one in all.
        total: How many to divide, in [0, sum of ``counts``].

    Returns:
        int64 (C,), at most ``counts`` each, summing to ``total``. Equal remainders go to the lower
        class number.
    """
    # Whole numbers throughout, so that no rounding decides who gets the last sample.
    shares = counts * total
    quotas = shares // counts.sum()
    order = torch.argsort(shares % counts.sum(), descending=True, stable=True)
    quotas[order[: total - int(quotas.sum())]] += 1
    return quotas


def draw(
    targets: Tensor, candidates: Tensor, count: int, rng: torch.Generator, stratified: bool
) -> Tensor:
    """Draw samples without replacement.

    Every sample of the full range gets a random rank and the lowest ranks win. So whether a
    sample is drawn does not depend on the order of the candidates, and (unless stratified) a
    larger draw contains a smaller one.

    Args:
        targets: int64 (N,), the class of each sample.
        candidates: int64, at least one, indices in [0, N) that may be drawn; with ``stratified``
            their targets must be known.
        count: How many, in [0, number of candidates].
        rng: Source of the ranks.
        stratified: Give each class its share instead of leaving it to chance.

    Returns:
        int64 (count,), sorted.
    """
    if stratified:
        quotas = apportion(torch.bincount(targets[candidates]), count)
        return draw_by_class(targets, candidates, quotas, rng)
    return _shuffle(candidates, len(targets), rng)[:count].sort().values


def draw_by_class(
    targets: Tensor, candidates: Tensor, quotas: Tensor, rng: torch.Generator
) -> Tensor:
    """Draw a given number of samples of each class, without replacement.

    Args:
        targets: int64 (N,), the class of each sample.
        candidates: int64, indices in [0, N) with known targets that may be drawn.
        quotas: int64 (C,), how many of each class, at most as many as there are.
        rng: Source of the ranks, see `draw`.

    Returns:
        int64 (sum of ``quotas``,), sorted.
    """
    shuffled = _shuffle(candidates, len(targets), rng)
    classes = targets[shuffled]
    picked = [shuffled[classes == label][:quota] for label, quota in enumerate(quotas.tolist())]
    return torch.cat(picked).sort().values


def _shuffle(candidates: Tensor, total: int, rng: torch.Generator) -> Tensor:
    ranks = torch.randperm(total, generator=rng)
    if len(candidates) < total // 2:
        return candidates[ranks[candidates].argsort()]
    # Ranks are a permutation: which sample has which rank is found without sorting millions.
    of_rank = torch.empty_like(ranks)
    of_rank[ranks] = torch.arange(total)
    del ranks
    drawn = torch.zeros(total, dtype=torch.bool)
    drawn[candidates] = True
    return of_rank[drawn[of_rank]]
