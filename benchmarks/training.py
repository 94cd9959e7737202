"""Training steps, against their multiply-adds and against a plain loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.setup import Setup
from benchmarks.table import Row
from benchmarks.timing import MATRIX, interleave, matrix_product, training_macs
from dal.learners import RoundContext
from dal.pool import Pool

BATCH, BATCHES = 64, 10


def train_step(setup: Setup) -> list[Row]:
    """A step of a fit of many, all that a fit does included."""
    labels = torch.arange(min(BATCH * BATCHES, len(setup.source.train)))
    steps = setup.steps * -(-len(labels) // BATCH)
    pool = Pool(len(setup.source.train))
    pool.label(0, labels, setup.source.train.targets[labels], origin="initial")
    train_set = pool.train_set()
    learner = setup.learner(setup.trainer(setup.steps))
    products = 10 if setup.device.type == "cpu" else 100
    times = interleave(
        {
            "fit": lambda: learner.fit(train_set, RoundContext()),
            "plain": plain_fit(setup, labels),
            "products": matrix_product(setup.device, products),
        },
        setup.repeat,
        setup.device,
    )
    sample = setup.source.train.take(labels[:1], setup.device)
    macs = setup.steps * len(labels) * training_macs(learner.model, sample)
    rate = products * MATRIX**3 / times.median("products")
    measured = f"{1e3 * times.median('fit') / steps:.2f} ms (batch {BATCH}, fit of {steps} steps)"
    return [
        Row(
            "training step / its multiply-adds",
            measured,
            f"{1e3 * macs / rate / steps:.2f} ms ({macs / steps / 1e6:.1f} M multiply-adds at "
            f"{2e-9 * rate:.0f} GFLOP/s, 1024³ float32 products)",
            *times.ratio("fit", "products", products * MATRIX**3 / macs),
        ),
        Row(
            "training step / plain NCHW step",
            measured,
            f"{1e3 * times.median('plain') / steps:.2f} ms (a bare PyTorch loop)",
            *times.ratio("fit", "plain"),
        ),
    ]


def plain_fit(setup: Setup, labels: torch.Tensor) -> Callable[[], None]:
    """The same steps as a short program would write them, in PyTorch's default layout."""
    model = setup.learner().model.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs = setup.source.train.take(labels, setup.device)
    targets = setup.source.train.targets[labels].to(setup.device)

    def work() -> None:
        for _ in range(setup.steps):
            order = torch.randperm(len(labels), device=setup.device)
            for batch in torch.split(order, BATCH):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs[batch]).logits, targets[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    return work
