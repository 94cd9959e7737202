"""From scores to positions: the ways of choosing a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dal.query.base import PoolView, Query

BLOCK = 8192
"""Rows of a large array that are worked on at once."""


def check_query(query: Query, view: PoolView, size: int, strategy: str) -> None:
    """Refuse a query that is not ``size`` distinct candidates, with those asked again.

    Raises:
        ValueError: Naming the strategy.
    """
    indices = query.indices
    size -= 0 if query.again is None else len(query.again)
    distinct = len(torch.unique(indices)) == len(indices) == size == len(query.scores)
    if not distinct or not _among(indices, view.indices):
        raise ValueError(
            f"{strategy} must return {size} distinct candidates with a score each; it returned "
            f"{len(indices)} indices and {len(query.scores)} scores"
        )


def check_again(query: Query, asked: Tensor, strategy: str) -> None:
    """Refuse to ask again about samples that have no answer, or twice about one.

    Args:
        query: Whose ``again`` names them.
        asked: bool, (num_total,), the samples that have one.
        strategy: Named in the error.

    Raises:
        ValueError: Naming the strategy.
    """
    again = torch.empty(0, dtype=torch.int64) if query.again is None else query.again
    if len(torch.unique(again)) < len(again) or not asked[again].all():
        raise ValueError(f"{strategy} must ask again about distinct samples that have an answer")


def _among(few: Tensor, many: Tensor) -> bool:
    """Whether all of some numbers are among many, which are looked at in blocks."""
    found = [few[torch.isin(few, block)] for block in torch.split(many, 128 * BLOCK)]
    return len(torch.cat(found)) == len(few)


def check_size(query_size: int, num_candidates: int) -> None:
    """Refuse a query that is empty or larger than the pool.

    Raises:
        ValueError: With both numbers.
    """
    if not 1 <= query_size <= num_candidates:
        raise ValueError(
            f"query_size={query_size} but {num_candidates} unlabeled items remain; "
            "query_size must lie between 1 and that number"
        )


def random_keys(num_total: int, rng: torch.Generator) -> Tensor:
    """Draw one random key for every sample of the training part.

    Keys are drawn over the full index range and then gathered by the caller, so a choice that
    depends on them does not depend on the order or the subset of the candidates.

    Args:
        num_total: Size of the training part.
        rng: CPU generator.

    Returns:
        float64, (num_total,), uniform in [0, 1).
    """
    return torch.rand(num_total, generator=rng, dtype=torch.float64)


def top_k(scores: Tensor, k: int, keys: Tensor) -> tuple[Tensor, int]:
    """Positions of the k highest scores; equal scores in the order of their random keys.

    Cost: one partial selection over N, then a sort of the few that remain.

    Args:
        scores: float, (N,), finite.
        k: How many, from 1 to N.
        keys: float64, (N,), distinct random numbers, see `random_keys`.

    Returns:
        Positions, int64, (k,), by descending score, ties by ascending key; and how many
        candidates shared the lowest score taken, counting 0 when all that shared it were taken:
        the size of the draw that chance decided.

    Raises:
        ValueError: ``k`` is not between 1 and N.
    """
    check_size(k, len(scores))
    parts = torch.split(scores, max(128 * BLOCK, k))
    highest = torch.cat([torch.topk(p, min(k, len(p)), sorted=False).values for p in parts])
    threshold = torch.topk(highest, k, sorted=False).values.min()
    above = (scores > threshold).nonzero().squeeze(1)
    level = (scores == threshold).nonzero().squeeze(1)
    wanted = k - len(above)
    chosen = level[keys[level].argsort()[:wanted]]
    above = above[keys[above].argsort()]
    above = above[scores[above].argsort(descending=True, stable=True)]
    return torch.cat([above, chosen]), len(level) if len(level) > wanted else 0


def pick_max(values: Tensor, keys: Tensor) -> int:
    """Position of the largest value; of equal ones that with the smallest random key.

    Args:
        values: float, (N,), not NaN; -inf for what must not be picked.
        keys: float64, (N,), distinct random numbers, on the same device.
    """
    level = (values == values.max()).nonzero().squeeze(1)
    return int(level[keys[level].argmin()]) if len(level) > 1 else int(level[0])


def draw(weights: Tensor, rng: torch.Generator) -> int:
    """Draw one position with probability proportional to its weight.

    One uniform number is drawn whatever N is, and the cumulative sum is inverted in float64.

    Args:
        weights: float, (N,), >= 0, not all 0.
        rng: CPU generator.
    """
    cumulative = weights.double().cumsum(0)
    threshold = torch.rand((), generator=rng, dtype=torch.float64).to(weights.device)
    position = torch.searchsorted(cumulative, threshold * cumulative[-1], right=True)
    # Rounding may put the threshold at the very end; the last positive weight is meant then.
    return min(int(position), int(weights.nonzero()[-1]))


def blocks(rows: Tensor, size: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Rows of a large array, float16 and memory-mapped ones too, as float32 (or 64) blocks.

    Args:
        rows: float, (N, D).
        size: Rows of a block.

    Yields:
        The number of the first row, and a block of up to ``size`` rows.
    """
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        yield start, block if block.dtype == torch.float64 else block.float()


def seeded_sample(keys_N: Tensor, size: int) -> Tensor | None:
    """Positions with the smallest keys, ascending, int64, (size,); None if there are no more."""
    return None if len(keys_N) <= size else keys_N.argsort()[:size].sort().values


def check_reference(reference: int) -> int:
    """A number of reference samples, refused where it is not positive."""
    if reference < 1:
        raise ValueError(f"strategy.reference={reference}; at least 1 sample is needed")
    return reference
