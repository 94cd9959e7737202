"""Uncertainty sampling: how undecided the current model is about each candidate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dal.query.base import PoolView, Query, ScoreStrategy, Strategy, random_query
from dal.query.needs import Probs

BLOCK_NUMBERS = 2**19
"""Probabilities worked on at once: what is made of them on the way stays in the caches."""


def least_confidence(probs_NC: Tensor) -> Tensor:
    """One minus the highest class probability.

    Helps when the top class decides the error; cheap, O(N C), and for two classes it ranks like
    margin and entropy. Blind to how the rest of the probability is spread, and to redundancy
    within a batch. Computed as the sum of the other probabilities: 1 - max p is 0 for every sample
    whose highest probability rounds to 1, while the others keep all their digits.

    Args:
        probs_NC: float, (N, C), rows sum to one.

    Returns:
        float64, (N,), in [0, 1 - 1/C]; higher = query first.

    Reference:
        D. D. Lewis and W. A. Gale. A sequential algorithm for training text classifiers.
        SIGIR 1994. As stated in B. Settles, Active learning literature survey, 2009, section 3.1.
    """
    first, _, others = _parts(probs_NC)
    return others / (first + others)


def margin(probs_NC: Tensor) -> Tensor:
    """Minus the difference of the two highest class probabilities.

    Helps where two classes are confused with each other; O(N C). Often the strongest of the
    uncertainty scores in practice. Computed as `indecision` - 1, which has the order of the
    candidates down to 1e-16 above -1; `Margin` ranks by the indecision itself.

    Args:
        probs_NC: float, (N, C), C >= 2, rows sum to one.

    Returns:
        float64, (N,), in [-1, 0]; higher = query first.

    Reference:
        T. Scheffer, C. Decomain and S. Wrobel. Active hidden Markov models for information
        extraction. IDA 2001. Settles 2009, section 3.1.
    """
    return indecision(probs_NC) - 1


def indecision(probs_NC: Tensor) -> Tensor:
    """One minus the difference of the two highest probabilities: `margin` above its lower bound.

    Computed as the sum of all but the highest, plus the second, so that samples whose highest
    probability rounds to 1 keep their order: float32 holds the others down to 1e-38.

    Args:
        probs_NC: float, (N, C), C >= 2, rows sum to one.

    Returns:
        float64, (N,), in [0, 1].
    """
    first, second, others = _parts(probs_NC)
    return (others + second) / (first + others)


def _parts(probs_NC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The highest probability, the second, and the sum of all but the highest: float64, (N,).

    Float64 makes the sum one of exact numbers in any order, so that equal rows tie however their
    classes are arranged. Rows of a softmax in float32 sum to one only up to 1e-7, hence callers
    divide by the sum of all.
    """
    size = max(BLOCK_NUMBERS // probs_NC.shape[1], 1)
    parts = [_parts_of(block) for block in torch.split(probs_NC, size)]
    first, second, others = (torch.cat(column) for column in zip(*parts, strict=True))
    return first, second, others


def _parts_of(probs_BC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    highest = probs_BC.max(1, keepdim=True)
    rest_BC = probs_BC.scatter(1, highest.indices, 0)
    first = highest.values[:, 0].double()
    others = rest_BC.sum(1, dtype=torch.float64) + 0 * first  # NaN where the highest is infinite
    return first, rest_BC.amax(1).double(), others


def entropy(probs_NC: Tensor) -> Tensor:
    """Shannon entropy of the class probabilities, in nats.

    Looks at all classes; with many of them it can favor samples torn between unlikely ones. O(N C).

    Args:
        probs_NC: float, (N, C), rows sum to one; 0 ln 0 counts as 0.

    Returns:
        float, (N,), in [0, ln C]; higher = query first.

    Reference:
        C. E. Shannon. A mathematical theory of communication. 1948. Settles 2009, section 3.1.
    """
    summands: Tensor = torch.special.entr(probs_NC)
    return summands.sum(1)


class Random(Strategy):
    """Query a uniformly random subset: the baseline every strategy must beat."""

    tasks = frozenset({"multiclass", "multilabel"})

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """See `random_query`."""
        return random_query(view, query_size, rng)


class LeastConfidence(ScoreStrategy):
    """Query where the most probable class is least probable; see `least_confidence`."""

    needs = frozenset({Probs()})

    def score(self, view: PoolView) -> Tensor:
        """See `least_confidence`."""
        return least_confidence(view[Probs()])

    def reach(self, num_classes: int) -> float:
        """See `ScoreStrategy.reach`."""
        return 1.0


class Margin(ScoreStrategy):
    """Query where the two most probable classes are closest; see `margin`."""

    needs = frozenset({Probs()})
    lower_bound = -1.0

    def score(self, view: PoolView) -> Tensor:
        """See `margin`."""
        return margin(view[Probs()])

    def heights(self, view: PoolView, scores: Tensor) -> Tensor:
        """See `indecision`."""
        return indecision(view[Probs()])

    def reach(self, num_classes: int) -> float:
        """See `ScoreStrategy.reach`."""
        return 1.0


class Entropy(ScoreStrategy):
    """Query where the predicted distribution is most spread; see `entropy`."""

    needs = frozenset({Probs()})

    def score(self, view: PoolView) -> Tensor:
        """See `entropy`."""
        return entropy(view[Probs()])

    def reach(self, num_classes: int) -> float:
        """See `ScoreStrategy.reach`."""
        return math.log(num_classes)
