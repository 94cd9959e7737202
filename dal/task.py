"""What is learned: the loss, the probabilities, the metrics and the check of targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal import metrics


def softmax_cotangents(logits: Tensor) -> Tensor:
    """Gradients of the softmax cross-entropy w.r.t. the logits, for each label: ``p − e_y``.

    Computed as ``(1 − p_y) (q − e_y)``, where q is the softmax of the other logits and
    ``1 − p_y = σ(log Σ_{c≠y} exp z_c − z_y)``. Every entry keeps its relative precision, however
    confident the network is; the difference ``p_y − 1`` itself would keep none.

    Args:
        logits: float, (B, C), C of two or more.

    Returns:
        Same dtype, (C, B, C): row y holds the cotangents for label y.

    Raises:
        ValueError: There are fewer than two classes.
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"softmax gradients need logits (B, C) of two or more classes, not "
            f"{tuple(logits.shape)}; check num_classes of the model"
        )
    label = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device).unsqueeze(1)
    others = logits.masked_fill(label, -torch.inf)
    miss = torch.sigmoid(others.logsumexp(-1) - logits.T)
    return miss.unsqueeze(-1) * (others.softmax(-1) - label.to(logits.dtype))


class Task(ABC):
    """What a model's C outputs mean.

    Attributes:
        kind: Which strategies make sense: ``multiclass`` or ``multilabel``.
        num_classes: C; outputs always have C columns in class-name order, whatever labels have
            been seen.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]]
    num_classes: int

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that are none of this task's, naming the first: ValueError."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss in nats of logits (B, C): a scalar; with weights (B,), their weighted mean."""

    @abstractmethod
    def probs(self, logits: Tensor) -> Tensor:
        """Probabilities (N, C) of logits (N, C), in the dtype of the logits."""

    @abstractmethod
    def cotangents(self, logits: Tensor) -> Tensor:
        """Loss gradients at the logits (B, C) for each possible label, (C, B, C)."""

    @abstractmethod
    def evaluate(self, logits: Tensor, targets: Tensor) -> tuple[dict[str, float], Tensor]:
        """Metrics of predictions, ``accuracy`` and ``loss`` among them, and confusion counts."""

    @abstractmethod
    def class_counts(self, targets: Tensor) -> Tensor:
        """How often each class occurs: int64, (C,)."""


@dataclass(frozen=True)
class Multiclass(Task):
    """One of C classes a sample: softmax and cross-entropy.

    Attributes:
        num_classes: C, at least 2.
    """

    kind: ClassVar[Literal["multiclass", "multilabel"]] = "multiclass"
    num_classes: int

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
        """Mean cross-entropy in nats.

        Args:
            logits: float, (B, C).
            targets: int64, (B,).
            weights: float, (B,), weight of each sample, or None for equal ones.

        Returns:
            A scalar; with weights, their weighted mean.
        """
        if weights is None:
            return F.cross_entropy(logits, targets)
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def probs(self, logits: Tensor) -> Tensor:
        """Class probabilities (N, C) of logits (N, C), in the dtype of the logits."""
        return logits.softmax(1)

    def cotangents(self, logits: Tensor) -> Tensor:
        """Loss gradients at the logits (B, C) for each label, (C, B, C); see the function."""
        return softmax_cotangents(logits)

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

    def class_counts(self, targets: Tensor) -> Tensor:
        """How often each class occurs: int64, (C,)."""
        return torch.bincount(targets, minlength=self.num_classes)
