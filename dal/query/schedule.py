"""A schedule: one strategy for the first labels, another for those after."""

from __future__ import annotations

from dataclasses import replace

import torch

from dal.query.base import PoolView, Query, Strategy
from dal.query.combination import Combination
from dal.query.needs import Labels


class Schedule(Combination):
    """Query by one strategy until there are so many labels, and by another from then on.

    What suits few labels (random, typical or covering samples) seldom suits many, where the model's
    doubts are worth something. A good moment to change is not known beforehand; too late wastes
    what the second could do. Each round computes the needs of the strategy alone that chooses in
    it. Which one that is follows from the number of labels in the ledger, so a run that goes on,
    and a larger query, change at the same place. For three strategies let ``then`` be a schedule.

    Args:
        first: Chooses while there are fewer than ``labels``.
        then: Chooses from then on.
        labels: Labels that are trained on, those of the start included; 0 for ``then`` alone.

    Raises:
        ValueError: ``labels`` is negative, or no kind of task suits both.
        TypeError: One of them is no strategy.

    Reference:
        G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies suit
        high and low budgets. ICML 2022 (why to change); the rule is the simplest there is.
    """

    def __init__(self, first: Strategy, then: Strategy, labels: int) -> None:
        super().__init__({"first": first, "then": then}, "strategy")
        if labels < 0:
            raise ValueError(f"strategy.labels={labels} must be at least 0")
        self.labels = labels
        self.needs |= {Labels()}

    def current(self, labels: int) -> Strategy:
        """See `Strategy.current`."""
        return self.criteria[self._name(labels)].current(labels)

    def ready(self, view: PoolView) -> bool:
        """Whether the strategy is that chooses now."""
        return self.current(len(view[Labels()])).ready(view)

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Let the strategy choose whose turn it is; ``criterion`` tells which."""
        labels = len(view[Labels()])
        query = self.current(labels).select(view, query_size, rng)
        return replace(query, info={**query.info, "criterion": self._name(labels)})

    def _name(self, labels: int) -> str:
        return "first" if labels < self.labels else "then"
