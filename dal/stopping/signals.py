"""What successive models say of a fixed set of samples: columns of the rows, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What a model predicts for the stop set.

    Attributes:
        logits: float32, (S, C).
        before: What `predicted` was of the model before; None for the first.
        exclusive: Whether a sample has exactly one of the classes, or else any of C labels.
    """

    logits: Tensor
    before: Tensor | None
    exclusive: bool

    @cached_property
    def predicted(self) -> Tensor:
        """The class of each sample, int64, (S,); or which of its labels hold, bool, (S, C)."""
        return self.logits.argmax(1) if self.exclusive else self.logits > 0

    @cached_property
    def probs(self) -> Tensor:
        """float64, (S, C): probabilities of classes, or of labels."""
        logits = self.logits.double()
        return logits.softmax(1) if self.exclusive else logits.sigmoid()


def signals(seen: Seen) -> dict[str, float]:
    """The columns that every run has.

    Returns:
        ``stop/entropy``, ``stop/entropy_max`` and ``stop/expected_f1``; after the first round
        ``stop/kappa`` and ``stop/changed`` as well.
    """
    entropies = uncertainties(seen)
    found = {
        "stop/entropy": float(entropies.mean()),
        "stop/entropy_max": float(entropies.max()),
        "stop/expected_f1": expected_f1(seen.probs, seen.predicted),
    }
    if seen.before is not None:
        found["stop/kappa"] = kappa(seen.before, seen.predicted)
        found["stop/changed"] = changed(seen.before, seen.predicted)
    return found


def kappa(before: Tensor, now: Tensor) -> float:
    """Cohen's kappa: agreement of two models' predictions beyond what chance gives.

    (P_o - P_e) / (1 - P_e), P_o the share of equal predictions, P_e that of independent ones with
    the same frequencies. Of multi-label predictions every label of every sample is one decision,
    and all decisions are taken together.

    Args:
        before: int64, (S,), or bool, (S, C).
        now: The same of another model.

    Returns:
        At most 1. Where both models give everything one and the same class, it is not defined, and
        0 here: nothing beyond chance is seen of models that tell nothing apart. (small-text gives
        1 there, scikit-learn NaN.)

    Reference:
        J. Cohen. A coefficient of agreement for nominal scales. Educational and Psychological
        Measurement 20, 1960.
    """
    one, two = before.flatten().long(), now.flatten().long()
    classes = 1 + int(torch.max(one.max(), two.max()))
    frequencies = [torch.bincount(each, minlength=classes) for each in (one, two)]
    total, same = len(one), int((one == two).sum())
    by_chance = int((frequencies[0] * frequencies[1]).sum())  # whole numbers: exact
    left = total**2 - by_chance
    return (total * same - by_chance) / left if left else 0.0


def changed(before: Tensor, now: Tensor) -> float:
    """Share of the samples whose prediction is another, in [0, 1]; of label sets, in any label."""
    other = before != now
    return float((other if other.ndim == 1 else other.any(1)).double().mean())


def uncertainties(seen: Seen) -> Tensor:
    """Entropies in nats: float64, (S,) of samples; multi-label (S, C), of every label of each."""
    own: Tensor = torch.special.entr(seen.probs)
    return own.sum(1) if seen.exclusive else own + torch.special.entr(1 - seen.probs)


def expected_f1(probs: Tensor, predicted: Tensor) -> float:
    """The micro F1 that a model expects of itself, in [0, 1], where its probabilities are right.

    2 TP / (2 TP + FP + FN) of expected counts: of each class or label that is predicted p goes to
    TP and 1 - p to FP, of each other one p to FN. Where a sample has one class this is the mean of
    the largest probabilities: the expected accuracy.

    Args:
        probs: float64, (S, C).
        predicted: int64, (S,), or bool, (S, C).

    Reference:
        F. Laws and H. Schütze. Stopping criteria for active learning of named entity recognition.
        COLING 2008, section 3.3.
    """
    held = predicted
    if predicted.ndim == 1:
        held = torch.zeros_like(probs, dtype=torch.bool).scatter(1, predicted.unsqueeze(1), True)
    true = float(probs[held].sum())
    wrong, missed = float((1 - probs)[held].sum()), float(probs[~held].sum())
    return 2 * true / max(2 * true + wrong + missed, torch.finfo(torch.float64).tiny)
