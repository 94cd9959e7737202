"""Recorded training steps equal ordinary ones; on a machine without CUDA these tests skip."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal import cuda_graph
from dal.cuda_graph import GraphedStep, graphed
from dal.models import MLP, BayesianCNN, LeNet5, LogisticRegression, ResNet18
from dal.models.base import is_graphable
from dal.optim import adam, adamw, constant, cosine, sgd, step
from dal.task import Multiclass
from dal.trainer import EarlyStopping, Fit, FitContext, FitState, Samples, Trainer

CUDA = torch.device("cuda", 0)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


class Looking(LogisticRegression):
    """Says that it can be recorded, and looks at a value."""

    def forward(self, x: Tensor) -> Any:
        assert float(x.sum()) < 1e9
        return super().forward(x)


class Weighing(LogisticRegression):
    """Does not say that it can be recorded."""

    graphable = False


def made(make: Callable[..., nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return make(shape, 10).to(CUDA).to(memory_format=torch.channels_last)


def samples(shape: tuple[int, ...], count: int, weighted: bool = False) -> Samples:
    rng = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, *shape, generator=rng).to(CUDA)
    targets = torch.randint(0, 10, (count,), generator=rng).to(CUDA)
    weights = torch.rand(count, generator=rng).to(CUDA) + 0.5 if weighted else None
    return Samples(inputs.__getitem__, targets, weights)


def fitted(
    make: Callable[..., nn.Module],
    shape: tuple[int, ...],
    trainer: Trainer,
    monkeypatch: pytest.MonkeyPatch,
    record: bool,
    weighted: bool = False,
) -> tuple[FitState, dict[str, Tensor], int]:
    """A fit with recorded steps or without: its state, its weights, how many were recorded."""
    recorded: list[Any] = []
    original = GraphedStep._record

    def counted(self: GraphedStep, batch: Tensor) -> Any:
        recorded.append(found := original(self, batch))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(GraphedStep, "_record", counted)
        if not record:
            patch.setattr("dal.trainer.graphed", lambda step, *args: step)
        model = made(make, shape)
        state = trainer.fit(
            model, samples(shape, 150, weighted), Multiclass(10), FitContext(seed=3)
        )
    return state, model.state_dict(), sum(found is not None for found in recorded)


IMAGE, ROW = (1, 28, 28), (12,)
CASES: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], Trainer]] = {
    "lenet5": (LeNet5, IMAGE, Trainer(6, 64, sgd(0.01, momentum=0.9), step(3, 0.1))),
    "logistic": (LogisticRegression, ROW, Trainer(6, 64, sgd(0.1, momentum=0.0), constant())),
    "adam": (MLP, ROW, Trainer(6, 64, adam(0.01), cosine(6))),
    "adamw": (MLP, ROW, Trainer(6, 64, adamw(0.01), constant())),
    "early": (MLP, ROW, Trainer(40, 64, sgd(0.5), None, EarlyStopping("train/loss", patience=2))),
    "dropout": (lambda s, c: MLP(s, c, dropout=0.5), ROW, Trainer(6, 64, sgd(0.1))),
    "channels": (BayesianCNN, IMAGE, Trainer(4, 64, sgd(0.01))),
    "resnet18": (ResNet18, (3, 32, 32), Trainer(3, 64, sgd(0.01))),
    "bfloat16": (LeNet5, IMAGE, Trainer(4, 64, sgd(0.01), precision="bfloat16")),
}


@needs_cuda
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_recorded_steps_equal_ordinary_ones(
    case: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape, trainer = CASES[case]
    ours, weights, count = fitted(make, shape, trainer, monkeypatch, True, weighted)
    plain, reference, none = fitted(make, shape, trainer, monkeypatch, False, weighted)
    assert (count, none) == (2, 0)  # batches of 64 and of 22
    assert (ours.epoch, ours.steps, ours.stopped) == (plain.epoch, plain.steps, plain.stopped)
    for mine, others in zip(ours.history, plain.history, strict=True):
        assert mine == pytest.approx(others, rel=1e-3, abs=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, reference[name], rtol=1e-3, atol=1e-4)


@needs_cuda
def test_a_step_that_cannot_be_recorded_goes_on_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(6, 64, sgd(0.1))
    with caplog.at_level(logging.WARNING, "dal"):
        _, weights, count = fitted(Looking, ROW, trainer, monkeypatch, True)
    _, reference, _ = fitted(Looking, ROW, trainer, monkeypatch, False)
    assert count == 0
    assert len([r for r in caplog.records if "cannot be recorded" in r.message]) == 1
    for name, weight in weights.items():
        assert torch.equal(weight, reference[name])


@needs_cuda
def test_recorded_anew_when_a_setting_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(record: bool) -> Tensor:
        model, data = made(LogisticRegression, ROW), samples(ROW, 64)
        fit = Fit(Trainer(9, 64, sgd(0.1)), model, data, Multiclass(10), FitContext())
        do = fit.step if record else fit._step
        batch = torch.arange(64, device=CUDA)
        for momentum in (0.9, 0.9, 0.9, 0.1, 0.1, 0.1):
            fit.optimizer.param_groups[0]["momentum"] = momentum
            do(batch)
        return model.head.weight.detach().clone()

    torch.testing.assert_close(weights(True), weights(False), rtol=1e-6, atol=1e-7)


def test_only_networks_that_say_so_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "GraphedStep", lambda *args: "recorded")
    mine: Any = lambda batch: (batch, batch)  # noqa: E731
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters())
    assert is_graphable(LeNet5(IMAGE, 10))
    assert not is_graphable(nn.Linear(2, 2))
    made_here = [
        graphed(mine, optimizer, model, torch.device(device))
        for model in (MLP(ROW, 3), Weighing(ROW, 3), nn.Linear(2, 2))
        for device in ("cuda", "cpu")
    ]
    assert made_here == ["recorded", mine, mine, mine, mine, mine]
