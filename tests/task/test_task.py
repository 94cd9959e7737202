"""The tasks against scikit-learn and hand-written losses."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as reference
from sklearn.metrics import recall_score
from torch import Tensor

from dal.task import Multiclass, Multilabel, task_named, task_of


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


def label_predictions(labels: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(labels)
    logits = 3 * torch.randn(100, labels, generator=rng)
    return logits, (torch.rand(100, labels, generator=rng) < logits.sigmoid()).long()


def binary_cross_entropies(logits: Tensor, targets: Tensor) -> list[float]:
    """Of each sample, the mean over its labels."""
    return [
        sum(math.log1p(math.exp(-z if y else z)) for z, y in zip(zs, ys, strict=True)) / len(zs)
        for zs, ys in zip(logits.tolist(), targets.tolist(), strict=True)
    ]


@pytest.mark.parametrize("labels", [2, 3, 10])
def test_multilabel_evaluate_equals_sklearn(labels: int) -> None:
    logits, targets = label_predictions(labels)
    values, outcomes = Multilabel(labels).evaluate(logits, targets)
    predicted = (logits.double().sigmoid() > 0.5).long()
    f1 = {
        kind: reference.f1_score(targets, predicted, average=kind, zero_division=0)
        for kind in ("micro", "macro", "samples")
    }
    losses = [
        reference.log_loss(targets[:, label], logits[:, label].double().sigmoid(), labels=[0, 1])
        for label in range(labels)
    ]
    assert values == {
        "accuracy": pytest.approx(reference.accuracy_score(targets, predicted)),
        "loss": pytest.approx(sum(losses) / labels),
        "micro_f1": pytest.approx(f1["micro"]),
        "macro_f1": pytest.approx(f1["macro"]),
        "sample_f1": pytest.approx(f1["samples"]),
        "hamming_loss": pytest.approx(reference.hamming_loss(targets, predicted)),
        "map": pytest.approx(reference.average_precision_score(targets, logits, average="macro")),
    }
    want = reference.multilabel_confusion_matrix(targets, predicted)
    assert outcomes.tolist() == want.tolist()
    right = Multilabel(labels).correct(logits, targets)
    assert float(right.double().mean()) == pytest.approx(values["accuracy"])


def test_labels_are_predicted_above_their_thresholds() -> None:
    logits, targets = label_predictions(3)
    task, probs = Multilabel(3, thresholds=(0.2, 0.5, 1.0)), logits.sigmoid()
    said = probs > torch.tensor([0.2, 0.5, 1.0])
    values, outcomes = task.evaluate(logits, targets)
    assert outcomes.tolist() == reference.multilabel_confusion_matrix(targets, said).tolist()
    assert values["macro_f1"] == pytest.approx(
        reference.f1_score(targets, said, average="macro", zero_division=0)
    )
    assert task.correct(logits, targets).tolist() == (said == targets.bool()).all(1).tolist()
    assert [target for target, _ in task.guess(probs)] == said.long().tolist()
    names = task.names(probs, "abc")
    assert names == [[n for n, held in zip("abc", row, strict=True) if held] for row in said]
    plain = Multilabel(3)
    half = Multilabel(3, thresholds=(0.5,) * 3)
    assert half.evaluate(logits, targets)[0] == plain.evaluate(logits, targets)[0]
    for name in ("loss", "map"):  # that know no thresholds
        assert values[name] == plain.evaluate(logits, targets)[0][name]


def test_thresholds_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="2 thresholds for 3 labels"):
        Multilabel(3, thresholds=(0.5, 0.5))
    with pytest.raises(ValueError, match=r"threshold 1\.5 is no probability"):
        Multilabel(2, thresholds=(0.5, 1.5))
    with pytest.raises(TypeError, match=r"one class each.*set thresholds=half"):
        Multiclass(3).fitted(*predictions(3))


def test_fitted_thresholds_have_the_largest_macro_f1() -> None:
    logits, targets = label_predictions(4)
    targets[:, 2] = 0
    targets[:3, 2] = 1  # a rare one, which no probability says
    fitted = Multilabel(4).fitted(logits, targets)
    most = fitted.evaluate(logits, targets)[0]["macro_f1"]
    assert most > Multilabel(4).evaluate(logits, targets)[0]["macro_f1"]
    for thresholds in torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).tolist():
        other = Multilabel(4, thresholds=tuple(thresholds))
        assert other.evaluate(logits, targets)[0]["macro_f1"] <= most


def test_metrics_by_label_are_those_of_sklearn() -> None:
    logits, targets = label_predictions(5)
    targets[:, 1], logits[:, 3] = 0, -9.0  # never occurs; is never predicted
    found = Multilabel(5).by_label(logits, targets)
    want = reference.precision_recall_fscore_support(targets, logits > 0, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), want, strict=True):
        assert found[name].tolist() == pytest.approx(values.tolist())
    for label in (0, 2, 3, 4):
        area = reference.average_precision_score(targets[:, label], logits[:, label])
        assert float(found["average_precision"][label]) == pytest.approx(area)
    assert found["average_precision"][1].isnan()


def test_metrics_by_class_are_those_of_sklearn() -> None:
    logits, targets = predictions(4)
    targets[targets == 2] = 1  # never occurs
    found = Multiclass(4).by_label(logits, targets)
    want = reference.precision_recall_fscore_support(
        targets, logits.argmax(1), labels=range(4), zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1", "support"), want, strict=True):
        assert found[name].tolist() == pytest.approx(values.tolist())


@pytest.mark.parametrize("task", [Multiclass(3), Multilabel(3)])
def test_a_task_names_its_metrics(task: Multiclass | Multilabel) -> None:
    targets = torch.tensor([1]) if task.exclusive else torch.tensor([[0, 1, 0]])
    assert tuple(task.evaluate(torch.zeros(1, 3), targets)[0]) == task.metric_names
    assert task.headline in task.metric_names


def test_the_headline_is_the_metric_that_was_chosen() -> None:
    task = task_of(torch.tensor([[0, 1]]), 2, "map")
    assert (task.headline, task.headline_name) == ("map", "mAP")
    assert Multilabel(2).headline_name == "micro F1"
    with pytest.raises(ValueError, match=r"headline=map, and multiclass.*accuracy.*macro_f1"):
        task_of(torch.tensor([0, 1]), 2, "map")


def test_multilabel_loss_is_the_mean_binary_cross_entropy() -> None:
    logits, targets = label_predictions(4)
    losses = binary_cross_entropies(logits, targets)
    task = Multilabel(4)
    assert float(task.loss(logits, targets)) == pytest.approx(sum(losses) / 100, rel=1e-5)
    weights = torch.rand(100, generator=torch.Generator().manual_seed(1))
    want = sum(w * x for w, x in zip(weights.tolist(), losses, strict=True)) / sum(weights.tolist())
    assert float(task.loss(logits, targets, weights)) == pytest.approx(want, rel=1e-5)


def test_multilabel_saturated_logits_have_a_finite_loss() -> None:
    logits = torch.tensor([[500.0, -500.0]])
    values, _ = Multilabel(2).evaluate(logits, torch.tensor([[0, 0]]))
    assert values["loss"] == pytest.approx(250)


def test_multilabel_probs_are_the_sigmoid_in_the_dtype_of_the_logits() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert Multilabel(2).probs(logits).tolist() == [pytest.approx([0.5, 0.75])]
    assert Multilabel(2).probs(logits.double()).dtype == torch.float64


@pytest.mark.parametrize("value", [-1, 2])
def test_multilabel_targets_other_than_0_and_1_are_refused(value: int) -> None:
    targets = torch.tensor([[0, 1, 0], [1, 1, 0]])
    Multilabel(3).check_targets(targets)
    Multilabel(3).check_targets(targets[:0])
    targets[1, 2] = value
    with pytest.raises(ValueError, match=rf"target {value} \(row 1, label 2\)"):
        Multilabel(3).check_targets(targets)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1)])
def test_multilabel_targets_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows of 3 numbers"):
        Multilabel(3).check_targets(torch.zeros(shape, dtype=torch.int64))


def test_class_counts_leave_out_unknown_targets() -> None:
    rows = torch.tensor([[1, 0, 1], [-1, -1, -1], [1, 0, 0]])
    assert Multilabel(3).class_counts(rows).tolist() == [2, 0, 1]
    assert Multiclass(3).class_counts(torch.tensor([2, -1, 2])).tolist() == [0, 0, 2]


def test_multilabel_gradient_lengths_are_refused() -> None:
    with pytest.raises(TypeError, match="not for multi-label targets"):
        Multilabel(3).cotangents(torch.zeros(2, 3))


def test_multilabel_of_one_label_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 labels, not 1"):
        Multilabel(1)


def test_task_of_targets() -> None:
    assert task_of(torch.tensor([0, 1]), 2) == Multiclass(2)
    assert task_of(torch.tensor([[0, 1, 1]]), 3) == Multilabel(3)


def test_recall_is_that_of_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(4)
    targets = torch.randint(0, 3, (50,), generator=rng)
    logits = torch.randn(50, 4, generator=rng)
    _, confusion = Multiclass(4).evaluate(logits, targets)
    recall = Multiclass(4).recall(confusion)
    expected = recall_score(targets, logits.argmax(1), labels=[0, 1, 2], average=None)
    assert recall[:3].tolist() == pytest.approx(expected.tolist())
    assert recall[3].isnan()
    several = torch.randint(0, 2, (50, 3), generator=rng)
    _, outcomes = Multilabel(3).evaluate(logits[:, :3], several)
    expected = recall_score(several, logits[:, :3] > 0, average=None)
    assert Multilabel(3).recall(outcomes).tolist() == pytest.approx(expected.tolist())


def test_likeliest_target_of_each_sample() -> None:
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.06, 0.04]])
    assert Multiclass(3).guess(probs) == [
        (1, pytest.approx(0.5)),
        (0, pytest.approx(0.9)),
    ]
    assert Multilabel(3).guess(probs) == [
        ([0, 0, 0], pytest.approx(0.8 * 0.5 * 0.7)),
        ([1, 0, 0], pytest.approx(0.9 * 0.94 * 0.96)),
    ]


def test_a_task_is_found_by_its_kind() -> None:
    assert task_named("multilabel", 3) == Multilabel(3)
    assert task_named("multiclass", 3) == Multiclass(3)
    with pytest.raises(ValueError, match="'regression' is no kind of task; there are multiclass"):
        task_named("regression", 3)
