"""The works of a round that several runs may do at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dal.data.source import Split
from dal.learners.base import RoundContext
from dal.learners.network import TorchLearner
from dal.query.base import PoolView
from dal.query.needs import Needs
from dal.train_set import TrainSet
from dal.training.context import FitState


@dataclass(frozen=True)
class FitWork:
    """A round's fit."""

    name: ClassVar[str] = "fit"
    learner: TorchLearner
    train_set: TrainSet
    context: RoundContext

    def alone(self) -> FitState:
        """Without the others."""
        return self.learner.fit(self.train_set, self.context)


@dataclass(frozen=True)
class PredictWork:
    """Logits of a split."""

    name: ClassVar[str] = "predict"
    learner: TorchLearner
    split: Split
    context: RoundContext

    def alone(self) -> Tensor:
        """Without the others."""
        return self.learner.predict(self.split, self.context)


@dataclass(frozen=True)
class ScanWork:
    """The pass over the candidates."""

    name: ClassVar[str] = "scan"
    learner: TorchLearner
    indices: Tensor
    needs: Needs
    context: RoundContext
    train_set: TrainSet | None

    def alone(self) -> PoolView:
        """Without the others."""
        return self.learner.scan(self.indices, self.needs, self.context, self.train_set)


Work = FitWork | PredictWork | ScanWork
STEPS = ("fit", "predict", "scan")
"""The works of a round in their order."""


def order_of(work: Work) -> tuple[int, int]:
    """What of several works is done first: that of the earliest round, in the order of steps."""
    return work.context.round, STEPS.index(work.name)
