"""BADGE: batches spread out over gradients of the last layer, which are never materialised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.clustering import d_squared_sampling
from dal.query.needs import Features, Probs
from dal.query.selection import blocks, pick_max, random_keys

ROUNDING = 8
"""Squared distances of so many units in the last place of the squared lengths are rounding."""


def output_errors(probs_NC: Tensor) -> Tensor:
    """Gradient of the cross-entropy of the predicted class with respect to the logits: p - e_y.

    The entry of the predicted class is minus the sum of the other probabilities: 1 - p would lose
    all its digits on a confident network.

    Args:
        probs_NC: float, (N, C), rows sum to one.

    Returns:
        float, (N, C), rows sum to zero.
    """
    predicted = probs_NC.argmax(1, keepdim=True)
    errors = probs_NC.scatter(1, predicted, 0.0)
    return errors.scatter(1, predicted, -errors.sum(1, keepdim=True))


def label_errors(probs_NL: Tensor) -> Tensor:
    """Gradient of the binary cross-entropies of the predicted labels with respect to the logits.

    A label is predicted, y_l = 1, where its probability p_l = sigmoid(z_l) is above one half. The
    loss of a sample is the sum over labels of -y_l ln p_l - (1 - y_l) ln(1 - p_l), of which the
    derivative by z_l is p_l - y_l. (Training takes the mean over labels, so L times less: that
    ranks and draws the same.)

    Args:
        probs_NL: float, (N, L), in [0, 1]; rows need not sum to one.

    Returns:
        float, (N, L), in [-1/2, 1/2].
    """
    return probs_NL - (probs_NL > 0.5).to(probs_NL.dtype)


def gradient_distances(
    errors_NC: Tensor, features_ND: Tensor
) -> tuple[Tensor, Callable[[Tensor, Tensor | None], Tensor]]:
    """Squared distances between last-layer gradients, from their two factors.

    The gradient of candidate i is the outer product of e_i and h_i, so that
    <g_i, g_j> = <e_i, e_j> <h_i, h_j> and no N x (C D) matrix is needed.

    Args:
        errors_NC: float, (N, C), see `output_errors` and `label_errors`.
        features_ND: float, (N, D), may be float16 and memory-mapped.

    Returns:
        Squared lengths of the gradients, float, (N,); and a function for `d_squared_sampling`
        that gives the squared distance to the nearest of M gradients, float, (N,) or, of those
        asked for, (R,). A call costs O(N M (C + D)), reads the features once, in blocks, and holds
        a vector of N numbers. What rounding cannot tell from 0 is 0.
    """
    lengths = torch.cat([block.square().sum(1) for _, block in blocks(features_ND)])
    squares = errors_NC.square().sum(1) * lengths
    floor = ROUNDING * torch.finfo(squares.dtype).eps

    def rows(positions: Tensor) -> Tensor:
        return next(blocks(features_ND[positions], len(positions)))[1]

    def distances(errors: Tensor, features: Tensor, own: Tensor, to: Tensor) -> Tensor:
        products = (features @ rows(to).T) * (errors @ errors_NC[to].T)
        both = own[:, None] + squares[to]
        found = both - 2 * products
        return torch.where(found > floor * both, found, 0.0).amin(1)

    def nearest(to: Tensor, among: Tensor | None = None) -> Tensor:
        if among is not None:
            return distances(errors_NC[among], rows(among), squares[among], to)
        parts = []
        for start, block in blocks(features_ND):
            part = slice(start, start + len(block))
            parts.append(distances(errors_NC[part], block, squares[part], to))
        return torch.cat(parts)

    return squares, nearest


class Badge(BatchStrategy):
    """Query candidates whose gradients are long and point apart: k-means++ over the last layer's.

    The gradient is that of the cross-entropy with respect to the weights of the last layer, with
    the predicted class as label: g = (p - e_y) h'. Where a sample has several labels it is that of
    their binary cross-entropies, with the labels predicted: g = (p - 1[p > 1/2]) h', see
    `label_errors`. The first pick has the longest gradient; each further one is drawn with
    probability proportional to the squared distance from its gradient to the nearest one picked.
    Helps with large batches, where the most uncertain candidates resemble
    each other, and needs no setting. With few labels gradients say little; long features are
    preferred whatever their class. O(b N (C + D)), in about b / 16 passes over features and errors,
    and a few vectors of N numbers.

    Reference:
        J. T. Ash, C. Zhang, A. Krishnamurthy, J. Langford and A. Agarwal. Deep batch active
        learning by diverse, uncertain gradient lower bounds. ICLR 2020, algorithm 1.

    Differs from the paper: k-means++ draws the first center uniformly; we take the longest
    gradient, as the authors' program does. The paper has one class a sample; the step to several
    labels, the same bound with another loss, is ours.
    """

    needs = frozenset({Probs(), Features()})
    tasks = frozenset({"multiclass", "multilabel"})

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score of a pick is the length of its gradient."""
        errors = (label_errors if view.multilabel else output_errors)(view[Probs()])
        largest = errors.abs().max()
        scale = largest if largest > 0 else torch.ones_like(largest)  # squares may underflow
        squares, nearest = gradient_distances(errors / scale, view[Features()])
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(squares.device)
        first = pick_max(squares, keys)
        positions = d_squared_sampling(nearest, first, query_size, rng)
        return positions, squares[positions].sqrt() * scale, {}
