"""Uncertainty for samples with any number of labels: one sigmoid probability a label."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import Probs


def multilabel_margin(probs_NL: Tensor) -> Tensor:
    """Minus the distances of all label probabilities to one half, summed.

    Helps when a sample with many undecided labels is worth more than one with a single such label;
    O(N L). With many labels that hardly ever occur, most of the sum comes from labels the model
    has learned nothing about, and samples that are hard in one label only are passed over.
    Computed as `multilabel_indecision` - L/2.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.

    Returns:
        float64, (N,), in [-L/2, 0]; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: confidences of all labels, averaged.

    Differs from the paper:
        The sum stands for the mean, which ranks the same.
    """
    return multilabel_indecision(probs_NL) - 0.5 * probs_NL.shape[1]


def multilabel_indecision(probs_NL: Tensor) -> Tensor:
    """Sum over labels of min(p, 1 - p): `multilabel_margin` above its lower bound.

    Keeps the order of samples whose labels all are nearly decided; of a probability that rounds
    to 1 the float32 number has nothing left to keep.

    Args:
        probs_NL: float, (N, L), in [0, 1].

    Returns:
        float64, (N,), in [0, L/2].
    """
    return torch.minimum(probs_NL, 1 - probs_NL).sum(1, dtype=torch.float64)


def binary_entropy(probs: Tensor) -> Tensor:
    """Entropy of yes or no, elementwise: -p ln p - (1 - p) ln(1 - p), in nats.

    Args:
        probs: float, any shape, in [0, 1]; 0 ln 0 counts as 0.

    Returns:
        Same dtype and shape, in [0, ln 2].
    """
    # log1p keeps the digits of ln(1 - p) that are lost in 1 - p where p is small.
    no: Tensor = torch.special.xlog1py(1 - probs, -probs)
    yes: Tensor = torch.special.entr(probs)
    return yes - no


def mean_binary_entropy(probs_NL: Tensor) -> Tensor:
    """Mean over labels of the binary entropy of each, in nats.

    Helps like `multilabel_margin`, with less weight on labels that are nearly decided; O(N L).
    Hurts where one undecided label among many decided ones matters.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.

    Returns:
        float, (N,), in [0, ln 2]; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: averaged over labels.

    Differs from the paper:
        Uncertainty is the binary entropy of the label's probability, not a classifier's margin.
    """
    return binary_entropy(probs_NL).mean(1)


def max_binary_entropy(probs_NL: Tensor) -> Tensor:
    """Binary entropy of the least decided label, in nats.

    Helps when any wrong label spoils a sample; O(N L), and ranks by the label closest to one half.
    With many labels nearly every sample has one that is undecided, and noisy labels draw all
    queries.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.

    Returns:
        float, (N,), in [0, ln 2]; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: the least confident label decides.

    Differs from the paper:
        Uncertainty is the binary entropy of the label's probability, not a classifier's margin.
    """
    return binary_entropy(probs_NL).max(1).values


class MultilabelMargin(ScoreStrategy):
    """Query where the labels' probabilities lie closest to one half; see `multilabel_margin`.

    Attributes:
        lower_bound: NaN: it is -L/2 for L labels; `heights` is the distance of scores from it.
    """

    needs = frozenset({Probs()})
    tasks = frozenset({"multilabel"})
    lower_bound = torch.nan

    def score(self, view: PoolView) -> Tensor:
        """See `multilabel_margin`."""
        return multilabel_margin(view[Probs()])

    def heights(self, view: PoolView, scores: Tensor) -> Tensor:
        """See `multilabel_indecision`."""
        return multilabel_indecision(view[Probs()])


class MeanBinaryEntropy(ScoreStrategy):
    """Query where the labels are least decided on average; see `mean_binary_entropy`."""

    needs = frozenset({Probs()})
    tasks = frozenset({"multilabel"})

    def score(self, view: PoolView) -> Tensor:
        """See `mean_binary_entropy`."""
        return mean_binary_entropy(view[Probs()])


class MaxBinaryEntropy(ScoreStrategy):
    """Query where one label is least decided; see `max_binary_entropy`."""

    needs = frozenset({Probs()})
    tasks = frozenset({"multilabel"})

    def score(self, view: PoolView) -> Tensor:
        """See `max_binary_entropy`."""
        return max_binary_entropy(view[Probs()])
