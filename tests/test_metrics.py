"""Metrics against scikit-learn and plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from dal.metrics import (
    accuracy,
    aubc,
    average_precision,
    confusion,
    expected_calibration_error,
    f1_per_class,
    f1_per_label,
    hamming_loss,
    label_outcomes,
    mean_average_precision,
    micro_f1,
    nll,
    sample_f1,
    subset_accuracy,
)


def predictions(classes: int, count: int = 200) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(classes)
    probs = (2 * torch.randn(count, classes, generator=rng).double()).softmax(1)
    return probs, torch.randint(classes, (count,), generator=rng)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_counts_equal_sklearn(classes: int) -> None:
    probs, targets = predictions(classes)
    predicted = probs.argmax(1)
    counts = confusion(predicted, targets, classes)
    labels = list(range(classes))
    want = reference.confusion_matrix(targets, predicted, labels=labels)
    assert counts.tolist() == want.tolist()
    assert accuracy(counts) == pytest.approx(reference.accuracy_score(targets, predicted))
    f1 = reference.f1_score(targets, predicted, labels=labels, average=None)
    assert f1_per_class(counts).tolist() == pytest.approx(f1.tolist())


def test_counts_of_classes_that_never_occur() -> None:
    predicted, targets = torch.tensor([0, 0, 2]), torch.tensor([0, 2, 2])
    counts = confusion(predicted, targets, 5)
    assert counts.tolist()[2] == [1, 0, 1, 0, 0]
    assert counts.shape == (5, 5)
    want = reference.f1_score(targets, predicted, labels=range(5), average=None, zero_division=0)
    assert f1_per_class(counts).tolist() == pytest.approx(want.tolist())


@pytest.mark.parametrize("classes", [2, 10])
def test_nll_equals_sklearn(classes: int) -> None:
    probs, targets = predictions(classes)
    want = reference.log_loss(targets, probs, labels=range(classes))
    assert nll(probs.log(), targets) == pytest.approx(want)


def loop_ece(probs: Tensor, targets: Tensor, bins: int) -> float:
    rows = [(max(row), row.index(max(row))) for row in probs.tolist()]
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            (confidence, predicted == target)
            for (confidence, predicted), target in zip(rows, targets.tolist(), strict=True)
            if (m - 1) / bins < confidence <= m / bins
        ]
        if inside:
            mean_confidence = sum(c for c, _ in inside) / len(inside)
            mean_accuracy = sum(hit for _, hit in inside) / len(inside)
            total += len(inside) / len(rows) * abs(mean_accuracy - mean_confidence)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_error_equals_loop(classes: int, bins: int) -> None:
    probs, targets = predictions(classes)
    want = loop_ece(probs, targets, bins)
    assert want > 0.01
    assert expected_calibration_error(probs, targets, bins) == pytest.approx(want)
    assert expected_calibration_error(probs.float(), targets, bins) == pytest.approx(want, abs=1e-6)


def test_calibration_error_at_the_edges_of_bins() -> None:
    probs = torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    targets = torch.tensor([int(probs[0].argmax()), 1])
    # 0.5 falls into the lower of two bins; together in one the gaps would cancel to 0.125.
    assert expected_calibration_error(probs, targets, bins=2) == pytest.approx(0.625)
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(sure, torch.tensor([0, 1])) == 0
    assert expected_calibration_error(sure, torch.tensor([1, 0])) == 1


def test_aubc_by_hand() -> None:
    # Trapezoids 10·0.5 and 30·0.7 over a range of 40 labels.
    assert aubc([10, 20, 50], [0.4, 0.6, 0.8]) == pytest.approx((10 * 0.5 + 30 * 0.7) / 40)
    assert aubc([10, 20], [0.3, 0.3]) == pytest.approx(0.3)
    assert aubc([10], [0.4]) == 0.4
    assert aubc([10, 10], [0.4, 0.5]) == 0.5


def test_aubc_equals_sklearn() -> None:
    labels = [20, 30, 55, 90, 200]
    values = [0.1, 0.5, 0.4, 0.7, 0.9]
    assert aubc(labels, values) == pytest.approx(reference.auc(labels, values) / 180)


@pytest.mark.parametrize(("labels", "values"), [([], []), ([1, 2], [0.5]), ([1], [0.5, 0.6])])
def test_aubc_of_unequal_or_no_points(labels: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError, match="as many labels as values"):
        aubc(labels, values)


def test_nll_of_a_saturated_prediction_is_finite() -> None:
    log_probs = torch.tensor([[0.0, -300.0]]).double().log_softmax(1)
    assert nll(log_probs, torch.tensor([1])) == pytest.approx(300)
    assert math.isfinite(nll(log_probs.float(), torch.tensor([1])))


def label_sets(labels: int) -> tuple[Tensor, Tensor]:
    """Sparse sets; the last label never occurs and is never predicted, some rows are empty."""
    rng = torch.Generator().manual_seed(labels)
    targets = (torch.rand(200, labels, generator=rng) < 0.3).long()
    predicted = torch.where(torch.rand(200, labels, generator=rng) < 0.3, 1 - targets, targets)
    targets[:, -1] = predicted[:, -1] = 0
    return predicted, targets


@pytest.mark.parametrize("labels", [2, 3, 12])
def test_multilabel_metrics_equal_sklearn(labels: int) -> None:
    predicted, targets = label_sets(labels)
    outcomes = label_outcomes(predicted, targets)
    want = reference.multilabel_confusion_matrix(targets, predicted)
    assert outcomes.dtype == torch.int64
    assert outcomes.tolist() == want.tolist()
    f1 = {
        average: reference.f1_score(targets, predicted, average=average, zero_division=0)
        for average in ("micro", "macro", "samples", None)
    }
    assert f1_per_label(outcomes).tolist() == pytest.approx(f1[None])
    assert float(f1_per_label(outcomes).mean()) == pytest.approx(f1["macro"])
    assert micro_f1(outcomes) == pytest.approx(f1["micro"])
    assert sample_f1(predicted, targets) == pytest.approx(f1["samples"])
    assert hamming_loss(outcomes) == pytest.approx(reference.hamming_loss(targets, predicted))
    want_accuracy = reference.accuracy_score(targets, predicted)
    assert subset_accuracy(predicted.bool(), targets) == pytest.approx(want_accuracy)


def test_multilabel_metrics_without_any_label() -> None:
    nothing = torch.zeros(4, 3, dtype=torch.int64)
    outcomes = label_outcomes(nothing, nothing)
    assert outcomes[:, 0, 0].tolist() == [4, 4, 4]
    assert (micro_f1(outcomes), sample_f1(nothing, nothing), hamming_loss(outcomes)) == (0, 0, 0)
    assert subset_accuracy(nothing, nothing) == 1


@pytest.mark.parametrize("digits", [1, 6])
def test_average_precision_equals_sklearn_with_ties(digits: int) -> None:
    rng = torch.Generator().manual_seed(digits)
    scores = torch.rand(60, 9, generator=rng, dtype=torch.float64).round(decimals=digits)
    targets = (torch.rand(60, 9, generator=rng) < 0.2).long()
    targets[:, 0] = 0
    found = average_precision(scores, targets)
    for label in range(1, 9):
        want = reference.average_precision_score(targets[:, label], scores[:, label])
        assert float(found[label]) == pytest.approx(want)
    assert found[0].isnan()
    assert mean_average_precision(scores, targets) == pytest.approx(float(found[1:].mean()))


def test_average_precision_of_a_constant_is_the_share_of_the_label() -> None:
    targets = torch.tensor([[1], [0], [0], [1], [0]])
    assert average_precision(torch.zeros(5, 1), targets).tolist() == [pytest.approx(0.4)]


def test_no_label_that_occurs_has_no_average_precision() -> None:
    assert mean_average_precision(torch.rand(3, 2), torch.zeros(3, 2, dtype=torch.int64)) == 0


def test_average_precision_takes_what_is_no_number_for_the_lowest() -> None:
    scores = torch.tensor([[torch.nan], [1.0], [0.0]])
    assert average_precision(scores, torch.tensor([[0], [1], [0]])).tolist() == [1.0]
