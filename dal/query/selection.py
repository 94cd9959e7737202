"""From scores to positions: the ways of choosing a batch."""

from __future__ import annotations

import torch
from torch import Tensor


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
    if not 1 <= k <= len(scores):
        raise ValueError(
            f"query_size={k} but {len(scores)} unlabeled items remain; "
            "query_size must lie between 1 and that number"
        )
    threshold = torch.topk(scores, k, sorted=False).values.min()
    above = (scores > threshold).nonzero().squeeze(1)
    level = (scores == threshold).nonzero().squeeze(1)
    wanted = k - len(above)
    chosen = level[keys[level].argsort()[:wanted]]
    above = above[keys[above].argsort()]
    above = above[scores[above].argsort(descending=True, stable=True)]
    return torch.cat([above, chosen]), len(level) if len(level) > wanted else 0
