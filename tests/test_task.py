"""The multiclass task against scikit-learn and hand-written losses."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from dal.task import Multiclass


def predictions(classes: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(classes)
    logits = 2 * torch.randn(100, classes, generator=rng)
    return logits, torch.randint(classes, (100,), generator=rng)


def cross_entropies(logits: Tensor, targets: Tensor) -> list[float]:
    return [
        math.log(sum(math.exp(z) for z in row)) - row[target]
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
    ]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_evaluate_equals_sklearn(classes: int) -> None:
    logits, targets = predictions(classes)
    values, counts = Multiclass(classes).evaluate(logits, targets)
    probs = logits.double().softmax(1)
    predicted = logits.argmax(1)
    labels = range(classes)
    assert set(values) == {"accuracy", "loss", "ece", "macro_f1"}
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(targets, predicted))
    assert values["loss"] == pytest.approx(reference.log_loss(targets, probs, labels=labels))
    f1 = reference.f1_score(targets, predicted, labels=labels, average="macro", zero_division=0)
    assert values["macro_f1"] == pytest.approx(f1)
    assert 0 < values["ece"] < 1
    assert counts.tolist() == reference.confusion_matrix(targets, predicted, labels=labels).tolist()


def test_macro_f1_counts_classes_that_never_occur() -> None:
    logits = torch.eye(4)[torch.tensor([0, 0, 1])]
    values, counts = Multiclass(4).evaluate(logits, torch.tensor([0, 1, 1]))
    assert values["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 4)
    assert counts.shape == (4, 4)


def test_saturated_logits_have_a_finite_loss() -> None:
    logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0]])
    values, _ = Multiclass(2).evaluate(logits, torch.tensor([1, 1]))
    assert values["loss"] == pytest.approx(500)


def test_loss_is_the_mean_cross_entropy() -> None:
    logits, targets = predictions(5)
    losses = cross_entropies(logits, targets)
    task = Multiclass(5)
    assert float(task.loss(logits, targets)) == pytest.approx(sum(losses) / 100, rel=1e-5)
    weights = torch.rand(100, generator=torch.Generator().manual_seed(1))
    want = sum(w * x for w, x in zip(weights.tolist(), losses, strict=True)) / sum(weights.tolist())
    assert float(task.loss(logits, targets, weights)) == pytest.approx(want, rel=1e-5)
    assert want != pytest.approx(sum(losses) / 100, rel=1e-3)


def test_probs_are_the_softmax_in_the_dtype_of_the_logits() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert Multiclass(2).probs(logits).tolist() == [pytest.approx([0.25, 0.75])]
    assert Multiclass(2).probs(logits.double()).dtype == torch.float64


@pytest.mark.parametrize(("target", "position"), [(3, 2), (-1, 0), (7, 4)])
def test_targets_outside_the_classes_are_refused(target: int, position: int) -> None:
    targets = torch.tensor([0, 1, 2, 1, 0])
    Multiclass(3).check_targets(targets)
    Multiclass(3).check_targets(targets[:0])
    targets[position] = target
    with pytest.raises(ValueError, match=rf"target {target} \(number {position}\).* 0 to 2"):
        Multiclass(3).check_targets(targets)


def test_class_counts_include_absent_classes() -> None:
    assert Multiclass(4).class_counts(torch.tensor([2, 0, 2])).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("classes", [1, 0])
def test_fewer_than_two_classes_are_refused(classes: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 classes, not {classes}"):
        Multiclass(classes)
