"""What two views of the same samples are asked for, as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

VARIANCE_EPS = 1e-4


def nt_xent(one_BD: Tensor, two_BD: Tensor, temperature: float = 0.5) -> Tensor:
    """Find the other view of each sample among all other views (SimCLR).

    Each of the 2 B views has one right answer among 2 B - 1; similarity is the cosine.

    Args:
        one_BD: float, (B, D), projections of the first views.
        two_BD: float, (B, D), of the second views of the same samples.
        temperature: Divides the cosines; the lower, the more near misses count.

    Returns:
        float, (), in nats, the mean over all views.

    Reference:
        T. Chen, S. Kornblith, M. Norouzi and G. Hinton. A simple framework for contrastive learning
        of visual representations. ICML 2020, equation 1.
    """
    views = F.normalize(torch.cat([one_BD, two_BD]))
    logits = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    other = torch.arange(len(views), device=views.device).roll(len(one_BD))
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), other)


def vicreg(
    one_BD: Tensor,
    two_BD: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """Two views are alike, every dimension varies, and no two vary together (VICReg).

    Nothing is compared with other samples, so small batches lose little.

    Args:
        one_BD: float, (B, D), projections of the first views, B >= 2.
        two_BD: float, (B, D), of the second views of the same samples.
        invariance: Weight of the mean squared distance of two views.
        variance: Weight of what the deviations of the dimensions lack to 1.
        covariance: Weight of the squared covariances of different dimensions.

    Returns:
        float, (), 0 or more.

    Reference:
        A. Bardes, J. Ponce and Y. LeCun. VICReg: variance-invariance-covariance regularization for
        self-supervised learning. ICLR 2022, equations 1 to 6.

    Differs from the paper: the distance is the mean over dimensions too, and what deviations lack
    the mean of both views, not their sum, as in the authors' code.
    """
    views = (one_BD, two_BD)
    spread = sum((_missing_deviation(view) for view in views), one_BD.new_zeros(())) / 2
    together = sum((_covariances(view) for view in views), one_BD.new_zeros(()))
    return invariance * F.mse_loss(one_BD, two_BD) + variance * spread + covariance * together


def _missing_deviation(view_BD: Tensor) -> Tensor:
    return F.relu(1 - (view_BD.var(0) + VARIANCE_EPS).sqrt()).mean()


def _covariances(view_BD: Tensor) -> Tensor:
    count, width = view_BD.shape
    centered = view_BD - view_BD.mean(0)
    matrix = centered.T @ centered / (count - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / width
