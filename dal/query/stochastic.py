"""Stochastic batches: a batch drawn by the scores instead of the highest of them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView, ScoreStrategy
from dal.query.over_score import OverScore
from dal.query.selection import random_keys, top_k

Rule = Literal["power", "softmax", "softrank"]
RULES = ("power", "softmax", "softrank")


def gumbel(num_total: int, rng: torch.Generator) -> Tensor:
    """Standard Gumbel noise for every sample of the training part: float64, (num_total,), finite.

    The positions of the k largest of log w + noise are k draws without replacement, each with
    probability proportional to the weight w (Plackett-Luce); see W. Kool, H. van Hoof and
    M. Welling, Stochastic beams and where to find them, ICML 2019.
    """
    uniform = random_keys(num_total, rng).clamp(min=torch.finfo(torch.float64).tiny)
    return -(-uniform.log()).log()


def log_weights(scores: Tensor, keys: Tensor, rule: Rule, lower_bound: float = 0.0) -> Tensor:
    """Logarithms of the weights by which samples are drawn, at beta = 1.

    Args:
        scores: float, (N,), finite.
        keys: float64, (N,), distinct random numbers: equal scores are ranked by them.
        rule: ``power``: the score above its lower bound; ``softmax``: e to the score;
            ``softrank``: one over the rank of the score, the highest being 1.
        lower_bound: Of the scores, finite for ``power``.

    Returns:
        float64, (N,); -inf for ``power`` where a score is at its bound.
    """
    if rule == "power":
        return (scores.double() - lower_bound).clamp(min=0).log()
    if rule == "softmax":
        return scores.double()
    order, _ = top_k(scores, len(scores), keys)
    ranks = torch.empty_like(keys)
    ranks[order] = torch.arange(1, len(scores) + 1, dtype=ranks.dtype, device=ranks.device)
    return -ranks.log()


def draw_without_replacement(log_weights: Tensor, noise: Tensor, k: int) -> Tensor:
    """Draw k positions, each with probability proportional to its weight among those left.

    Weights of zero are drawn, uniformly, only when no others are left.

    Args:
        log_weights: float64, (N,), -inf for a weight of zero.
        noise: float64, (N,), standard Gumbel noise.
        k: How many, from 1 to N.

    Returns:
        int64, (k,), distinct, in the order of drawing.
    """
    perturbed = log_weights + noise
    empty = perturbed == -torch.inf
    first = perturbed.argsort(descending=True, stable=True)[: len(perturbed) - int(empty.sum())]
    last = torch.where(empty, noise, -torch.inf).argsort(descending=True, stable=True)
    return torch.cat([first, last])[:k]


class StochasticBatch(OverScore, BatchStrategy):
    """Draw the batch without replacement, by weights that grow with a score.

    The highest scores are often one another's neighbors, and scores are meant for one label, not
    for a batch: a draw spreads out at no cost beside the score's own. Often as good as methods
    that look at the batch as a whole, such as BatchBALD. With a large ``beta`` it becomes the top
    of the scores, at 0 a random batch. Hurts where b is small: noise replaces the best samples.

    With s the score and r its rank from the top, weights are:

    - ``power``: (s - lower bound) ** beta; a sample at the bound is worthless and comes last. For
      scores whose size means something; the most robust of the rules in the paper.
    - ``softmax``: exp(beta s). Depends on the scale of s, so beta has to suit it.
    - ``softrank``: r ** -beta. Looks at the order of the scores alone.

    Args:
        score: The strategy whose score is drawn by.
        rule: ``power``, ``softmax`` or ``softrank``.
        beta: Coldness, >= 0.

    Raises:
        ValueError: The rule is unknown, beta is out of range, or the score has no lower bound and
            the rule needs one.
        TypeError: The strategy gives no score.

    Reference:
        A. Kirsch, S. Farquhar, P. Atighehchian, A. Jesson, F. Branchaud-Charron and Y. Gal.
        Stochastic batch acquisition: a simple baseline for deep active learning. TMLR 2023,
        section 3, table 1.

    Differs from the paper: scores with a lower bound other than 0, such as the margin's -1, are
    shifted by it under ``power``.
    """

    def __init__(self, score: ScoreStrategy, rule: Rule = "power", beta: float = 1.0) -> None:
        super().__init__(score)
        if rule not in RULES:
            raise ValueError(f"strategy.rule={rule!r}; choose {', '.join(RULES)}")
        if not 0 <= beta < torch.inf:
            raise ValueError(f"strategy.beta={beta}; give a finite number from 0")
        if rule == "power" and score.lower_bound == -torch.inf:
            raise ValueError(
                f"strategy.rule=power needs scores with a lower bound, and "
                f"{type(score).__name__} has none; choose softmax or softrank"
            )
        self.rule, self.beta = rule, beta

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Draw the batch; scores are those drawn by, before the noise."""
        scores = self.base.checked_scores(view)
        indices = view.indices.cpu()
        keys = random_keys(view.num_total, rng)[indices].to(scores.device)
        noise = gumbel(view.num_total, rng)[indices].to(scores.device)
        weights = log_weights(self.base.heights(view, scores), keys, self.rule)
        # A weight of zero to the power of beta = 0 is 1. Above 1, beta divides the noise instead,
        # so that nothing overflows.
        scaled = min(self.beta, 1.0) * weights if self.beta else torch.zeros_like(weights)
        positions = draw_without_replacement(scaled, noise / max(self.beta, 1.0), query_size)
        return positions, scores[positions], {}
