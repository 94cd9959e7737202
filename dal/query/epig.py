"""Expected predictive information gain: what a label would tell about predictions elsewhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy, check_need
from dal.query.committee import BLOCK_NUMBERS
from dal.query.needs import Members
from dal.query.selection import check_reference, random_keys, seeded_sample


def epig(members_KNC: Tensor, targets_KMC: Tensor, own_N: Tensor | None = None) -> Tensor:
    """Mean information, in nats, between a sample's label and those of the targets.

    The members say what label y of a sample and label z of a target are: given a member they are
    independent, so p(y, z) = mean over k of p_k(y) q_k(z). The information is that joint
    distribution's divergence from the product of its margins, and a label is worth the mean of it
    over the targets. Unlike `dal.query.bald` it does not count what is uncertain about parameters
    that no prediction asked for depends on. O(K N M C²), one product of matrices a block.

    Summed as a (phi(c / a)) with a = p(y) q(z), c the members' covariance and
    phi(t) = (1 + t) ln(1 + t) - t: the c of a pair add up to 0, and without them small information
    would be a difference of large entropies. Each summand is >= 0.

    Args:
        members_KNC: float32 or float64, (K, N, C), rows sum to one: the samples.
        targets_KMC: The same, (K, M, C), M >= 1, of the same members: the targets.
        own_N: int64, (N,), which target each sample itself is, -1 for none; it is left out of that
            sample's mean. None where no sample is a target.

    Returns:
        float, (N,), in [0, ln min(K, C)]; higher = query first. 0 where a sample is the one target.

    Reference:
        F. Bickford Smith, A. Kirsch, S. Farquhar, Y. Gal, A. Foster and T. Rainforth.
        Prediction-oriented Bayesian active learning. AISTATS 2023.
    """
    size, count, classes = members_KNC.shape
    num_targets = targets_KMC.shape[1]
    targets_K = (targets_KMC - targets_KMC.mean(0)).view(size, -1)
    margins = targets_KMC.mean(0).view(-1)
    scores = members_KNC.new_empty(count)
    width = max(BLOCK_NUMBERS // (classes**2 * num_targets), 1)
    for rows in torch.split(torch.arange(count), width):
        block = members_KNC[:, rows.to(members_KNC.device)]
        mean = block.mean(0)
        centered = (block - mean).view(size, -1)
        covariance = (centered.T @ targets_K).view(len(rows), classes, -1) / size
        information = _divergence(covariance, mean.unsqueeze(2) * margins)
        information_BM = information.view(len(rows), classes, num_targets, classes).sum((1, 3))
        total, others = information_BM.sum(1), torch.full_like(mean[:, 0], num_targets)
        if own_N is not None:
            own = own_N[rows.to(own_N.device)].to(total.device)
            itself = information_BM.gather(1, own.clamp(min=0).unsqueeze(1)).squeeze(1)
            total, others = total - itself * (own >= 0), others - (own >= 0).to(others)
        scores[rows.to(scores.device)] = (total / others.clamp(min=1)).clamp(min=0)
    return scores


def _divergence(covariance: Tensor, product: Tensor) -> Tensor:
    """Each summand of KL(a + c ‖ a), with those left out that add up to 0; 0 where a is."""
    floor = torch.finfo(product.dtype)
    change = covariance / product.clamp(min=floor.tiny)
    change.clamp_(min=floor.eps / 2 - 1)  # rounding; 0 ln 0 = 0 in the limit
    return product * ((1 + change) * change.log1p() - change)


class EPIG(ScoreStrategy):
    """Query where a label tells most about predictions elsewhere in the pool; see `epig`.

    Helps where BALD spends labels on parameters that few predictions depend on. On clean data it is
    about BALD. Hurts where the pool is unlike what is predicted in the end, as unbalanced ones are
    (10 points below margin in docs/strategies.md). Batches of the highest scores repeat themselves.
    O(K N M C²).

    Args:
        reference: M: the mean is taken over at most so many candidates, drawn anew whenever the
            pool has become smaller, by a seed that is the pool's size.

    Raises:
        ValueError: ``reference`` is below 1.

    Reference:
        F. Bickford Smith, A. Kirsch, S. Farquhar, Y. Gal, A. Foster and T. Rainforth.
        Prediction-oriented Bayesian active learning. AISTATS 2023.

    Differs from the paper: inputs of the predictions that matter are those of the pool itself, and
    a candidate is no target of its own.
    """

    needs = frozenset({Members()})
    independent = False  # the targets are drawn from the candidates

    def __init__(self, reference: int = 100) -> None:
        self.reference = check_reference(reference)

    def reach(self, num_classes: int) -> float:
        """See `ScoreStrategy.reach`: information about one of C classes is at most ln C."""
        return math.log(num_classes)

    def score(self, view: PoolView) -> Tensor:
        """See `epig`."""
        members = view[Members()]
        check_need(members, view.indices, Members(), type(self).__name__)
        keys = random_keys(view.num_total, torch.Generator().manual_seed(len(view)))
        drawn = seeded_sample(keys[view.indices.cpu()], self.reference)
        if drawn is None:
            drawn = torch.arange(len(view))
        own = torch.full((len(view),), -1).index_put((drawn,), torch.arange(len(drawn)))
        return epig(members, members[:, drawn.to(members.device)], own)
