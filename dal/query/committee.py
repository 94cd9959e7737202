"""Query by committee: where the members of a committee disagree, by votes or by probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy, check_need
from dal.query.needs import Members
from dal.query.uncertainty import entropy, least_confidence, margin

BLOCK_NUMBERS = 2**19
"""Numbers of a committee's predictions worked on at once: two megabytes, which caches hold."""


class MemberStatistics(NamedTuple):
    """What one pass over the members' probabilities gives.

    Attributes:
        mean: float, (N, C), the consensus: the mean of the members' probabilities.
        least_confidence: float64, (N,), of the consensus, in [0, 1 - 1/C].
        margin: float64, (N,), of the consensus, in [-1, 0].
        entropy: float, (N,), of the consensus, in nats, in [0, ln C].
        disagreement: float, (N,), mean divergence of the members from the consensus, in nats, in
            [0, ln min(K, C)]; see `max_disagreement`, and `dal.query.bald`, which is the same.
    """

    mean: Tensor
    least_confidence: Tensor
    margin: Tensor
    entropy: Tensor
    disagreement: Tensor


def member_statistics(members_KNC: Tensor) -> MemberStatistics:
    """Consensus, its uncertainty and the disagreement, from one pass over the members.

    Cost: one logarithm and a handful of simple operations a number, in blocks that stay in the
    caches: about the time of one ``torch.log`` over all members, which has to write its result.
    Extra memory: one block, and (N, C) for the consensus. Logarithms in the members' own dtype;
    with float32, values are off by less than 1e-6 nats.

    Args:
        members_KNC: float32 or float64, (K, N, C), rows sum to one; 0 ln 0 counts as 0.
    """
    mean_NC, disagreement = _consensus(members_KNC)
    floored = mean_NC.clamp(min=torch.finfo(mean_NC.dtype).tiny)
    return MemberStatistics(
        mean_NC,
        least_confidence=least_confidence(mean_NC),
        margin=margin(mean_NC),
        entropy=-floored.log_().mul_(mean_NC).sum(1),
        disagreement=disagreement,
    )


def variation_ratio(members_KNC: Tensor) -> Tensor:
    """The share of members that do not vote for the class most members vote for.

    Each member votes for its most probable class. Cheap, O(K N C); coarse with few members: with K
    there are less than K different scores, so ties are common, and what a member knows beyond its
    first choice is lost.

    Args:
        members_KNC: float, (K, N, C), rows sum to one.

    Returns:
        float64, (N,), multiples of 1/K in [0, 1 - 1/min(K, C)]; higher = query first.

    Reference:
        L. C. Freeman. Elementary applied statistics. Wiley 1965. As used by Y. Gal, R. Islam and
        Z. Ghahramani. Deep Bayesian active learning with image data. ICML 2017, section 4.
    """
    shares_NC = _vote_shares(members_KNC)
    return 1 - shares_NC.max(1).values


def vote_entropy(members_KNC: Tensor) -> Tensor:
    """Shannon entropy of the members' votes, in nats.

    Each member votes for its most probable class. Helps where members are good classifiers with
    poor probabilities; coarse with few members, and blind to how sure they are. O(K N C).

    Args:
        members_KNC: float, (K, N, C), rows sum to one.

    Returns:
        float64, (N,), in [0, ln min(K, C)]; higher = query first. Equal up to the last bit where
        the same numbers of votes fall on other classes.

    Reference:
        S. P. Engelson and I. Dagan. Minimizing manual annotation cost in supervised training from
        corpora. ACL 1996, section 4.

    Differs from the paper: not divided by ln min(K, C), which changes no ranking.
    """
    return entropy(_vote_shares(members_KNC).sort(dim=1).values)


def consensus_entropy(members_KNC: Tensor) -> Tensor:
    """Entropy of the members' mean prediction, in nats: the total uncertainty.

    Not the mean of the members' entropies, which leaves their disagreement out. Does not tell
    noise, where all members are unsure, from disagreement. O(K N C).

    Args:
        members_KNC: float, (K, N, C), rows sum to one; 0 ln 0 counts as 0.

    Returns:
        float, (N,), in [0, ln C]; higher = query first.

    Reference:
        Y. Gal, R. Islam and Z. Ghahramani. Deep Bayesian active learning with image data. ICML
        2017, section 4 ("max entropy"). modAL calls it consensus entropy.
    """
    return entropy(_mean(members_KNC))


def max_disagreement(members_KNC: Tensor) -> Tensor:
    """Mean divergence of the members from their mean: (1/K) sum over k of KL(p_k || mean p).

    High where members are sure of different classes; low where all are unsure alike, so noise
    attracts it less than it does entropy. O(K N C). Needs members that differ for a reason: with
    few of them, or poorly fitted ones, it measures their luck.

    Args:
        members_KNC: float32 or float64, (K, N, C), rows sum to one; 0 ln 0 counts as 0.

    Returns:
        float, (N,), nats, in [0, ln min(K, C)]; higher = query first. With float32, off by less
        than 1e-6; what rounding leaves below 0 is 0.

    Reference:
        A. McCallum and K. Nigam. Employing EM and pool-based active learning for text
        classification. ICML 1998, section 3, equations 3 and 4.
    """
    return _consensus(members_KNC)[1]


def mean_std(members_KNC: Tensor) -> Tensor:
    """Standard deviation of the members' probabilities, averaged over the classes.

    Close to `max_disagreement` in what it finds, with more weight on probable classes. O(K N C).

    Args:
        members_KNC: float, (K, N, C), rows sum to one.

    Returns:
        float, (N,), in [0, 1/2]; higher = query first. Divided by K, not K - 1.

    Reference:
        M. Kampffmeyer, A.-B. Salberg and R. Jenssen. Semantic segmentation of small objects and
        modeling of uncertainty in urban remote sensing images using deep convolutional neural
        networks. CVPR workshops 2016. Gal et al. 2017, section 4 ("mean STD").
    """
    deviations = members_KNC.new_empty(members_KNC.shape[1])
    for block in _blocks(members_KNC):
        members = members_KNC[:, block]
        squares = (members - _mean(members)).square_()
        deviations[block] = _mean(squares).sqrt_().mean(1)
    return deviations


def _blocks(members_KNC: Tensor) -> Iterator[slice]:
    """Slices of the samples, each of about `BLOCK_NUMBERS` predictions."""
    num_members, count, num_classes = members_KNC.shape
    size = max(BLOCK_NUMBERS // (num_members * num_classes), 1)
    for start in range(0, count, size):
        yield slice(start, start + size)


def _mean(members_KNC: Tensor) -> Tensor:
    """The members' mean, (N, C), added in their order.

    A reduction by torch adds in an order that depends on the layout: the same sample would have
    other bits in another pool.
    """
    total = members_KNC[0].clone()
    for member in members_KNC[1:]:
        total += member
    return total.div_(len(members_KNC))


def _consensus(members_KNC: Tensor) -> tuple[Tensor, Tensor]:
    """The members' mean, (N, C), and their mean divergence from it, (N,).

    The divergence is summed as p ln(1 + d/m) - d with d = p - m: the d add up to 0, and without
    them small disagreements would be differences of large numbers. Each summand is >= 0.
    """
    mean_NC = torch.empty_like(members_KNC[0])
    divergence = members_KNC.new_empty(members_KNC.shape[1])
    floor = torch.finfo(members_KNC.dtype)
    for block in _blocks(members_KNC):
        members = members_KNC[:, block]
        mean_NC[block] = mean = _mean(members)
        differences = members - mean
        summands = differences / mean.clamp(min=floor.tiny)
        summands.clamp_(min=floor.eps / 2 - 1).log1p_().mul_(members).sub_(differences)
        divergence[block] = _mean(summands).sum(1)
    return mean_NC, divergence.clamp_(min=0)


def _vote_shares(members_KNC: Tensor) -> Tensor:
    """The share of members that vote for each class: float64, (N, C)."""
    votes_NK = members_KNC.argmax(-1).T
    counts = torch.zeros(members_KNC.shape[1:], dtype=torch.float64, device=members_KNC.device)
    counts.scatter_add_(1, votes_NK, torch.ones_like(votes_NK, dtype=torch.float64))
    return counts / len(members_KNC)


def over_labels(score: Callable[[Tensor], Tensor], members_KNL: Tensor) -> Tensor:
    """A committee's score of samples with any of L labels: the mean of those of each label.

    Each label is a question of its own, yes or no, and a sample's score is the mean over them. So
    that of `max_disagreement`, which is `dal.query.bald`, is the information about the parameters
    in the labels' answers, were they independent given these, divided by L, which changes no
    ranking; members vote for a label where they give it more than one half. O(K N L), in blocks.

    Args:
        score: Of this module, or one like them.
        members_KNL: float, (K, N, L), in [0, 1]; rows need not sum to one.

    Returns:
        float64, (N,), in the range that the score has for two classes; higher = query first.

    Reference:
        A. Esuli and F. Sebastiani. Active learning strategies for multi-label text classification.
        ECIR 2009 (the confidences of all labels, averaged); the scores are those of two classes.
    """
    num_labels = members_KNL.shape[2]
    parts = []
    for block in _blocks(members_KNL):
        yes = members_KNL[:, block].double()  # of which 1 - p keeps every digit of a float32 p
        answers = torch.stack([1 - yes, yes], 3).flatten(1, 2)
        parts.append(score(answers).double().view(-1, num_labels).mean(1))
    return torch.cat(parts)


class _OfMembers(ScoreStrategy):
    """A score that compares the members of a committee; see `over_labels` for several labels."""

    needs = frozenset({Members()})
    tasks = frozenset({"multiclass", "multilabel"})

    def reach(self, num_classes: int) -> float:
        """See `ScoreStrategy.reach`: shares and entropies of C classes are below ln C, C > 1."""
        return math.log(num_classes)

    def _scored(self, score: Callable[[Tensor], Tensor], view: PoolView) -> Tensor:
        """Members' scores, refused where a probability is not finite: votes would hide it."""
        members = view[Members()]
        check_need(members, view.indices, Members(), type(self).__name__)
        return over_labels(score, members) if view.multilabel else score(members)


class VariationRatio(_OfMembers):
    """Query where most members vote against the majority; see `variation_ratio`."""

    def score(self, view: PoolView) -> Tensor:
        """See `variation_ratio`."""
        return self._scored(variation_ratio, view)


class VoteEntropy(_OfMembers):
    """Query where the votes are most spread; see `vote_entropy`."""

    def score(self, view: PoolView) -> Tensor:
        """See `vote_entropy`."""
        return self._scored(vote_entropy, view)


class ConsensusEntropy(_OfMembers):
    """Query where the members' mean prediction is most spread; see `consensus_entropy`."""

    def score(self, view: PoolView) -> Tensor:
        """See `consensus_entropy`."""
        return self._scored(consensus_entropy, view)


class MaxDisagreement(_OfMembers):
    """Query where members differ most from their mean; see `max_disagreement`."""

    def score(self, view: PoolView) -> Tensor:
        """See `max_disagreement`."""
        return self._scored(max_disagreement, view)


class MeanStd(_OfMembers):
    """Query where the members' probabilities vary most; see `mean_std`."""

    def score(self, view: PoolView) -> Tensor:
        """See `mean_std`."""
        return self._scored(mean_std, view)
