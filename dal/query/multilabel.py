"""Uncertainty for samples with any number of labels: one sigmoid probability a label."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import Labels, Needs, Probs


def label_weights(targets_ML: Tensor, balance: float) -> Tensor:
    """How much each label counts in a score, so that rare ones are not outvoted.

    By its frequency so far, one sample with it and one without added (Laplace's rule), so that no
    label is infinitely rare: w_l = ((M + 2) / (n_l + 1)) ** balance, divided by their mean.

    Args:
        targets_ML: int64, (M, L), 0 or 1, of the labeled samples.
        balance: 0: all labels count alike; 1: by the inverse of their frequency.

    Returns:
        float64, (L,), > 0, of mean 1.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009 (scores of all labels combined, each with a weight).

    Differs from the paper: labels weigh by how rare they are, not by how badly they are learned.
    """
    counts = targets_ML.sum(0).double()
    weights = ((len(targets_ML) + 2) / (counts + 1)) ** balance
    return weights / weights.mean()


def multilabel_margin(probs_NL: Tensor, weights_L: Tensor | None = None) -> Tensor:
    """Minus the distances of all label probabilities to one half, summed.

    Helps when a sample with many undecided labels is worth more than one with a single such label;
    O(N L). With many labels that hardly ever occur, most of the sum comes from labels the model
    has learned nothing about, and samples that are hard in one label only are passed over.
    Computed as `multilabel_indecision` - L/2.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.
        weights_L: float, (L,), by which distances are multiplied, of mean 1; see `label_weights`.

    Returns:
        float64, (N,), in [-L/2, 0]; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: confidences of all labels, averaged.

    Differs from the paper:
        The sum stands for the mean, which ranks the same.
    """
    return multilabel_indecision(probs_NL, weights_L) - 0.5 * probs_NL.shape[1]


def multilabel_indecision(probs_NL: Tensor, weights_L: Tensor | None = None) -> Tensor:
    """Sum over labels of min(p, 1 - p): `multilabel_margin` above its lower bound.

    Keeps the order of samples whose labels all are nearly decided; of a probability that rounds
    to 1 the float32 number has nothing left to keep.

    Args:
        probs_NL: float, (N, L), in [0, 1].
        weights_L: See `multilabel_margin`.

    Returns:
        float64, (N,), in [0, L/2].
    """
    nearest = _weighted(torch.minimum(probs_NL, 1 - probs_NL), weights_L)
    return nearest.sum(1, dtype=torch.float64)


def _weighted(values_NL: Tensor, weights_L: Tensor | None) -> Tensor:
    return values_NL if weights_L is None else values_NL * weights_L.to(values_NL.device)


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


def mean_binary_entropy(probs_NL: Tensor, weights_L: Tensor | None = None) -> Tensor:
    """Mean over labels of the binary entropy of each, in nats.

    Helps like `multilabel_margin`, with less weight on labels that are nearly decided; O(N L).
    Hurts where one undecided label among many decided ones matters.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.
        weights_L: float, (L,), by which entropies are multiplied, of mean 1; see `label_weights`.

    Returns:
        float, (N,), in [0, ln 2] without weights; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: averaged over labels.

    Differs from the paper:
        Uncertainty is the binary entropy of the label's probability, not a classifier's margin.
    """
    return _weighted(binary_entropy(probs_NL), weights_L).mean(1)


def max_binary_entropy(probs_NL: Tensor, weights_L: Tensor | None = None) -> Tensor:
    """Binary entropy of the least decided label, in nats.

    Helps when any wrong label spoils a sample; O(N L), and ranks by the label closest to one half.
    With many labels nearly every sample has one that is undecided, and noisy labels draw all
    queries.

    Args:
        probs_NL: float, (N, L), in [0, 1], rows need not sum to one.
        weights_L: float, (L,), by which entropies are multiplied, of mean 1; see `label_weights`.

    Returns:
        float, (N,), in [0, ln 2] without weights; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009: the least confident label decides.

    Differs from the paper:
        Uncertainty is the binary entropy of the label's probability, not a classifier's margin.
    """
    return _weighted(binary_entropy(probs_NL), weights_L).max(1).values


class _OfLabels(ScoreStrategy):
    """A score of samples with any number of labels.

    Args:
        balance: How much more rare labels count, see `label_weights`: 0 for not at all.

    Raises:
        ValueError: It is negative or not finite.
    """

    needs: Needs = frozenset({Probs()})
    tasks = frozenset({"multilabel"})
    balance = 0.0

    def __init__(self, balance: float = 0.0) -> None:
        if not 0 <= balance < torch.inf:
            raise ValueError(f"strategy.balance={balance} must be finite and >= 0")
        self.balance = balance
        self.needs = frozenset({Probs(), Labels()} if balance else {Probs()})

    def _weights(self, view: PoolView) -> Tensor | None:
        """See `label_weights`; None where all labels count alike."""
        return label_weights(view[Labels()], self.balance) if self.balance else None


class MultilabelMargin(_OfLabels):
    """Query where the labels' probabilities lie closest to one half; see `multilabel_margin`.

    Args:
        balance: How much more rare labels count, see `label_weights`: 0 for not at all.

    Attributes:
        lower_bound: NaN: it is -L/2 for L labels; `heights` is the distance of scores from it.
    """

    lower_bound = torch.nan

    def score(self, view: PoolView) -> Tensor:
        """See `multilabel_margin`."""
        return multilabel_margin(view[Probs()], self._weights(view))

    def heights(self, view: PoolView, scores: Tensor) -> Tensor:
        """See `multilabel_indecision`."""
        return multilabel_indecision(view[Probs()], self._weights(view))


class MeanBinaryEntropy(_OfLabels):
    """Query where the labels are least decided on average; see `mean_binary_entropy`.

    Args:
        balance: How much more rare labels count, see `label_weights`: 0 for not at all.
    """

    def score(self, view: PoolView) -> Tensor:
        """See `mean_binary_entropy`."""
        return mean_binary_entropy(view[Probs()], self._weights(view))


class MaxBinaryEntropy(_OfLabels):
    """Query where one label is least decided; see `max_binary_entropy`.

    Args:
        balance: How much more rare labels count, see `label_weights`: 0 for not at all.
    """

    def score(self, view: PoolView) -> Tensor:
        """See `max_binary_entropy`."""
        return max_binary_entropy(view[Probs()], self._weights(view))
