"""Any of several labels a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal import metrics
from dal.events import NONE
from dal.task.base import Task
from dal.task.thresholds import fitted_thresholds


@dataclass(frozen=True)
class Multilabel(Task):
    """Any of C labels a sample, none as well: sigmoid outputs and binary cross-entropy.

    Targets are int64, (N, C), 1 where a label holds and 0 where it does not. A label is predicted
    where its probability is above its threshold. Losses and probabilities know no thresholds.

    Attributes:
        num_classes: C, the number of labels, at least 2.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]] = "multilabel"
    exclusive: ClassVar[bool] = False
    usual: ClassVar[str] = "micro_f1"
    metric_names: ClassVar[tuple[str, ...]] = (
        *("accuracy", "loss", "micro_f1", "macro_f1", "sample_f1", "hamming_loss", "map"),
    )
    besides: ClassVar[Mapping[str, str]] = {
        "accuracy": "all labels of a sample right (subset accuracy)",
        "sample_f1": "F1 of a sample's labels, mean (sample F1)",
        "hamming_loss": "single decisions wrong (Hamming loss)",
        "map": "average precision, mean over labels (mAP)",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 2:
            raise ValueError(
                f"multi-label targets need at least 2 labels, not {self.num_classes}; a single "
                "label that holds or not is a classification with 2 classes"
            )
        if self.thresholds and len(self.thresholds) != self.num_classes:
            raise ValueError(
                f"{len(self.thresholds)} thresholds for {self.num_classes} labels; give one a label"
            )
        if wrong := [share for share in self.thresholds if not 0 <= share <= 1]:
            raise ValueError(f"the threshold {wrong[0]} is no probability; give numbers of [0, 1]")

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
        whatever the number of labels. Targets are int64, (B, C), 0 or 1; weights may also be those
        of single labels, (B, C); see `Task.loss`.
        """
        if weights is not None and weights.ndim == 2:
            return (self.losses_by_label(logits, targets) * weights).sum() / weights.sum()
        losses = self.losses(logits, targets)
        return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats of each sample, the mean over its labels: (B,)."""
        return self.losses_by_label(logits, targets).mean(1)

    def losses_by_label(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy in nats of each label of each sample: (B, C)."""
        wanted = targets.to(logits.dtype)
        if self.smoothing:
            wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

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
        return (self._said(logits) == targets.bool()).all(1)

    def _said(self, logits: Tensor) -> Tensor:
        """Which labels logits (N, C) predict: bool, (N, C)."""
        if not self.thresholds:
            return logits > 0
        return logits > logits.new_tensor(self.thresholds, dtype=torch.float64).logit()

    def _held(self, probs: Tensor) -> Tensor:
        """Which labels probabilities (N, C) predict: bool, (N, C)."""
        if not self.thresholds:
            return probs > 0.5
        return probs > probs.new_tensor(self.thresholds, dtype=torch.float64)

    def fitted(self, logits: Tensor, targets: Tensor) -> Task:
        """See `Task.fitted`: by `dal.task.thresholds.fitted_thresholds`."""
        found = fitted_thresholds(logits.double().sigmoid(), targets)
        return replace(self, thresholds=tuple(found.tolist()))

    def guess(self, probs: Tensor) -> list[tuple[int | list[int], float]]:
        """See `Task.guess`: the set of labels, whose probability takes them as independent."""
        probs = probs.double()
        held = self._held(probs)
        found = torch.where(held, probs, 1 - probs).prod(1)
        return list(zip(held.long().tolist(), found.tolist(), strict=True))

    def names(self, probs: Tensor, class_names: Sequence[str]) -> list[str] | list[list[str]]:
        """See `Task.names`: of each sample all labels that are predicted, none as well."""
        rows = self._held(probs)
        return [[class_names[c] for c in row.nonzero().flatten().tolist()] for row in rows]

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
            ``sample_f1``, ``hamming_loss`` and ``map``, the mean average precision over the labels
            that occur (0 where none does); and the outcomes of each label, int64, (C, 2, 2),
            ``[[TN, FP], [FN, TP]]``.
        """
        predicted = self._said(logits)
        outcomes = metrics.label_outcomes(predicted, targets)
        values = {
            "accuracy": metrics.subset_accuracy(predicted, targets),
            "loss": float(self.loss(logits.double(), targets)),
            "micro_f1": metrics.micro_f1(outcomes),
            "macro_f1": float(metrics.f1_per_label(outcomes).mean()),
            "sample_f1": metrics.sample_f1(predicted, targets),
            "hamming_loss": metrics.hamming_loss(outcomes),
            "map": metrics.mean_average_precision(logits, targets),
        }
        return values, outcomes.cpu()

    def by_label(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Task.by_label`; ``average_precision`` as well, NaN for labels that never occur."""
        found = metrics.scores(metrics.label_outcomes(self._said(logits), targets))
        precisions = metrics.average_precision(logits, targets)
        return {name: values.cpu() for name, values in found.items()} | {
            "average_precision": precisions.cpu()
        }

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
