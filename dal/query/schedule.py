"""A schedule: one strategy for the first labels, another for those after."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from dal.query.base import PoolView, Query, Strategy, check_need
from dal.query.combination import Combination
from dal.query.needs import History, Labels, of_candidates
from dal.stopping import signals

PAIR = History(2)


class Schedule(Combination):
    """Query by one strategy until there are so many labels, and by another from then on.

    What suits few labels (random, typical or covering samples) seldom suits many, where the model's
    doubts are worth something. A good moment to change is not known beforehand; too late wastes
    what the second could do. Each round computes the needs of the strategy alone that chooses in
    it. Which one that is follows from the number of labels in the ledger, so a run that goes on,
    and a larger query, change at the same place. For three strategies let ``then`` be a schedule.

    The moment can be measured besides: once two models in a row predict the candidates alike, by
    Cohen's kappa, the labels tell classes apart, and what is left to learn lies at the borders.
    That costs the predictions of one round, kept. It is found out after the pass, so ``then``
    chooses from the next round on, and does to the end.

    Args:
        first: Chooses while there are fewer than ``labels``, and models do not agree yet.
        then: Chooses from then on.
        labels: Labels that are trained on, those of the start included; 0 for ``then`` alone.
        kappa: That of two models in a row at which to change before that, in (0, 1]; None for
            the number of labels alone.

    Raises:
        ValueError: ``labels`` is negative, ``kappa`` out of range, or no kind of task suits
            both.
        TypeError: One of them is no strategy.

    Reference:
        G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies suit
        high and low budgets. ICML 2022 (why to change); the rule is the simplest there is.
        P. Doucet, B. Estermann, T. Aczel and R. Wattenhofer. Bridging diversity and uncertainty in
        active learning with self-supervised pre-training. arXiv:2403.03728, 2024 (TypiClust, then
        margin; they change at a number of labels that they give for each data set).
    """

    def __init__(
        self, first: Strategy, then: Strategy, labels: int, kappa: float | None = None
    ) -> None:
        super().__init__({"first": first, "then": then}, "strategy")
        if labels < 0:
            raise ValueError(f"strategy.labels={labels} must be at least 0")
        if kappa is not None and not 0 < kappa <= 1:
            raise ValueError(f"strategy.kappa={kappa} must be above 0 and at most 1")
        self.labels, self.kappa = labels, kappa
        self.needs |= {Labels()} if kappa is None else {Labels(), PAIR}
        self._agreed = False

    def state_dict(self) -> dict[str, Any]:
        """The states of both, and whether models have agreed."""
        return super().state_dict() | ({"agreed": True} if self._agreed else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict({name: own for name, own in state.items() if name != "agreed"})
        self._agreed = bool(state.get("agreed", False))

    def current(self, labels: int) -> Strategy:
        """See `Strategy.current`."""
        return self.criteria[self._name(labels)].current(labels)

    def ready(self, view: PoolView) -> bool:
        """Whether the strategy is that chooses now."""
        return self.current(len(view[Labels()])).ready(view)

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Let the strategy choose whose turn it is; ``criterion`` tells which."""
        labels = len(view[Labels()])
        if self.kappa is not None:
            for need in sorted(filter(of_candidates, self.needs), key=repr):
                if need in view:  # what the strategy needs that chooses now, and the predictions
                    check_need(view[need], view.indices, need, type(self).__name__)
        query = self.current(labels).select(view, query_size, rng)
        info: dict[str, Any] = {"criterion": self._name(labels)}
        if self.kappa is not None and not math.isnan(found := _kappa(view)):
            info["kappa"] = found
            self._agreed |= found >= self.kappa
        return replace(query, info={**query.info, **info})

    def _name(self, labels: int) -> str:
        return "first" if labels < self.labels and not self._agreed else "then"


def _kappa(view: PoolView) -> float:
    """Kappa of the last two models' predictions for the candidates; NaN before there are two."""
    models = view[PAIR]
    if len(models) < 2:
        return math.nan
    before, now = (m > 0.5 if view.multilabel else m.argmax(1) for m in models[-2:])
    return signals.kappa(before, now)
