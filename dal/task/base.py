"""What is learned: the loss, the probabilities, the metrics and the check of targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

WRITTEN = {"map": "mAP", "ece": "ECE"}
"""Names of metrics as people write them, where these are others."""


@dataclass(frozen=True)
class Task(ABC):
    """What a model's C outputs mean.

    Attributes:
        kind: ``multiclass`` or ``multilabel``; a strategy lists the kinds that it is meant for.
        exclusive: Whether every sample has exactly one of the classes.
        usual: The metric of `evaluate` that the learning curve shows where nobody chose another.
        metric_names: Those that `evaluate` gives.
        besides: Metrics that stand below the `report` at the end of a run, each with its words.
        num_classes: C; outputs always have C columns in class-name order, whatever labels have
            been seen.
        smoothing: Share of a label that its losses spread evenly over the classes (of labels that
            may hold together, over holding and not), 0 to 1: C. Szegedy et al. Rethinking the
            Inception architecture for computer vision. CVPR 2016, section 7.
        thresholds: Probability above which each label is predicted, 0 to 1, where several may hold
            together; none for one half.
        chosen: The metric that the learning curve shows; None for `usual`.

    Raises:
        ValueError: A number is out of range, or ``chosen`` is none of the metrics.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]]
    exclusive: ClassVar[bool]
    usual: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]
    besides: ClassVar[Mapping[str, str]] = {}
    num_classes: int
    smoothing: float = field(default=0.0, repr=False)
    thresholds: tuple[float, ...] = field(default=(), repr=False)
    chosen: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.chosen not in (None, *self.metric_names):
            raise ValueError(
                f"headline={self.chosen}, and {self.kind} targets have "
                f"{', '.join(self.metric_names)}; choose one of them"
            )

    def check_kind(self, kinds: Collection[str], name: str, of: str) -> None:
        """Refuse a strategy that is meant for other kinds of tasks.

        Args:
            kinds: Those that the strategy is meant for.
            name: The strategy's.
            of: Whose targets these are, for the error.

        Raises:
            TypeError: This kind is not among them.
        """
        if self.kind not in kinds:
            raise TypeError(
                f"{name} is meant for {' and '.join(sorted(kinds))} targets, and those of {of} are "
                f"{self.kind}; choose another strategy"
            )

    @property
    def headline(self) -> str:
        """The metric of `evaluate` that the learning curve shows."""
        return self.chosen or self.usual

    @property
    def headline_name(self) -> str:
        """The headline metric as people write it."""
        return WRITTEN.get(self.headline) or self.headline.replace("_", " ").replace("f1", "F1")

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that are none of this task's, naming the first: ValueError."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss in nats of logits (B, C): a scalar; with weights (B,), their weighted mean."""

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss in nats of each sample, (B,), of which `loss` is the mean."""

    @abstractmethod
    def probs(self, logits: Tensor) -> Tensor:
        """Probabilities (N, C) of logits (N, C), in the dtype of the logits."""

    @abstractmethod
    def cotangents(self, logits: Tensor) -> Tensor:
        """Loss gradients at the logits (B, C) for each possible label, (C, B, C)."""

    @abstractmethod
    def hessian_product(self, logits: Tensor, moves: Tensor) -> Tensor:
        """Second derivative of each sample's loss at its logits, times a move of these: (B, C)."""

    @abstractmethod
    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Which predictions of logits (B, C) are right, as ``accuracy`` counts them: bool, (B,)."""

    @abstractmethod
    def guess(self, probs: Tensor) -> list[tuple[int | list[int], float]]:
        """The likeliest target of each row of probabilities (N, C), and its probability."""

    @abstractmethod
    def names(self, probs: Tensor, class_names: Sequence[str]) -> list[str] | list[list[str]]:
        """What is predicted by each row of probabilities (N, C), by name."""

    @abstractmethod
    def answer(self, held: Collection[int] | None) -> int | list[int]:
        """The target that says which classes a sample has; None where nobody can tell."""

    @abstractmethod
    def evaluate(self, logits: Tensor, targets: Tensor) -> tuple[dict[str, float], Tensor]:
        """Metrics of predictions, ``accuracy`` and ``loss`` among them, and confusion counts."""

    @abstractmethod
    def by_label(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Metrics of each class, or label, of predictions as `evaluate` takes them.

        Returns:
            On the CPU, (C,): ``precision``, ``recall`` and ``f1``, float64, 0 where nothing
            defines them; and ``support``, int64, how many samples have it.
        """

    def fitted(self, logits: Tensor, targets: Tensor) -> Task:
        """The task with the thresholds that are best for predictions (N, C) of known targets.

        Raises:
            TypeError: A sample has one class, so no thresholds decide.
        """
        raise TypeError(
            "thresholds=fitted is for samples that may have several labels, and these have one "
            "class each, the most probable; set thresholds=half"
        )

    @abstractmethod
    def report(self, confusion: Tensor, class_names: Sequence[str]) -> str:
        """scikit-learn's report of precision, recall, F1 and support, from those counts."""

    @abstractmethod
    def recall(self, confusion: Tensor) -> Tensor:
        """Share of each class's test samples that were found, from the counts of `evaluate`.

        Returns:
            float64, (C,), NaN for a class without samples.
        """

    @abstractmethod
    def class_counts(self, targets: Tensor) -> Tensor:
        """How often each class occurs among targets, unknown ones left out: int64, (C,)."""
