"""What features are worth while nobody has asked for a label: neighbors, rank, spread."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_RANK = 2.0
"""Features of a lower effective rank have collapsed: they tell the samples apart by one number."""
LEAST_SPREAD = 1e-3
"""Features whose variance is a lower share of their squared length are all the same."""


def neighbor_accuracy(features_ND: Tensor, targets_N: Tensor, neighbors: int = 10) -> float:
    """How often the nearest other samples, by cosine, have the class of a sample.

    Args:
        features_ND: float, (N, D).
        targets_N: int64, (N,), known classes.
        neighbors: That vote; fewer where there are fewer samples. Ties go to the lowest class.

    Returns:
        In [0, 1], the mean over all samples, each left out of its own neighbors; NaN below two.
    """
    if len(targets_N) < 2:
        return float("nan")
    unit = F.normalize(features_ND.float())
    near = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = near.topk(min(neighbors, len(targets_N) - 1)).indices
    votes = F.one_hot(targets_N[nearest]).sum(1)
    return float((votes.argmax(1) == targets_N).double().mean())


def effective_rank(features_ND: Tensor) -> float:
    """How many directions features vary in: the exponential of the entropy of singular values.

    Args:
        features_ND: float, (N, D).

    Returns:
        From 1, one direction, to min(N, D), all alike; 0 where nothing varies, NaN where a number
        is not finite.

    Reference:
        O. Roy and M. Vetterli. The effective rank: a measure of effective dimensionality. EUSIPCO
        2007, definition 1.
    """
    values = features_ND.double()
    if not values.isfinite().all():
        return float("nan")
    singular = torch.linalg.svdvals(values - values.mean(0))
    if float(singular.sum()) == 0:
        return 0.0
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp())


def spread(features_ND: Tensor) -> float:
    """The share of the squared lengths of features that is variance, in [0, 1]."""
    values = features_ND.double()
    length = float(values.square().sum())
    return float((values - values.mean(0)).square().sum()) / length if length else 0.0


def refuse_collapsed(features_ND: Tensor, name: str) -> None:
    """Refuse features that hardly tell samples apart.

    Raises:
        ValueError: They are all the same, or vary in a single direction.
    """
    rank, share = effective_rank(features_ND), spread(features_ND)
    if not (rank >= LEAST_RANK and share >= LEAST_SPREAD):
        raise ValueError(
            f"the features of {name} have collapsed: they vary in {rank:.1f} directions, and "
            f"{share:.2g} of their squared length is variance; where the "
            "samples themselves differ, set features.method=simclr, other features.views, or a "
            "lower features.lr"
        )
