"""One of several classes a sample."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal import metrics
from dal.events import NONE
from dal.pool import REJECTED
from dal.task.base import Task
from dal.utils.softmax import softmax_cotangents


@dataclass(frozen=True)
class Multiclass(Task):
    """One of C classes a sample: softmax and cross-entropy.

    Attributes:
        num_classes: C, at least 2.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]] = "multiclass"
    exclusive: ClassVar[bool] = True
    usual: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "ece", "macro_f1")

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def by_label(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Task.by_label`."""
        counts = metrics.confusion(logits.argmax(1), targets, self.num_classes).cpu()
        return metrics.scores(metrics.outcomes_of_classes(counts))

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
