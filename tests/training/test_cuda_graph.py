"""Recorded training steps equal ordinary ones; on a machine without CUDA these tests skip."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal.lockstep.fit import StackedFit
from dal.models import MLP, BayesianCNN, LeNet5, LogisticRegression, ResNet18
from dal.task import Multiclass
from dal.training.context import FitContext, FitState, Samples
from dal.training.cuda_graph import StepGraphs, step_graphs
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import Fit
from dal.training.optim import adam, adamw, constant, cosine, sgd, step
from dal.training.trainer import Trainer

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
    record: bool,
    weighted: bool = False,
) -> tuple[FitState, dict[str, Tensor], int]:
    """A fit with recorded steps or without: its state, its weights, how many were recorded."""
    model, data = made(make, shape), samples(shape, 150, weighted)
    fit = trainer.begin(model, data, Multiclass(10), FitContext(seed=3))
    if not record:
        fit.graphs = None
    state = fit.run()
    return state, model.state_dict(), fit.graphs.recorded if fit.graphs else 0


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
def test_recorded_steps_equal_ordinary_ones(case: str, weighted: bool) -> None:
    make, shape, trainer = CASES[case]
    ours, weights, count = fitted(make, shape, trainer, True, weighted)
    plain, reference, none = fitted(make, shape, trainer, False, weighted)
    assert (count, none) == (2, 0)  # batches of 64 and of 22
    assert (ours.epoch, ours.steps, ours.stopped) == (plain.epoch, plain.steps, plain.stopped)
    for mine, others in zip(ours.history, plain.history, strict=True):
        assert mine == pytest.approx(others, rel=1e-3, abs=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, reference[name], rtol=1e-3, atol=1e-4)


@needs_cuda
def test_a_step_that_cannot_be_recorded_goes_on_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = Trainer(6, 64, sgd(0.1))
    with caplog.at_level(logging.WARNING, "dal"):
        _, weights, count = fitted(Looking, ROW, trainer, True)
    _, reference, _ = fitted(Looking, ROW, trainer, False)
    assert count == 0
    assert len([r for r in caplog.records if "cannot be recorded" in r.message]) == 1
    for name, weight in weights.items():
        assert torch.equal(weight, reference[name])


@needs_cuda
def test_recorded_anew_when_a_setting_changes() -> None:
    def weights(record: bool) -> Tensor:
        model, data = made(LogisticRegression, ROW), samples(ROW, 64)
        fit = Fit(Trainer(9, 64, sgd(0.1)), model, data, Multiclass(10), FitContext())
        if not record:
            fit.graphs = None
        batch = torch.arange(64, device=CUDA)
        for momentum in (0.9, 0.9, 0.9, 0.1, 0.1, 0.1):
            fit.optimizer.param_groups[0]["momentum"] = momentum
            fit.step(batch)
        return model.head.weight.detach().clone()

    torch.testing.assert_close(weights(True), weights(False), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("limit", "on_device", "recordable"), [(2**20, False, True), (0, True, True), (0, False, False)]
)
def test_steps_that_read_inputs_from_elsewhere_are_not_recorded(
    limit: int, on_device: bool, recordable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small inputs are kept on the device as they are prepared, wherever they come from."""
    monkeypatch.setattr("dal.training.fit.RESIDENT_LIMIT", limit)
    data = Samples(torch.randn(40, *ROW).__getitem__, torch.arange(40) % 10, on_device=on_device)
    fit = Trainer(2, 20).begin(MLP(ROW, 10), data, Multiclass(10), FitContext())
    assert fit.recordable == recordable


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("model", [MLP(ROW, 3), Weighing(ROW, 3), nn.Linear(2, 2)])
def test_only_networks_that_say_so_are_recorded(
    model: nn.Module, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.training.cuda_graph.StepGraphs", lambda *args: "recorder")
    optimizer = torch.optim.SGD(model.parameters())
    wanted = "recorder" if isinstance(model, MLP) and device == "cuda" else None
    assert step_graphs(optimizer, model, torch.device(device)) == wanted


class Graph:
    """Stands in for a CUDA graph: does again what was done while it was recorded."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.work: Callable[[], None] = lambda: None

    def capture_begin(self, capture_error_mode: str) -> None:
        assert not gc.isenabled()
        self.machine.recording = self

    def capture_end(self) -> None:
        self.machine.recording = None
        if self.machine.refuses:
            raise RuntimeError("not permitted\nand more")

    def replay(self) -> None:
        self.machine.replays += 1
        self.work()


class Machine:
    """Stands in for CUDA, and has a step to do on it: the rate times the sum of a batch.

    Attributes:
        steps: Ordinary steps done.
        replays: Replays of recorded ones.
        refuses: Whether a recording fails.
        recording: What is being recorded.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.steps, self.replays = optimizer, 0, 0
        self.refuses, self.recording = False, None
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())

    recording: Graph | None

    def step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.optimizer.param_groups[0]["lr"]
        results = batch.sum() * rate, batch.max()
        if self.recording is None:
            self.steps += 1
        else:

            def work() -> None:
                results[0].copy_(batch.sum() * rate)
                results[1].copy_(batch.max())

            self.recording.work = work
        return results


class Stream:
    def wait_stream(self, other: Any) -> None:
        """Everything is in order here."""


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, StepGraphs, Any]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.5, momentum=0.9, fused=True)
    machine = Machine(monkeypatch, optimizer)
    return machine, StepGraphs(optimizer, torch.device("cpu")), optimizer


def test_first_batch_of_a_size_is_ordinary_the_second_recorded(recording: Any) -> None:
    machine, recorder, _ = recording
    large, small = torch.arange(4), torch.arange(2)
    batches = [large, large + 1, small, large + 2, small + 3, large + 4]
    results = [recorder(machine.step, batch) for batch in batches]
    assert [(float(a), int(b)) for a, b in results] == [
        (3.0, 3),
        (5.0, 4),
        (0.5, 1),
        (7.0, 5),
        (3.5, 4),
        (11.0, 7),
    ]
    assert (machine.steps, recorder.recorded, machine.replays) == (2, 2, 4)
    assert gc.isenabled()


def test_a_new_learning_rate_is_followed_other_settings_are_recorded_anew(recording: Any) -> None:
    machine, recorder, optimizer = recording
    group, batch = optimizer.param_groups[0], torch.arange(5)
    for _ in range(3):
        assert float(recorder(machine.step, batch)[0]) == 5.0
    group["lr"] = 0.25
    assert float(recorder(machine.step, batch)[0]) == 2.5
    assert (machine.steps, recorder.recorded, machine.replays) == (1, 1, 3)
    assert group["lr"] == 0.25
    group["momentum"] = 0.5
    assert float(recorder(machine.step, batch)[0]) == 2.5
    assert (machine.steps, recorder.recorded, machine.replays) == (1, 2, 4)


def test_refused_once_never_tried_again(recording: Any, caplog: pytest.LogCaptureFixture) -> None:
    machine, recorder, optimizer = recording
    machine.refuses = True
    with caplog.at_level(logging.WARNING, "dal"):
        for _ in range(4):
            assert float(recorder(machine.step, torch.arange(4))[0]) == 3.0
    assert (machine.steps, recorder.recorded, machine.replays) == (4, 0, 0)
    assert [r.message for r in caplog.records] == [
        "training steps cannot be recorded as CUDA graphs: not permitted"
    ]
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert gc.isenabled()


def test_graphs_end_with_their_fit(recording: Any) -> None:
    """Collected later, they would spoil the recording of another fit."""
    _, recorder, _ = recording
    data = Samples(torch.randn(40, *ROW).__getitem__, torch.arange(40) % 10)

    def begin() -> Fit:
        return Trainer(2, 20).begin(MLP(ROW, 10), data, Multiclass(10), FitContext())

    fit, stacked = begin(), StackedFit([begin(), begin()])
    for one in (fit, stacked):
        one.graphs = recorder
        one.train()
    assert recorder.recorded == 2
    ends = [weakref.ref(fit), weakref.ref(stacked)]
    gc.disable()
    try:
        del fit, stacked, one
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()
