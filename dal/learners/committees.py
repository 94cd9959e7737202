"""Who the members of a committee are: what answers the need `Members`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Dropout", "Ensemble", "Rounds"]


@dataclass(frozen=True)
class Dropout:
    """Dropout samples of the one network: Monte-Carlo dropout.

    A member is a mask of every dropout layer, the same for the whole pool, so that members can be
    compared from sample to sample.

    Attributes:
        size: K, at least 2.

    Reference:
        Y. Gal and Z. Ghahramani. Dropout as a Bayesian approximation. ICML 2016.
        A. Kirsch, J. van Amersfoort and Y. Gal. BatchBALD. NeurIPS 2019, section 3.2 (consistent
        masks).
    """

    size: int = 20

    def __post_init__(self) -> None:
        _check_size(self.size)


@dataclass(frozen=True)
class Ensemble:
    """Networks that start from weights of their own.

    The first is the network that is tested and exported, the same as without a committee; the
    others only advise the strategy.

    Attributes:
        size: K, at least 2.
        bootstrap: Fit each of the others on as many labels drawn with replacement, anew each round:
            what linear models need, which end at one optimum from any start. A class of few labels
            may be missing from a member's; that member then thinks it unlikely, which tells how
            little is known of it.

    Reference:
        L. Breiman. Bagging predictors. Machine Learning 24, 1996, for ``bootstrap``.
        B. Lakshminarayanan, A. Pritzel and C. Blundell. Simple and scalable predictive uncertainty
        estimation using deep ensembles. NIPS 2017.
    """

    size: int = 5
    bootstrap: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)


@dataclass(frozen=True)
class Rounds:
    """The models of the last rounds, through their cached predictions; costs nothing.

    Attributes:
        size: K, at least 2; fewer while fewer models have been fitted.
    """

    size: int = 3

    def __post_init__(self) -> None:
        _check_size(self.size)


Committee = Dropout | Ensemble | Rounds


def _check_size(size: int) -> None:
    if size < 2:
        raise ValueError(
            f"committee.size={size}: a committee of one cannot disagree; give 2 or more"
        )


def check_members(members_KNC: Tensor, remedy: str) -> None:
    """Refuse a committee of one member, and one whose members are all the same model.

    Members are the same model where their predictions are equal bit for bit. But equal predictions
    prove nothing where every sample gets the same one, or where all have rounded to 0 or 1.

    Args:
        members_KNC: float, (K, N, C).
        remedy: What to do, for the error.

    Raises:
        ValueError: The members are identical, or there is only one.
    """
    if len(members_KNC) == 1:
        raise ValueError("the model is a committee of one, which cannot disagree; give 2 or more")
    first_NC = members_KNC[0]
    if any(not torch.equal(member, first_NC) for member in members_KNC[1:]):
        return
    varies = bool((first_NC != first_NC[0]).any())
    undecided = bool(((first_NC > 0) & (first_NC < 1)).any())
    if varies and undecided:
        raise ValueError(
            f"all {len(members_KNC)} members of the committee predict the same for all "
            f"{len(first_NC)} candidates, so comparing them says nothing; {remedy}, or choose "
            "another committee"
        )
