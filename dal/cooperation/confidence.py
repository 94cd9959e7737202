"""How sure a model is of what it predicts, and which of its predictions are kept as guesses."""

from __future__ import annotations

import torch
from torch import Tensor


def likeliest(probs: Tensor, exclusive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest target of each row of probabilities, and how sure it is.

    Args:
        probs: float, (N, C); rows sum to one where ``exclusive``.
        exclusive: Whether a sample has one class; else it has any of C labels.

    Returns:
        int64, (N,) or (N, C), the targets; float, (N,), in [0, 1], their confidence, of several
        labels that of the least sure one; float, (N,), the doubt, 1 - confidence, in which
        predictions differ that all round to the confidence 1.
    """
    if not exclusive:
        held = probs > 0.5
        doubt = torch.where(held, 1 - probs, probs).amax(1)
        return held.long(), 1 - doubt, doubt
    confidence, targets = probs.max(1)
    doubt = probs.scatter(1, targets.unsqueeze(1), 0.0).sum(1)
    return targets, confidence, doubt


def flexible_thresholds(
    threshold: float, confidence: Tensor, classes: Tensor, num_classes: int
) -> Tensor:
    """Thresholds by class, lower for classes of which few predictions are sure.

    With s(c) the number of samples predicted as c above the threshold, and n of none above it,
    ``b(c) = s(c) / max(max s, n)`` and the threshold of c is ``threshold * b(c) / (2 - b(c))``.

    Args:
        threshold: In [0, 1].
        confidence: float, (N,).
        classes: int64, (N,), what is predicted.
        num_classes: C.

    Returns:
        float64, (C,), from 0 to ``threshold``.

    Reference:
        B. Zhang et al., "FlexMatch: Boosting semi-supervised learning with curriculum pseudo
        labeling", NeurIPS 2021, with its warm-up and its convex mapping.
    """
    counts = classes[confidence > threshold].bincount(minlength=num_classes).double()
    most = max(float(counts.max()), len(confidence) - float(counts.sum()), 1.0)
    learned = counts / most
    return threshold * learned / (2 - learned)


def rank_within(classes: Tensor) -> Tensor:
    """int64, (N,): how many samples of the same class, (N,), come before each."""
    order = classes.argsort(stable=True)
    counts = classes.bincount()
    starts = counts.cumsum(0) - counts
    ranks = torch.empty_like(classes)
    ranks[order] = torch.arange(len(classes)) - starts[classes[order]]
    return ranks


def top_share(doubt: Tensor, classes: Tensor, share: float) -> Tensor:
    """The least doubtful share of the samples predicted as each class, rounded down.

    Args:
        doubt: float, (N,); of equal ones the first come first.
        classes: int64, (N,), what is predicted.
        share: In [0, 1].

    Returns:
        bool, (N,).
    """
    order = doubt.argsort(stable=True)
    counts = classes.bincount().double()
    ranks = torch.empty_like(classes)
    ranks[order] = rank_within(classes[order])
    return ranks < (share * counts + 1e-9).floor()[classes]


def limited(
    sure: Tensor, doubt: Tensor, classes: Tensor, limits: Tensor | None, most: int | None
) -> Tensor:
    """Of what is sure the least doubtful, so many of each class and in all.

    Args:
        sure: bool, (N,).
        doubt: float, (N,); of equal ones the first come first.
        classes: int64, (N,), what is predicted; not looked at without limits.
        limits: int64, (C,), how many of each class at most; None for any number.
        most: How many in all; None for any number.

    Returns:
        int64, ascending, the places of those that are kept.
    """
    order = doubt.argsort(stable=True)
    order = order[sure[order]]
    if limits is not None:
        mine = classes[order]
        order = order[rank_within(mine) < limits[mine]]
    return order[:most].sort().values
