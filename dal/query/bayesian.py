"""Bayesian active learning: what a label would tell about the model's parameters."""

from __future__ import annotations

from torch import Tensor

from dal.query.base import PoolView
from dal.query.committee import _OfMembers, max_disagreement


def bald(members_KNC: Tensor) -> Tensor:
    """Mutual information between a sample's label and the model's parameters, in nats.

    H(mean over k of p_k) - mean over k of H(p_k): the uncertainty that knowing the parameters would
    remove. Members are draws from the posterior over parameters, such as dropout samples. High
    where they are sure of different classes, low on noise, where entropy alone is high. Helps when
    samples one by one are chosen; a batch of the highest scores repeats itself (see
    `dal.query.BatchBALD` and the stochastic rules). O(K N C).

    The two entropies differ by the mean divergence of the members from their mean, which is how it
    is computed, without cancellation; as a score it equals `dal.query.max_disagreement`.

    Args:
        members_KNC: float32 or float64, (K, N, C), rows sum to one; 0 ln 0 counts as 0.

    Returns:
        float, (N,), in [0, ln min(K, C)]; higher = query first. With float32, off by less than
        1e-6.

    Reference:
        N. Houlsby, F. Huszár, Z. Ghahramani and M. Lengyel. Bayesian active learning for
        classification and preference learning. arXiv:1112.5745, 2011, equation 2.
        Y. Gal, R. Islam and Z. Ghahramani. Deep Bayesian active learning with image data. ICML
        2017, section 4.
    """
    return max_disagreement(members_KNC)


class BALD(_OfMembers):
    """Query where a label tells most about the model's parameters; see `bald`."""

    def score(self, view: PoolView) -> Tensor:
        """See `bald`."""
        return self._scored(bald, view)
