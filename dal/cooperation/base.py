"""Which guesses become labels for the next fit of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dal.cooperation.teacher import ModelItself, Teacher


@dataclass(frozen=True)
class Guesses:
    """Guesses that are learned from as if they were labels.

    Attributes:
        places: int64, (n,), ascending, which of the candidates.
        targets: int64, (n,) or (n, C).
        weights: float32, (n,), of each in the loss; that of an answer is 1.
    """

    places: Tensor
    targets: Tensor
    weights: Tensor


class Cooperative(ABC):
    """Chooses guesses to learn from: a pure function of what is predicted.

    Attributes:
        active: Whether it ever chooses any: the candidates are predicted for it then.
        teacher: Who predicts them.
        rounds: How many models' predictions it compares, 1 or 2.
        tasks: Kinds of `dal.task.Task` for which the choice means something.
        weighs: Whether guesses weigh other than 1, which not every model can learn from.
    """

    active: bool = True
    teacher: Teacher = ModelItself()
    rounds: int = 1
    tasks: frozenset[str] = frozenset({"multiclass"})
    weighs: bool = True

    @abstractmethod
    def choose(
        self, probs: Tensor, before: Tensor | None, labeled: Tensor, exclusive: bool = True
    ) -> Guesses:
        """Choose among the candidates.

        Args:
            probs: float, (N, C), class probabilities by the teacher. Of equally good candidates the
                first are taken.
            before: float, (N, C), those by the model before; NaN where a sample was no candidate;
                None in the first round, and where ``rounds`` is 1.
            labeled: int64, (C,), how many answers there are of each class.
            exclusive: Whether a sample has one class; else it has any of C labels.
        """


class AnswersAlone(Cooperative):
    """Learns from answers alone."""

    active = False
    tasks = frozenset({"multiclass", "multilabel"})
    weighs = False

    def choose(
        self, probs: Tensor, before: Tensor | None, labeled: Tensor, exclusive: bool = True
    ) -> Guesses:
        """See `Cooperative.choose`: none."""
        none = torch.empty(0, dtype=torch.int64)
        return Guesses(none, none if exclusive else none.view(0, probs.shape[1]), torch.empty(0))
