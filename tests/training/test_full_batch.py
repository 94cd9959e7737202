"""The full-batch fit against scikit-learn's, and as part of a run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression as Reference
from torch import Tensor

import dal
from dal.data import initial_labels, iris, make_source
from dal.learners import Ensemble
from dal.models import MLP, LeNet5, LogisticRegression
from dal.query import BALD, ExpectedGradientLength, Margin, margin
from dal.task import Multiclass, Multilabel
from dal.training.context import FitContext, FitState, Samples
from dal.training.full_batch import FullBatch
from dal.utils.signals import PreemptedError

TASK = Multiclass(4)


def problem(count: int = 120, width: int = 6) -> tuple[Tensor, Tensor]:
    """Inputs (count, width) and targets that no linear model gets all right."""
    rng = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, width, generator=rng)
    noise = torch.randn(count, 4, generator=rng)
    return inputs, (inputs @ torch.randn(width, 4, generator=rng) + 2 * noise).argmax(1)


def fit(
    model: torch.nn.Module,
    inputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    context: FitContext | None = None,
    **settings: Any,
) -> FitState:
    samples = Samples(lambda batch: inputs[batch], targets, weights)
    task = Multilabel(targets.shape[1]) if targets.ndim == 2 else TASK
    return FullBatch(**settings).fit(model, samples, task, context or FitContext())


def probs(model: torch.nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs).logits.softmax(1)


@pytest.mark.parametrize("l2", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_optimum_equals_scikit_learns(l2: float, weighted: bool) -> None:
    inputs, targets = problem()
    rng = torch.Generator().manual_seed(2)
    weights = torch.rand(len(targets), generator=rng) + 0.5 if weighted else None
    model = LogisticRegression((6,), 4)
    state = fit(model, inputs, targets, weights, l2=l2, tolerance=1e-9)
    reference = Reference(C=1 / l2, tol=1e-10, max_iter=10_000)
    reference.fit(inputs.double(), targets, None if weights is None else weights.double())
    want = torch.from_numpy(reference.predict_proba(inputs.double()))
    assert state.stopped == "converged"
    assert state.steps > 1  # Newton steps
    torch.testing.assert_close(probs(model, inputs).double(), want, atol=2e-6, rtol=0)


def test_optimum_does_not_depend_on_the_start() -> None:
    inputs, targets = problem()
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(LogisticRegression((6,), 4))
        fit(models[-1], inputs, targets, tolerance=1e-9)
    assert not torch.equal(models[0].head.weight, LogisticRegression((6,), 4).head.weight)
    torch.testing.assert_close(probs(models[0], inputs), probs(models[1], inputs))


def digits(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Standardized inputs and targets of some labels, and the inputs of all others."""
    images, targets = load_digits(return_X_y=True)
    inputs = torch.from_numpy((images - images.mean(0)) / images.std(0).clip(1e-3)).float()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    return inputs[order[:count]], torch.from_numpy(targets)[order[:count]], inputs[order[count:]]


@pytest.mark.parametrize(("count", "l2"), [(300, 1.0), (300, 1e-3), (20, 1.0), (600, 10.0)])
def test_default_tolerance_is_the_optimum_whatever_the_start(count: int, l2: float) -> None:
    """Also where the model is sure of nearly all labels, so that the loss is almost flat."""
    inputs, targets, pool = digits(count)
    reference = Reference(C=1 / l2, tol=1e-9, max_iter=1000, solver="newton-cg")
    reference.fit(inputs.double(), targets)
    want = torch.from_numpy(reference.predict_proba(pool.double()))
    predicted = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = LogisticRegression((64,), 10)
        samples = Samples(lambda batch: inputs[batch], targets)
        state = FullBatch(l2=l2).fit(model, samples, Multiclass(10), FitContext())
        assert state.stopped == "converged"
        predicted.append(probs(model, pool))
        seen = targets.unique()
        torch.testing.assert_close(predicted[-1].double()[:, seen], want, atol=2e-5, rtol=0)
    torch.testing.assert_close(*predicted, atol=1e-5, rtol=0)
    picks = [margin(p).topk(10).indices.tolist() for p in predicted]
    assert picks[0] == picks[1]


@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_two_classes_equal_scikit_learns_single_row_at_twice_c(l2: float) -> None:
    """Half the penalty for the difference of the rows: that is what is left at their optimum."""
    inputs, targets = problem()
    targets = targets % 2
    model = LogisticRegression((6,), 2)
    FullBatch(l2=l2).fit(
        model, Samples(lambda batch: inputs[batch], targets), Multiclass(2), FitContext()
    )
    reference = Reference(C=2 / l2, tol=1e-10, max_iter=10_000).fit(inputs.double(), targets)
    want = torch.from_numpy(reference.predict_proba(inputs.double()))
    torch.testing.assert_close(probs(model, inputs).double(), want, atol=2e-6, rtol=0)
    assert torch.allclose(model.head.weight[0], -model.head.weight[1], atol=1e-5)


def test_several_labels_equal_one_scikit_learn_fit_each() -> None:
    inputs, targets = problem()
    rows = torch.nn.functional.one_hot(targets, 4)
    model = LogisticRegression((6,), 4)
    fit(model, inputs, rows, l2=0.5)
    for label in range(4):
        reference = Reference(C=1 / (4 * 0.5), tol=1e-10, max_iter=10_000)
        reference.fit(inputs.double(), rows[:, label])
        want = torch.from_numpy(reference.decision_function(inputs.double()))
        got = model(inputs).logits[:, label].double()
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tolerance", [1.0, 1e-2, 1e-5])
def test_no_labeled_logit_is_farther_from_the_optimum_than_the_tolerance(tolerance: float) -> None:
    inputs, targets, _ = digits(300)
    logits = []
    for asked in (tolerance, 1e-10):
        torch.manual_seed(0)
        model = LogisticRegression((64,), 10).double()
        samples = Samples(lambda batch: inputs[batch], targets)
        FullBatch(l2=0.1, tolerance=asked).fit(model, samples, Multiclass(10), FitContext())
        with torch.no_grad():
            logits.append(model(inputs.double()).logits)
    assert float((logits[0] - logits[1]).abs().max()) <= tolerance


def test_separable_labels_and_single_class_have_an_optimum() -> None:
    inputs, _ = problem(20)
    for targets in (torch.arange(20) % 4, torch.zeros(20, dtype=torch.int64)):
        model = LogisticRegression((6,), 4)
        state = fit(model, inputs * 10, targets, l2=1e-3)
        assert state.stopped == "converged"
        assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_after_labels_of_one_class_alone_the_optimum_is_found_too(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.nn.functional.normalize((torch.randn(60, 30, generator=rng) - 1).relu())
    targets = (inputs @ torch.randn(30, generator=rng) > 0.3).long()
    samples = Samples(lambda batch: inputs[batch], targets, None)
    of_one = replace(samples, targets=torch.ones_like(targets[:20]))
    warm, cold = LogisticRegression((30,), 2), LogisticRegression((30,), 2)
    FullBatch(l2=0.1).fit(warm, of_one, Multiclass(2), FitContext())
    for model in (warm, cold):
        FullBatch(l2=0.1).fit(model, samples, Multiclass(2), FitContext())
    torch.testing.assert_close(probs(warm, inputs), probs(cold, inputs), atol=1e-5, rtol=0)


def test_multilabel_gradient_vanishes_at_the_optimum() -> None:
    inputs, targets = problem()
    rows = torch.nn.functional.one_hot(targets, 4)
    model = LogisticRegression((6,), 4)
    fit(model, inputs, rows, l2=2.0, tolerance=1e-9)
    exact = model.double()
    loss = Multilabel(4).loss(exact(inputs.double()).logits, rows)
    penalty = exact.head.weight.square().sum() / len(rows)
    (loss + penalty).backward()
    for parameter in exact.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-7  # the weights are rounded to float32


def test_hidden_layers_reach_a_lower_loss() -> None:
    inputs, targets = problem()
    linear, deep = LogisticRegression((6,), 4), MLP((6,), 4, hidden=[32])
    worse, better = (fit(m, inputs, targets, l2=0.01).history[0] for m in (linear, deep))
    assert better["train/loss"] < worse["train/loss"]


def test_iterations_run_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    inputs, targets = problem()
    state = fit(LogisticRegression((6,), 4), inputs, targets, epochs=2, tolerance=1e-12)
    assert (state.stopped, state.steps) == ("epochs", 2)
    assert "did not converge within trainer.epochs=2" in caplog.text


def test_resume_takes_the_saved_fit_bit_for_bit() -> None:
    inputs, targets = problem()
    saved: list[dict[str, Any]] = []
    context = FitContext(on_epoch=lambda state, save: saved.append(save()))
    model, other = LogisticRegression((6,), 4), LogisticRegression((6,), 4)
    state = fit(model, inputs, targets, context=context)
    again = fit(other, inputs, targets, context=FitContext(resume=saved[0]))
    assert again == state
    assert torch.equal(model.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda: MLP((6,), 4, dropout=0.5), {}, "Dropout"),
        (lambda: torch.nn.BatchNorm1d(6), {}, "BatchNorm1d"),
        (lambda: LogisticRegression((6,), 4), {"l2": 0.0}, r"trainer\.l2=0\.0"),
        (lambda: LogisticRegression((6,), 4), {"l2": float("inf")}, r"trainer\.l2=inf"),
        (lambda: LogisticRegression((6,), 4), {"tolerance": -1.0}, r"trainer\.tolerance=-1"),
        (lambda: LogisticRegression((6,), 4), {"epochs": 0}, r"trainer\.epochs=0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(make: Any, settings: Any, message: str) -> None:
    inputs, targets = problem()
    with pytest.raises((TypeError, ValueError), match=message):
        fit(make(), inputs, targets, **settings)


def test_extreme_inputs_name_the_cause() -> None:
    inputs, targets = problem()
    with pytest.raises(FloatingPointError, match="extreme"):
        fit(LogisticRegression((6,), 4), inputs.fill_(float("nan")), targets)


def test_network_of_images_works_too() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(12, 1, 28, 28, generator=rng)
    targets = torch.arange(12) % 4
    model = LeNet5((1, 28, 28), 4).to(memory_format=torch.channels_last)  # as learners make it
    assert fit(model, images, targets, l2=0.01, epochs=100).history[0]["train/accuracy"] == 1.0


@pytest.mark.parametrize("restart", ["warm", "cold"])
def test_run_with_strategies_on_the_head(restart: Any, tmp_path: Path) -> None:
    source = make_source(iris(), seed=0)
    initial = initial_labels(source.train.targets, seed=0, per_class=1)
    strategies = (Margin(), ExpectedGradientLength(scope="last"))
    for number, strategy in enumerate(strategies):
        result = dal.run(
            source,
            LogisticRegression,
            strategy,
            initial=initial,
            trainer=FullBatch(l2=0.03, restart=restart),
            settings=dal.Settings(budget=12, query_size=6, figures=False),
            run_dir=tmp_path / str(number),
        )
        assert result.rows[-1]["fit/stopped"] == "converged"
        assert result.rows[-1]["test/accuracy"] > 0.8


def test_ensemble_of_one_optimum_is_refused_without_bootstrap() -> None:
    source = make_source(iris(), seed=0)
    initial = initial_labels(source.train.targets, seed=0, per_class=2)

    def go(model: Any, bootstrap: bool) -> dal.Result:
        return dal.run(
            source,
            model,
            BALD(),
            initial=initial,
            trainer=FullBatch(l2=0.1),
            committee=Ensemble(3, bootstrap),
            settings=dal.Settings(budget=4, query_size=4, figures=False),
        )

    with pytest.raises(ValueError, match=r"committee\.bootstrap=true"):
        go(LogisticRegression, False)
    for model, bootstrap in ((LogisticRegression, True), (partial(MLP, hidden=[8]), False)):
        assert go(model, bootstrap).rows[0]["query/score_mean"] > 0.0


@pytest.mark.parametrize("make", [LogisticRegression, partial(MLP, hidden=(8,))])
def test_signal_ends_a_fit_within_its_steps_and_leaves_the_weights(make: Any) -> None:
    inputs, targets = problem()
    model, asked = make((6,), 4), 0
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise PreemptedError(15)

    with pytest.raises(PreemptedError):
        fit(model, inputs, targets, context=FitContext(check=check))
    assert asked == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
