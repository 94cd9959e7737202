"""What is predicted surely becomes a guess: above one threshold, or above one a class."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from dal.cooperation.base import Cooperative, Guesses
from dal.cooperation.confidence import flexible_thresholds, likeliest, limited, top_share
from dal.cooperation.teacher import ModelItself, Teacher
from dal.utils.ranges import check_number, check_whole


class Confident(Cooperative):
    """What is sure becomes a guess, within limits.

    Args:
        weight: Of a guess in the loss; that of an answer is 1.
        per_answer: A class gets at most so many guesses for each answer that it has, the surest
            ones, so that no class takes over; a class without an answer gets none. None: no limit.
        most: How many guesses there are at most in all, the surest ones: a whole number; or a
            number with a fraction, up to 1.0, a share of the candidates. None: no limit.
        teacher: Who predicts the candidates; None for the model itself.

    Raises:
        ValueError: A number is out of range.
        TypeError: It is no number.
    """

    def __init__(
        self,
        weight: float = 0.5,
        per_answer: float | None = 5,
        most: int | float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        check_number("cooperative.weight", weight, positive=True)
        if per_answer is not None:
            check_number("cooperative.per_answer", per_answer, positive=True)
        if isinstance(most, float):
            _check_share("cooperative.most", most)
        elif most is not None:
            check_whole("cooperative.most", most, 1, ", a share such as 0.2, or null")
        self.weight, self.per_answer, self.most = weight, per_answer, most
        self.weighs = weight != 1
        self.teacher = teacher or ModelItself()

    @abstractmethod
    def sure(self, probs: Tensor, before: Tensor | None, exclusive: bool) -> Tensor:
        """bool, (N,): which predictions are sure; see `choose`."""

    def choose(
        self, probs: Tensor, before: Tensor | None, labeled: Tensor, exclusive: bool = True
    ) -> Guesses:
        """See `Cooperative.choose`."""
        targets, _, doubt = likeliest(probs, exclusive)
        limits = None
        if self.per_answer is not None and exclusive:
            limits = (self.per_answer * labeled.double() + 1e-9).floor().long()
        sure = self.sure(probs, before, exclusive)
        places = limited(sure, doubt, targets, limits, self._most_of(len(probs)))
        return Guesses(places, targets[places], torch.full((len(places),), float(self.weight)))

    def _most_of(self, candidates: int) -> int | None:
        """How many guesses there may be of so many candidates."""
        if isinstance(self.most, float):
            return int(self.most * candidates + 1e-9)
        return self.most


class FixedThreshold(Confident):
    """A prediction is sure above one threshold; of several labels, where each of them is.

    Args:
        threshold: Confidence from which on a prediction is sure, in [0, 1].
        **limits: See `Confident`.

    Reference:
        D.-H. Lee, "Pseudo-label: The simple and efficient semi-supervised learning method for deep
        neural networks", ICML workshop 2013. Beside queries: K. Wang et al., "Cost-effective
        active learning for deep image classification", IEEE TCSVT 27, 2017.
    """

    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(
        self,
        threshold: float = 0.95,
        weight: float = 0.5,
        per_answer: float | None = 5,
        most: int | float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(weight, per_answer, most, teacher)
        _check_share("cooperative.threshold", threshold)
        self.threshold = threshold

    def sure(self, probs: Tensor, before: Tensor | None, exclusive: bool) -> Tensor:
        """See `Confident.sure`."""
        return likeliest(probs, exclusive)[1] >= self.threshold


class AgreeingRounds(FixedThreshold):
    """A prediction is sure where two models, of this round and of the one before, both are.

    They must predict the same, and both above the threshold: one that the model is about to change
    its mind on is not learned from, which a single model's confidence does not tell. Nothing is
    guessed in the first round.

    Args:
        threshold: Confidence from which on a prediction is sure, in [0, 1].
        **limits: See `Confident`.

    Reference:
        As in the instability of predictions over rounds, see `dal.query.Instability`; of two
        models at a time: A. Blum, T. Mitchell, "Combining labeled and unlabeled data with
        co-training", COLT 1998.
    """

    rounds = 2

    def sure(self, probs: Tensor, before: Tensor | None, exclusive: bool) -> Tensor:
        """See `Confident.sure`."""
        now = super().sure(probs, None, exclusive)
        if before is None:
            return torch.zeros_like(now)
        same = likeliest(probs, exclusive)[0] == likeliest(before, exclusive)[0]
        known = ~before.isnan().any(1)
        return (
            now
            & known
            & same.unsqueeze(1).flatten(1).all(1)
            & super().sure(before, None, exclusive)
        )


class FlexibleThresholds(Confident):
    """A prediction is sure above the threshold of its class, lower for classes learned less.

    Args:
        threshold: That of the class that is learned best, in [0, 1].
        least: No threshold is lower. The published method has 0, which takes any prediction of a
            class of which none is sure.
        **limits: See `Confident`.

    Reference:
        See `dal.cooperation.confidence.flexible_thresholds`.
    """

    def __init__(
        self,
        threshold: float = 0.95,
        least: float = 0.7,
        weight: float = 0.5,
        per_answer: float | None = 5,
        most: int | float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(weight, per_answer, most, teacher)
        _check_share("cooperative.threshold", threshold)
        _check_share("cooperative.least", least)
        self.threshold, self.least = threshold, least

    def sure(self, probs: Tensor, before: Tensor | None, exclusive: bool) -> Tensor:
        """See `Confident.sure`."""
        classes, confidence, _ = likeliest(probs, exclusive)
        thresholds = flexible_thresholds(self.threshold, confidence, classes, probs.shape[1])
        return confidence > thresholds.clamp(min=self.least)[classes]


class QuantileByClass(Confident):
    """The surest share of what is predicted as each class, where it is sure enough.

    Args:
        share: Of the candidates predicted as a class, in [0, 1].
        threshold: Confidence below which a prediction is not sure in any case, in [0, 1].
        **limits: See `Confident`.

    Reference:
        Y. Zou et al., "Unsupervised domain adaptation for semantic segmentation via class-balanced
        self-training", ECCV 2018.
    """

    def __init__(
        self,
        share: float = 0.2,
        threshold: float = 0.8,
        weight: float = 0.5,
        per_answer: float | None = 5,
        most: int | float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(weight, per_answer, most, teacher)
        _check_share("cooperative.share", share)
        _check_share("cooperative.threshold", threshold)
        self.share, self.threshold = share, threshold

    def sure(self, probs: Tensor, before: Tensor | None, exclusive: bool) -> Tensor:
        """See `Confident.sure`."""
        classes, confidence, doubt = likeliest(probs, exclusive)
        return top_share(doubt, classes, self.share) & (confidence >= self.threshold)


def _check_share(name: str, value: float) -> None:
    """Refuse what is no number from 0 to 1."""
    check_number(name, value)
    if value > 1:
        raise ValueError(f"{name}={value}; give a number from 0 to 1")
