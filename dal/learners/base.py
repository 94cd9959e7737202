"""What the loop needs of a model: fit, scan, predict, state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal.data.source import Source, Split
from dal.query.base import PoolView
from dal.query.needs import Decision, Need, Needs, Of
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.context import FitState, Save


@dataclass(frozen=True)
class RoundContext:
    """What one round's work takes from the loop.

    Attributes:
        round: Number of the round.
        check: Called at moments when the process may end without loss; raises to end it. One of
            several processes tells the others by `Ranks.end_all`.
        on_epoch: See `FitContext.on_epoch`.
        on_save: The same for networks whose curves are not recorded: it only saves.
        pending: See `FitContext.pending`.
        on_signal: See `FitContext.on_signal`.
        resume: A saved fit to go on from, or None.
        validation: Labels held out of those that are trained on, to validate on; None for the
            validation part of the data, where there is one.
        rejected: int64, (R,), samples that are none of the classes, for needs that look at them.
        unlabeled: int64, (N,), the candidates, for trainers that learn from these as well.
    """

    round: int = 0
    check: Callable[[], None] = lambda: None
    on_epoch: Callable[[FitState, Save], None] = lambda state, save: None
    on_save: Callable[[FitState, Save], None] = lambda state, save: None
    pending: Callable[[], bool] = lambda: False
    on_signal: Callable[[Save], None] = lambda save: None
    resume: dict[str, Any] | None = None
    validation: TrainSet | None = None
    rejected: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    unlabeled: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def validation_part(self, source: Source) -> Split | None:
        """What the round validates on: labels held out, or a part of the data; None for nothing."""
        if self.validation is None:
            return source.validation
        return source.train.part(self.validation.indices).with_targets(self.validation.targets)

    def rows(self, of: Of, train_set: TrainSet | None) -> Tensor:
        """int64: the samples, no candidates, that a need is about."""
        if of == "rejected":
            return self.rejected
        assert train_set is not None
        return train_set.indices


class Learner(ABC):
    """A model that can be fitted on labels and asked about the pool.

    Attributes:
        capabilities: The kinds of needs that `scan` can answer.
        task: What is predicted, as the model that was fitted last decides it: with its thresholds.
    """

    capabilities: frozenset[type[Need]]
    task: Task
    source: Source

    def aside(self, source: Source) -> Learner:
        """The same fitted model for other data of its kind, to be asked, and not to be fitted."""
        other = copy.copy(self)
        other.source = source
        return other

    @abstractmethod
    def fit(self, train_set: TrainSet, context: RoundContext) -> FitState:
        """Fit on the labeled samples; see `Trainer.fit` for errors."""

    def decide(self, train_set: TrainSet, context: RoundContext) -> None:  # noqa: B027
        """Fit how the fitted model decides, where thresholds are to be; that is `task` then.

        Called after `fit` with the same arguments; again, it comes to the same.
        """

    @abstractmethod
    def scan(
        self,
        indices: Tensor,
        needs: Needs,
        context: RoundContext,
        train_set: TrainSet | None = None,
    ) -> PoolView:
        """Compute what a strategy needs.

        Args:
            indices: int64, (N,), N >= 1, the candidates.
            needs: Without any, nothing is run.
            context: The round.
            train_set: The labeled samples, for the needs that look at them.
        """

    def check_weights(self, remedy: str) -> None:  # noqa: B027 - most can
        """Refuse to learn from labels that weigh differently, where the model cannot.

        Raises:
            TypeError: With the remedy.
        """

    @abstractmethod
    def predict(self, split: Split, context: RoundContext) -> Tensor:
        """Logits for every sample of a split: float32, (N, C), on the CPU."""

    def differentiable(
        self, needs: Needs, context: RoundContext, of: Literal["inputs", "features"] = "inputs"
    ) -> Callable[[Tensor], dict[Need, Tensor]]:
        """A function that answers needs as `scan` does, with gradients back to what it is given.

        Args:
            needs: What it answers, probabilities as float64.
            context: The round.
            of: What it is given: prepared inputs, float32, (B, ...), or features, (B, D), on the
                device of the learner.

        Raises:
            TypeError: It has no gradient of that; says why.
        """
        raise TypeError("the model has no gradient; choose a network, such as model=mlp")

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The fitted model, as tensors and plain containers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the model as it stands; before the first fit all runs at one seed share it."""

    @abstractmethod
    def numerics(self) -> dict[str, Any]:
        """What besides device and threads decides the bits of its results, as plain values."""

    @abstractmethod
    def export(self, run_dir: Path) -> None:
        """Write what `dal.load` reads into the run directory."""

    def check_needs(self, needs: Needs, strategy: str) -> None:
        """Refuse a strategy whose needs this learner cannot answer.

        Raises:
            TypeError: Naming strategy, need and learner.
        """
        for need in sorted(needs, key=repr):
            if type(need) not in self.capabilities:
                remedy = "model=svm or model=linear_svm" if need == Decision() else "another model"
                raise TypeError(
                    f"{strategy} needs {need}, which this model cannot give; "
                    f"choose {remedy}, or another strategy"
                )
