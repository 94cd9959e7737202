"""Purity: "none of these classes", once said, keeps alike samples out of later queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dal.query.base import PoolView, Query, Strategy, check_need
from dal.query.logistic import Logistic
from dal.query.needs import Features, Labels, Needs, of_candidates
from dal.query.selection import check_size

PROBE: Needs = frozenset({Features(), Features("labeled"), Features("rejected"), Labels()})
"""What `reject_probs` is made of."""


def reject_probs(
    labeled_MD: Tensor, labels_M: Tensor, rejected_RD: Tensor, candidates_ND: Tensor
) -> Tensor:
    """Probability that each candidate is none of the classes.

    By logistic regression on features (`Logistic`) with one class more than there are, for what
    was rejected: it tells junk from each class, where a plane between junk and all classes together
    often does not exist. O(N D C) besides the fit.

    Args:
        labeled_MD: float, (M, D), features of the labeled samples, M >= 1.
        labels_M: int64, (M,), their classes.
        rejected_RD: float, (R, D), features of the rejected samples, R >= 1.
        candidates_ND: float, (N, D).

    Returns:
        float64, (N,), in [0, 1], on the CPU.
    """
    last = torch.full((len(rejected_RD),), int(labels_M.max()) + 1)
    rows, classes = torch.cat([labeled_MD, rejected_RD]), torch.cat([labels_M.cpu(), last])
    return Logistic(rows, classes).probs(candidates_ND)[:, -1]


class Pure(Strategy):
    """Query by another strategy, but only what is likely one of the classes.

    Pools of one's own hold junk, uncertain strategies love it, and each piece asked about is paid
    for and teaches nothing. Where people answer "none of these", a probe on the model's features
    learns what they reject (`reject_probs`); in each round the base strategy sees the candidates
    below the threshold alone. Nobody is hidden for good: every round judges anew. Where fewer than
    a query are left, the purest candidates are asked about. Before the first rejection it is the
    base strategy itself. Hurts where samples of a class look like junk, as those of a class do
    that nobody has named yet. Costs a fit of the probe and features of all candidates.

    Args:
        base: Any strategy for one class a sample.
        threshold: Probability of being none of the classes from which candidates are left out, in
            (0, 1]; 1 leaves out nothing.

    Raises:
        TypeError: ``base`` is no strategy.
        ValueError: ``threshold`` is out of range, or the base strategy is for several labels.

    Reference:
        K.-P. Ning, X. Zhao, Y. Li and S.-J. Huang. Active learning for open-set annotation. CVPR
        2022 (a detector with a class for what was rejected).

    Differs from the paper: the detector is a probe on the features of the model itself, and it
    filters for a strategy, where theirs is a second network and queries what it is surest of.
    """

    tasks = frozenset({"multiclass"})

    def __init__(self, base: Strategy, threshold: float = 0.5) -> None:
        if not isinstance(base, Strategy):
            raise TypeError(
                f"strategy.base={base!r} is no strategy; set it by strategy@strategy.base=margin"
            )
        if "multiclass" not in base.tasks:
            raise ValueError(
                f"{type(base).__name__} is for several labels a sample, where nothing is rejected; "
                "use it alone"
            )
        if not 0 < threshold <= 1:
            raise ValueError(f"strategy.threshold={threshold} must be above 0 and at most 1")
        self.base, self.threshold = base, threshold
        self.needs: Needs = base.needs | PROBE

    def ready(self, view: PoolView) -> bool:
        """Whether the base strategy is."""
        return self.base.ready(view)

    def state_dict(self) -> dict[str, Any]:
        """What the base strategy must remember."""
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the base strategy its state back."""
        self.base.load_state_dict(state)

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Let the base strategy choose from the pure candidates."""
        check_size(query_size, len(view))
        for need in sorted(filter(of_candidates, self.needs), key=repr):
            check_need(view[need], view.indices, need, type(self).__name__)
        if not len(view[Features("rejected")]):
            return self.base.select(view, query_size, rng)
        view = view.ascending()
        junk = reject_probs(
            view[Features("labeled")], view[Labels()], view[Features("rejected")], view[Features()]
        )
        pure = int((junk < self.threshold).sum()) if self.threshold < 1 else len(junk)
        kept = junk.argsort(stable=True)[: max(pure, query_size)].sort().values
        query = self.base.select(view.part(kept.to(view.indices.device)), query_size, rng)
        return replace(query, pool_scores=None, info={**query.info, "pure": pure})
