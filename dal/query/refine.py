"""REFINE: whatever any of several strategies wants is kept, again and again, and the rest goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView, Strategy
from dal.query.combination import Combination


class Refine(Combination, BatchStrategy):
    """Filter the pool by what several strategies choose of random parts of it, then choose.

    Each step every strategy chooses ``batches`` times b candidates, each time of another random
    part of those that are left; what any of them has chosen is left for the next step. After
    ``depth`` steps a last strategy, one that covers, chooses of what many would have chosen. So no
    single criterion has to be right, and none needs scores that compare with others'. Helps where
    it is not known which strategy suits. Costs depth · batches queries of every strategy on such
    parts, and the needs of all of them.

    Args:
        criteria: Strategies that filter, by name; at least one.
        then: Chooses among what is left.
        depth: Steps; 0 for ``then`` alone, on all candidates.
        batches: Queries of each strategy in a step.
        share: Size of the parts from the second step on, as a share of what is left, in (0, 1]; b
            at least.
        part: Size of the parts in the first step.

    Raises:
        ValueError: A setting is out of range, or no kind of task suits all strategies.
        TypeError: One of them is no strategy.

    Reference:
        D. Huseljic et al. Cleaning the pool: progressive filtering of unlabeled pools in deep
        active learning. CVPR 2026 (arXiv:2511.22344).

    Differs from the paper: ``batches`` counts those of each strategy; there it is 100 of all nine
    together. Theirs bounds what is left to 10,000, which here the number of batches does.
    """

    def __init__(
        self,
        criteria: Mapping[str, Strategy],
        then: Strategy,
        depth: int = 5,
        batches: int = 10,
        share: float = 0.4,
        part: int = 5000,
    ) -> None:
        if not criteria:
            raise ValueError("Refine has no criteria; give at least one, such as margin")
        named = {f"criteria.{name}": criterion for name, criterion in criteria.items()}
        super().__init__(named | {"then": then}, "strategy")
        if depth < 0 or min(batches, part) < 1:
            raise ValueError(
                f"strategy.depth={depth}, strategy.batches={batches}, strategy.part={part}; none "
                "may be negative, and the last two must be at least 1"
            )
        if not 0 < share <= 1:
            raise ValueError(f"strategy.share={share} must be above 0 and at most 1")
        self.then = then
        self.filters = [c for name, c in self.criteria.items() if name != "then"]
        self.depth, self.batches, self.share, self.part = depth, batches, share, part

    def ready(self, view: PoolView) -> bool:
        """Each strategy answers for itself."""
        return True

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; ``left`` tells how many the last strategy chose among."""
        left, size = view, self.part
        for _ in range(self.depth):
            left = self._filtered(left, max(size, query_size), query_size, rng)
            size = int(self.share * len(left))
        query = self.then.select(left, query_size, rng)
        positions = torch.searchsorted(view.indices, query.indices.to(view.indices.device))
        return positions, query.scores, {**query.info, "left": len(left)}

    def _filtered(
        self, view: PoolView, size: int, query_size: int, rng: torch.Generator
    ) -> PoolView:
        """What any strategy chooses of random parts of some size, in ascending order."""
        device = view.indices.device
        wanted = torch.zeros(len(view), dtype=torch.bool, device=device)
        for strategy in self.filters:
            for _ in range(self.batches):
                drawn = torch.randperm(len(view), generator=rng)[:size].sort().values
                query = strategy.select(view.part(drawn.to(device)), query_size, rng)
                wanted[torch.searchsorted(view.indices, query.indices.to(device))] = True
        return view.part(wanted.nonzero().squeeze(1))
