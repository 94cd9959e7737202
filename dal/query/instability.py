"""Instability sampling: how much the predictions of the last models disagree in a bad direction."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import History

Distance = Literal["wasserstein", "kl", "js"]
Ground = Literal["discrete", "ordinal", "sorted"]
DISTANCES = ("wasserstein", "kl", "js")
GROUNDS = ("discrete", "ordinal", "sorted")


def wasserstein(p: Tensor, q: Tensor, ground: Ground = "discrete") -> Tensor:
    """First Wasserstein distance between class distributions.

    Args:
        p: float, (..., C), sums to one over the last axis.
        q: Same shape.
        ground: Cost of moving probability between classes i and j. ``discrete``: 1 where i != j,
            so the distance is the total variation; ``ordinal``: |i - j|, for classes with an
            order; ``sorted``: what ``scipy.stats.wasserstein_distance(p, q)`` gives when called
            with the two vectors as samples, the mean |difference| of the sorted probabilities.

    Returns:
        float, (...), >= 0: up to 1, C - 1 and 1/C * 2 respectively.

    Reference:
        C. Villani. Optimal transport, old and new. Springer 2009, chapter 6 and theorem 4.1.
    """
    if ground == "discrete":
        return (p - q).abs().sum(-1) / 2
    if ground == "ordinal":
        return (p - q).cumsum(-1)[..., :-1].abs().sum(-1)
    return (p.sort(-1).values - q.sort(-1).values).abs().mean(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(p || q) in nats.

    Args:
        p: float, (..., C), sums to one over the last axis.
        q: Same shape. A softmax is never 0, but rounds to it: probabilities of q below the
            smallest normal float32 (1.2e-38) count as that number, which keeps the result finite.

    Returns:
        float, (...), >= 0 up to rounding.
    """
    floor = torch.finfo(torch.float32).tiny
    return (torch.xlogy(p, p) - p * q.clamp(min=floor).log()).sum(-1)


def js(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats: float, (...), in [0, ln 2].

    Args:
        p: float, (..., C), sums to one over the last axis.
        q: Same shape.
    """
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def instability(
    history_TNC: Tensor, distance: Distance = "wasserstein", ground: Ground = "discrete"
) -> Tensor:
    """Sum of the changes between successive models that raised the entropy.

    s = sum over k = 1..T-1 of [H(P_(t-k)) > H(P_(t-k-1))] D(P_(t-k), P_(t-k-1)): a model that is
    less sure than the one before it has become worse at the sample, by the distance between the
    two predictions. Costs O(T N C) on cached predictions; no old model is run again. Helps when
    successive models differ; many scores are exactly 0, so ties are common.

    Args:
        history_TNC: float, (T, N, C), probabilities of the last T models, oldest first.
        distance: D: ``wasserstein`` with the given ground, ``kl`` (nats), or ``js`` (nats).
        ground: See `wasserstein`; no effect on the other distances.

    Returns:
        float64, (N,), >= 0 up to rounding; higher = query first. All zero for T = 1.

    Reference:
        H. He and S.-J. Huang. Active learning based on instability sampling (in Chinese), 2022,
        equations 1 to 6.

    Differs from the paper: it names no ground metric for the Wasserstein distance; ``discrete`` is
    our default because class numbers carry no order.
    """
    history = history_TNC.double()
    entropies_TN = torch.special.entr(history).sum(-1)
    rose = ~(entropies_TN[1:] <= entropies_TN[:-1])  # so that NaN shows in the score
    new, old = history[1:], history[:-1]
    if distance == "wasserstein":
        change = wasserstein(new, old, ground)
    else:
        change = {"kl": kl, "js": js}[distance](new, old)
    return torch.where(rose, change, 0.0).sum(0)


class Instability(ScoreStrategy):
    """Query the samples whose predictions were least stable; see `instability`.

    While fewer than two models have been fitted the query is random, and recorded as such.

    Args:
        window: N, how many of the last models to compare; at least 2. Fewer while there are fewer.
        distance: ``wasserstein``, ``kl`` or ``js``.
        ground: ``discrete``, ``ordinal`` or ``sorted``, for ``wasserstein``.

    Raises:
        ValueError: The window is below 2, or a distance or ground is unknown.
    """

    def __init__(
        self,
        window: int = 3,
        distance: Distance = "wasserstein",
        ground: Ground = "discrete",
    ) -> None:
        if window < 2:
            raise ValueError(
                f"strategy.window={window}: instability compares successive models, "
                "so the window must be at least 2"
            )
        if distance not in DISTANCES:
            raise ValueError(f"strategy.distance={distance!r}; choose {', '.join(DISTANCES)}")
        if ground not in GROUNDS:
            raise ValueError(f"strategy.ground={ground!r}; choose {', '.join(GROUNDS)}")
        self.window = window
        self.distance: Distance = distance
        self.ground: Ground = ground
        self.needs = frozenset({History(window)})

    def score(self, view: PoolView) -> Tensor:
        """See `instability`."""
        return instability(view[History(self.window)], self.distance, self.ground)
