"""Purity: "none of these classes", once said, keeps alike samples out of later queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dal.query.base import PoolView, Query, Strategy, check_need
from dal.query.needs import Features, Labels, Needs, of_candidates
from dal.query.selection import blocks, check_size

PROBE: Needs = frozenset({Features(), Features("labeled"), Features("rejected"), Labels()})
"""What `reject_probs` is made of."""
STEPS = 200
"""Iterations of L-BFGS at most; a few dozen are usual."""


def reject_probs(
    labeled_MD: Tensor, labels_M: Tensor, rejected_RD: Tensor, candidates_ND: Tensor
) -> Tensor:
    """Probability that each candidate is none of the classes.

    By logistic regression on features with one class more than there are, for what was rejected:
    it tells junk from each class, where a line between junk and all classes together often cannot
    be drawn. Features are centered and scaled by one number, so that their units play no part; the
    squared weights cost one half each, the intercepts nothing. O((M + R) D C) an iteration and
    O(N D C) for the candidates, in float64 on the CPU.

    Args:
        labeled_MD: float, (M, D), features of the labeled samples, M >= 1.
        labels_M: int64, (M,), their classes.
        rejected_RD: float, (R, D), features of the rejected samples, R >= 1.
        candidates_ND: float, (N, D).

    Returns:
        float64, (N,), in [0, 1], on the CPU.
    """
    rows = torch.cat([labeled_MD, rejected_RD]).cpu().double()
    mean = rows.mean(0)
    scale = float((rows - mean).square().mean().sqrt()) or 1.0  # of rows that are all the same
    classes, numbers = torch.unique(labels_M.cpu(), return_inverse=True)
    reject = torch.full((len(rejected_RD),), len(classes))
    weights, intercepts = _fitted((rows - mean) / scale, torch.cat([numbers, reject]))
    found = [
        (((block.cpu().double() - mean) / scale) @ weights + intercepts).softmax(1)[:, -1]
        for _, block in blocks(candidates_ND)
    ]
    return torch.cat(found)


def _fitted(rows_MD: Tensor, classes_M: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (D, C) and intercepts (C,) of the penalized logistic regression; float64."""
    count = int(classes_M.max()) + 1
    weights = torch.zeros(rows_MD.shape[1], count, dtype=torch.float64, requires_grad=True)
    intercepts = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, intercepts], max_iter=STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = rows_MD @ weights + intercepts
        value = torch.nn.functional.cross_entropy(logits, classes_M, reduction="sum")
        value = value + weights.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), intercepts.detach()


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
