"""What is learned: the loss, the probabilities, the metrics and the check of targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal import metrics
from dal.events import NONE
from dal.pool import REJECTED
from dal.utils.softmax import softmax_cotangents


@dataclass(frozen=True)
class Task(ABC):
    """What a model's C outputs mean.

    Attributes:
        kind: ``multiclass`` or ``multilabel``; a strategy lists the kinds that it is meant for.
        exclusive: Whether every sample has exactly one of the classes.
        headline: The metric of `evaluate` that the learning curve shows.
        besides: Metrics that stand below the `report` at the end of a run, each with its words.
        num_classes: C; outputs always have C columns in class-name order, whatever labels have
            been seen.
        smoothing: Share of a label that its losses spread evenly over the classes (of labels that
            may hold together, over holding and not), 0 to 1: C. Szegedy et al. Rethinking the
            Inception architecture for computer vision. CVPR 2016, section 7.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]]
    exclusive: ClassVar[bool]
    headline: ClassVar[str]
    besides: ClassVar[Mapping[str, str]] = {}
    num_classes: int
    smoothing: float = field(default=0.0, repr=False)

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
    def headline_name(self) -> str:
        """The headline metric as people write it."""
        return self.headline.replace("_", " ").replace("f1", "F1")

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


@dataclass(frozen=True)
class Multiclass(Task):
    """One of C classes a sample: softmax and cross-entropy.

    Attributes:
        num_classes: C, at least 2.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]] = "multiclass"
    exclusive: ClassVar[bool] = True
    headline: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"a classification needs at least 2 classes, not {self.num_classes}")

    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that are no classes.

        Args:
            targets: int64, (N,), in [0, C).

        Raises:
            ValueError: Naming the first target outside [0, C).
        """
        bad = (targets < 0) | (targets >= self.num_classes)
        if bad.any():
            position = int(bad.nonzero()[0])
            raise ValueError(
                f"target {int(targets[position])} (number {position}) is not one of the "
                f"{self.num_classes} classes, 0 to {self.num_classes - 1}"
            )

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats of targets int64, (B,); see `Task.loss`."""
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)
        return (self.losses(logits, targets) * weights).sum() / weights.sum()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats of each sample: (B,)."""
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.smoothing)

    def probs(self, logits: Tensor) -> Tensor:
        """Class probabilities (N, C) of logits (N, C), in the dtype of the logits."""
        return logits.softmax(1)

    def cotangents(self, logits: Tensor) -> Tensor:
        """Loss gradients at the logits (B, C) for each label, (C, B, C); see the function."""
        return softmax_cotangents(logits)

    def hessian_product(self, logits: Tensor, moves: Tensor) -> Tensor:
        """``(diag p - p p') m`` for moves m of the logits: (B, C)."""
        probs = logits.softmax(1)
        return probs * (moves - (probs * moves).sum(1, keepdim=True))

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Where the class of the highest logit is the target: bool, (B,)."""
        return logits.argmax(1) == targets

    def guess(self, probs: Tensor) -> list[tuple[int | list[int], float]]:
        """See `Task.guess`: the class of the highest probability."""
        found, targets = probs.double().max(1)
        return list(zip(targets.tolist(), found.tolist(), strict=True))

    def names(self, probs: Tensor, class_names: Sequence[str]) -> list[str] | list[list[str]]:
        """See `Task.names`: one name a sample."""
        return [class_names[c] for c in probs.argmax(1).tolist()]

    def answer(self, held: Collection[int] | None) -> int:
        """See `Task.answer`: `REJECTED` where it has none of the classes."""
        return NONE if held is None else next(iter(held), REJECTED)

    def evaluate(self, logits: Tensor, targets: Tensor) -> tuple[dict[str, float], Tensor]:
        """Metrics of predictions.

        Args:
            logits: float, (N, C).
            targets: int64, (N,), in [0, C).

        Returns:
            ``accuracy``, ``loss`` (mean negative log-likelihood in nats), ``ece`` and
            ``macro_f1``; and the confusion counts, int64, (C, C), rows true, columns predicted.
        """
        counts = metrics.confusion(logits.argmax(1), targets, self.num_classes)
        log_probs = logits.double().log_softmax(1)
        values = {
            "accuracy": metrics.accuracy(counts),
            "loss": metrics.nll(log_probs, targets),
            "ece": metrics.expected_calibration_error(log_probs.exp(), targets),
            "macro_f1": float(metrics.f1_per_class(counts).mean()),
        }
        return values, counts.cpu()

    def report(self, confusion: Tensor, class_names: Sequence[str]) -> str:
        """See `dal.metrics.classification_report`."""
        return metrics.classification_report(confusion, class_names)

    def recall(self, confusion: Tensor) -> Tensor:
        """See `Task.recall`."""
        counts = confusion.double()
        return counts.diagonal() / counts.sum(1)

    def class_counts(self, targets: Tensor) -> Tensor:
        """How often each class occurs among targets, unknown ones left out: int64, (C,)."""
        return torch.bincount(targets[targets >= 0], minlength=self.num_classes)


@dataclass(frozen=True)
class Multilabel(Task):
    """Any of C labels a sample, none as well: sigmoid outputs and binary cross-entropy.

    Targets are int64, (N, C), 1 where a label holds and 0 where it does not. A label is predicted
    where its probability is above one half.

    Attributes:
        num_classes: C, the number of labels, at least 2.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]] = "multilabel"
    exclusive: ClassVar[bool] = False
    headline: ClassVar[str] = "micro_f1"
    besides: ClassVar[Mapping[str, str]] = {
        "accuracy": "all labels of a sample right (subset accuracy)",
        "sample_f1": "F1 of a sample's labels, mean (sample F1)",
        "hamming_loss": "single decisions wrong (Hamming loss)",
    }

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(
                f"multi-label targets need at least 2 labels, not {self.num_classes}; a single "
                "label that holds or not is a classification with 2 classes"
            )

    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that are no rows of 0 and 1.

        Args:
            targets: int64, (N, C), 0 or 1.

        Raises:
            ValueError: The shape is another, or naming the first row with another number.
        """
        if targets.ndim != 2 or targets.shape[1] != self.num_classes:
            raise ValueError(
                f"targets have shape {tuple(targets.shape)}; multi-label targets are rows of "
                f"{self.num_classes} numbers, 1 where the label holds and 0 where it does not"
            )
        bad = (targets != 0) & (targets != 1)
        if bad.any():
            row, label = (int(number) for number in bad.nonzero()[0])
            raise ValueError(
                f"target {int(targets[row, label])} (row {row}, label {label}) is neither 1 (the "
                "label holds) nor 0 (it does not)"
            )

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean binary cross-entropy in nats: over the labels of a sample, then over samples.

        The mean over labels (not their sum) keeps learning rates and stopping rules comparable
        whatever the number of labels. Targets are int64, (B, C), 0 or 1; see `Task.loss`.
        """
        losses = self.losses(logits, targets)
        return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats of each sample, the mean over its labels: (B,)."""
        wanted = targets.to(logits.dtype)
        if self.smoothing:
            wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)

    def probs(self, logits: Tensor) -> Tensor:
        """Probability of every label (N, C), of logits (N, C), in the dtype of the logits."""
        return logits.sigmoid()

    def cotangents(self, logits: Tensor) -> Tensor:
        """Refused: there are 2**C possible sets of labels, not C.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "gradient lengths for each possible label are defined where a sample has one of C "
            "classes, not for multi-label targets; choose another strategy"
        )

    def hessian_product(self, logits: Tensor, moves: Tensor) -> Tensor:
        """``p (1 - p) m / C`` for moves m of the logits: (B, C)."""
        probs = logits.sigmoid()
        return probs * (1 - probs) * moves / self.num_classes

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Where every label of the sample is right: bool, (B,)."""
        return ((logits > 0) == targets.bool()).all(1)

    def guess(self, probs: Tensor) -> list[tuple[int | list[int], float]]:
        """See `Task.guess`: the set of labels, whose probability takes them as independent."""
        probs = probs.double()
        held = probs > 0.5
        found = torch.where(held, probs, 1 - probs).prod(1)
        return list(zip(held.long().tolist(), found.tolist(), strict=True))

    def names(self, probs: Tensor, class_names: Sequence[str]) -> list[str] | list[list[str]]:
        """See `Task.names`: of each sample the labels more probable than not, none as well."""
        return [[class_names[c] for c in row.nonzero().flatten().tolist()] for row in probs > 0.5]

    def answer(self, held: Collection[int] | None) -> list[int]:
        """See `Task.answer`: 1 for each label that holds."""
        return [NONE if held is None else int(c in held) for c in range(self.num_classes)]

    def evaluate(self, logits: Tensor, targets: Tensor) -> tuple[dict[str, float], Tensor]:
        """Metrics of predictions.

        Args:
            logits: float, (N, C).
            targets: int64, (N, C), 0 or 1.

        Returns:
            ``accuracy`` (the subset accuracy, as scikit-learn has it: the share of samples of
            which every label is right), ``loss`` (see `loss`), ``micro_f1``, ``macro_f1``,
            ``sample_f1`` and ``hamming_loss``; and the outcomes of each label, int64, (C, 2, 2),
            ``[[TN, FP], [FN, TP]]``.
        """
        predicted = logits > 0
        outcomes = metrics.label_outcomes(predicted, targets)
        values = {
            "accuracy": metrics.subset_accuracy(predicted, targets),
            "loss": float(self.loss(logits.double(), targets)),
            "micro_f1": metrics.micro_f1(outcomes),
            "macro_f1": float(metrics.f1_per_label(outcomes).mean()),
            "sample_f1": metrics.sample_f1(predicted, targets),
            "hamming_loss": metrics.hamming_loss(outcomes),
        }
        return values, outcomes.cpu()

    def report(self, confusion: Tensor, class_names: Sequence[str]) -> str:
        """See `dal.metrics.multilabel_report`."""
        return metrics.multilabel_report(confusion, class_names)

    def recall(self, confusion: Tensor) -> Tensor:
        """See `Task.recall`."""
        counts = confusion[:, 1].double()
        return counts[:, 1] / counts.sum(1)

    def class_counts(self, targets: Tensor) -> Tensor:
        """How many samples have each label, those with unknown ones left out: int64, (C,)."""
        return targets.clamp(min=0).sum(0)


def task_named(kind: str, num_classes: int) -> Task:
    """The task of a kind.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in TASKS:
        raise ValueError(f"{kind!r} is no kind of task; there are {', '.join(TASKS)}")
    return TASKS[kind](num_classes)


def task_of(targets: Tensor, num_classes: int) -> Task:
    """The task that targets belong to: multi-label for rows (N, C), else one class a sample."""
    return Multilabel(num_classes) if targets.ndim == 2 else Multiclass(num_classes)


TASKS: dict[str, type[Multiclass] | type[Multilabel]] = {
    task.kind: task for task in (Multiclass, Multilabel)
}
"""Every task by its kind."""
