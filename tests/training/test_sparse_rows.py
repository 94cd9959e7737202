"""The full-batch fit on sparse rows against that on the same rows made dense, and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from dal.models import LogisticRegression, forward
from dal.task import Multiclass, Multilabel, Task
from dal.training.context import FitContext, FitState, Samples
from dal.training.full_batch import FullBatch
from dal.training.trainer import balanced
from dal.utils.inputs import take_rows

Rows = dict[str, Tensor]
V, LENGTH = 30, 8
KINDS = {"two classes": Multiclass(2), "three classes": Multiclass(3), "labels": Multilabel(3)}
kinds = pytest.mark.parametrize("task", KINDS.values(), ids=KINDS)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(count: int, columns: int = V, length: int = LENGTH, seed: int = 0) -> Rows:
    """Rows of 0 to ``length`` terms of unit length, the first of no term; the last term of none."""
    held = torch.randint(0, length + 1, (count, 1), generator=rng(seed)) > torch.arange(length)
    held[0] = False
    drawn = [torch.randperm(columns - 1, generator=rng(seed + n))[:length] for n in range(count)]
    weights = (torch.rand(count, length, generator=rng(seed + 1)) + 0.1) * held
    weights = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return {"terms": torch.stack(drawn) * held, "weights": weights}


def dense(rows: Rows, columns: int = V) -> Tensor:
    zeros = rows["weights"].new_zeros(len(rows["terms"]), columns)
    return zeros.scatter_add(1, rows["terms"], rows["weights"])


def targets_of(rows: Rows, task: Task, columns: int = V) -> Tensor:
    """Targets that the terms tell of, with noise."""
    scores = 3 * dense(rows, columns) @ torch.randn(columns, task.num_classes, generator=rng(7))
    scores = scores + torch.randn(scores.shape, generator=rng(8))
    return scores.argmax(1) if task.exclusive else (scores > 0.8).long()


def sparse_model(task: Task, columns: int = V) -> LogisticRegression:
    spec = {"terms": (LENGTH,), "weights": (LENGTH,)}
    return LogisticRegression(spec, task.num_classes, vocab_size=columns)


def fit(
    model: LogisticRegression,
    rows: Rows | Tensor,
    targets: Tensor,
    task: Task,
    weights: Tensor | None = None,
    **settings: Any,
) -> FitState:
    samples = Samples(lambda batch: take_rows(rows, batch), targets, weights)
    return FullBatch(**{"tolerance": 1e-9, **settings}).fit(model, samples, task, FitContext())


def solved(rows: Rows, targets: Tensor, task: Task, **settings: Any) -> tuple[Tensor, Tensor]:
    """Weights (V, C) and biases (C,) of a fit that has converged."""
    model = sparse_model(task)
    assert fit(model, rows, targets, task, **settings).stopped == "converged"
    return parameters(model)


def parameters(model: LogisticRegression) -> tuple[Tensor, Tensor]:
    return model.head.weight.detach(), model.head.bias.detach()


def apart(bias: Tensor, task: Task) -> Tensor:
    """Biases of classes count up to what they have in common."""
    return bias - bias.mean() if task.exclusive else bias


@kinds
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_optimum_is_that_of_the_rows_made_dense(
    task: Task, weighted: bool, class_weights: str
) -> None:
    rows = texts(80)
    targets = targets_of(rows, task)
    weights = torch.rand(80, generator=rng(3)) + 0.5 if weighted else None
    settings = {"weights": weights, "class_weights": class_weights, "l2": 0.3}
    weight, bias = solved(rows, targets, task, **settings)
    model = LogisticRegression((V,), task.num_classes)
    fit(model, dense(rows), targets, task, **settings)
    of_dense, bias_of_dense = parameters(model)
    torch.testing.assert_close(weight, of_dense.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart(bias, task), apart(bias_of_dense, task), atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_classes_equal_scikit_learn(classes: int, class_weights: str) -> None:
    rows, task, l2 = texts(80), Multiclass(classes), 0.4
    targets = targets_of(rows, task)
    weight, bias = solved(rows, targets, task, l2=l2, class_weights=class_weights)
    reference = Reference(
        C=(2 if classes == 2 else 1) / l2,
        tol=1e-10,
        max_iter=10_000,
        class_weight=None if class_weights == "none" else "balanced",
    ).fit(dense(rows).double(), targets)
    got = (dense(rows) @ weight + bias).softmax(1).double()
    want = torch.from_numpy(reference.predict_proba(dense(rows).double()))
    torch.testing.assert_close(got, want, atol=2e-6, rtol=0)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("l2_by_label", [False, True])
def test_labels_equal_one_scikit_learn_fit_each(class_weights: str, l2_by_label: bool) -> None:
    rows, task, l2 = texts(80), Multilabel(3), 0.2
    targets = targets_of(rows, task)
    weight, bias = solved(
        rows, targets, task, l2=l2, l2_by_label=l2_by_label, class_weights=class_weights
    )
    for label in range(3):
        reference = Reference(
            C=1 / (l2 if l2_by_label else 3 * l2),
            tol=1e-10,
            max_iter=10_000,
            class_weight=None if class_weights == "none" else "balanced",
        ).fit(dense(rows).double(), targets[:, label])
        want = torch.from_numpy(reference.coef_[0]).float()
        torch.testing.assert_close(weight[:, label], want, atol=1e-5, rtol=0)
        assert float(bias[label]) == pytest.approx(float(reference.intercept_[0]), abs=1e-5)


def test_balanced_weights_of_labels_are_scikit_learns() -> None:
    targets = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]])
    weights = balanced(targets)
    assert weights.dtype == torch.float32
    for label in range(3):
        column = targets[:, label]
        of_value = compute_class_weight("balanced", classes=np.arange(2), y=column.numpy())
        want = torch.from_numpy(of_value)[column].float()
        torch.testing.assert_close(weights[:, label], want)
    assert weights[:, 3].tolist() == [1.0] * 5  # a label that holds everywhere is not weighed
    assert balanced(1 - targets)[:, 3].tolist() == [1.0] * 5  # nor one that holds nowhere


def test_a_label_that_holds_nowhere_leaves_the_others_alone() -> None:
    rows, task = texts(60), Multilabel(3)
    targets = targets_of(rows, task)
    settings: dict[str, Any] = {"l2_by_label": True, "class_weights": "balanced", "l2": 0.2}
    weight, bias = solved(rows, targets, task, **settings)
    nowhere = torch.zeros_like(targets[:, :1])
    more = torch.cat([targets, nowhere], 1)
    longer_weight, longer_bias = solved(rows, more, Multilabel(4), **settings)
    torch.testing.assert_close(longer_weight[:, :3], weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(longer_bias[:3], bias, atol=1e-6, rtol=0)
    assert (dense(rows) @ longer_weight + longer_bias)[:, 3].max() < -5


@kinds
def test_what_all_labels_so_far_agree_on_is_learned_and_then_unlearned(task: Task) -> None:
    """One class alone has been seen, or a label holds everywhere, until the last round."""
    rows, settings = texts(60), {"tolerance": 1e-5, "l2": 0.1, "l2_by_label": True}
    mixed = targets_of(rows, task)
    one = torch.tensor([0])
    alike = torch.ones_like(mixed) if task.exclusive else mixed.index_fill(1, one, 1)
    model = sparse_model(task)
    for count in (23, 22, 60):
        part = take_rows(rows, slice(0, count))
        assert fit(model, part, alike[:count], task, **settings).stopped == "converged"
        logits = forward(model, rows).logits
        sure = task.probs(logits)[:, int(task.exclusive)]
        assert sure.min() > 0.99
    fit(model, rows, mixed, task, **settings)
    want_weight, want_bias = solved(rows, mixed, task, l2=0.1, l2_by_label=True)
    weight, bias = parameters(model)
    torch.testing.assert_close(weight, want_weight, atol=2e-5, rtol=0)
    torch.testing.assert_close(apart(bias, task), apart(want_bias, task), atol=2e-5, rtol=0)


@kinds
def test_terms_that_no_labeled_text_has_end_at_zero(task: Task) -> None:
    rows = texts(40)
    model = sparse_model(task)
    with torch.no_grad():
        model.head.weight.fill_(0.5)
    fit(model, rows, targets_of(rows, task), task)
    unseen = dense(rows).abs().sum(0) == 0
    assert unseen[-1]
    assert (model.head.weight[unseen] == 0).all()
    assert (model.head.weight[~unseen] != 0).all()


@kinds
def test_warm_and_cold_starts_end_alike(task: Task) -> None:
    rows = texts(80)
    targets = targets_of(rows, task)
    warm, cold = sparse_model(task), sparse_model(task)
    first = take_rows(rows, slice(0, 30))
    fit(warm, first, targets[:30], task, tolerance=1e-5)
    for model in (warm, cold):
        assert fit(model, rows, targets, task, tolerance=1e-5).stopped == "converged"
        model.eval()
    inputs = [forward(model, rows).logits for model in (warm, cold)]
    if task.exclusive:
        inputs = [logits - logits.mean(1, keepdim=True) for logits in inputs]
    torch.testing.assert_close(*inputs, atol=2e-5, rtol=0)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@kinds
def test_bits_do_not_depend_on_the_number_of_threads(task: Task) -> None:
    """Of so many weights that torch divides sums over all of them among threads."""
    columns = 40_000
    rows = texts(500, columns, 80)
    targets = targets_of(rows, task, columns)
    digests = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        model = sparse_model(task, columns)
        fit(model, rows, targets, task, tolerance=1e-5, l2=0.1)
        digests.append(parameters(model))
    for weight, bias in digests[1:]:
        assert torch.equal(weight, digests[0][0])
        assert torch.equal(bias, digests[0][1])


@kinds
def test_texts_without_terms_get_the_shares_of_the_labels(task: Task) -> None:
    """All there is to learn then are the biases."""
    rows = take_rows(texts(60), torch.zeros(60, dtype=torch.int64))
    targets = targets_of(texts(60), task)
    weight, bias = solved(rows, targets, task)
    assert (weight == 0).all()
    if task.exclusive:
        shares, got = targets.bincount(minlength=task.num_classes) / 60, bias.softmax(0)
    else:
        shares, got = targets.float().mean(0), bias.sigmoid()
    torch.testing.assert_close(got, shares, atol=1e-6, rtol=0)


@kinds
@pytest.mark.parametrize("place", [0, 5], ids=["without terms", "with terms"])
def test_one_labeled_text_is_learned(task: Task, place: int) -> None:
    rows = take_rows(texts(20), slice(place, place + 1))
    targets = targets_of(texts(20), task)[place : place + 1]
    model = sparse_model(task)
    state = fit(model, rows, targets, task, tolerance=1e-5)
    assert state.stopped == "converged"
    assert task.correct(forward(model, rows).logits, targets).all()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
