"""Fits of several networks stacked, against the same fits one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.setup import Setup
from benchmarks.table import Row
from benchmarks.timing import interleave
from dal.lockstep.fit import advance
from dal.models import MLP, LeNet5, LogisticRegression, ResNet18
from dal.task import Multiclass
from dal.training.context import FitContext, Samples
from dal.training.optim import sgd
from dal.training.trainer import Trainer

CASES = (
    ("20 logistic regressions", LogisticRegression, 20, (64,), 100, 100),
    ("20 multilayer perceptrons", MLP, 20, (64,), 100, 100),
    ("5 LeNet-5", LeNet5, 5, (1, 28, 28), 200, 10),
)
"""Name, model, how many, shape of a sample, labels, epochs."""
ON_CUDA = (
    ("20 LeNet-5", LeNet5, 20, (1, 28, 28), 200, 10),
    ("5 ResNet-18", ResNet18, 5, (3, 32, 32), 200, 2),
)
"""What takes too long on a CPU."""


def replicas(setup: Setup) -> list[Row]:
    """Fits in lockstep; above 1 the stack is faster."""
    cases = CASES if setup.device.type == "cpu" else CASES + ON_CUDA
    return [_compare(setup, *case) for case in cases]


def _compare(
    setup: Setup,
    name: str,
    make: Callable[..., nn.Module],
    count: int,
    shape: tuple[int, ...],
    labels: int,
    epochs: int,
) -> Row:
    device = setup.device
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, labels, *shape, generator=rng).to(device)
    targets = torch.randint(0, 10, (count, labels), generator=rng).to(device)
    models = [make(shape, 10).to(device) for _ in range(count)]
    trainer, task = Trainer(epochs, optimizer=sgd(lr=0.01, momentum=0.9)), Multiclass(10)

    def parts(number: int) -> tuple[nn.Module, Samples, Multiclass, FitContext]:
        samples = Samples(partial(_take, inputs[number]), targets[number])
        return copy.deepcopy(models[number]), samples, task, FitContext(seed=number)

    def stacked() -> None:
        fits = [trainer.begin(*parts(number)) for number in range(count)]
        advance(fits, lambda number, work: work() is None)

    def alone() -> None:
        for number in range(count):
            trainer.fit(*parts(number))

    times = interleave({"stacked": stacked, "alone": alone}, setup.repeat, device)
    return Row(
        f"{name}: one by one / stacked",
        f"{times.median('stacked'):.2f} s stacked ({labels} labels, {epochs} epochs, batch 64)",
        f"{times.median('alone'):.2f} s one by one",
        *times.ratio("alone", "stacked"),
    )


def _take(inputs: Tensor, batch: Tensor) -> Tensor:
    return inputs[batch]
