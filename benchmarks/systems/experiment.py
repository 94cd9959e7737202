"""What the systems have in common: data, network, settings, and the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.setup import load_source
from dal.data import Source, initial_labels

PARTS = ("train", "predict", "select", "test")


@dataclass(frozen=True)
class Experiment:
    """LeNet-5 on MNIST, entropy, fresh weights every round, SGD at a constant learning rate.

    Attributes:
        data_dir: Folder that holds ``MNIST/raw``; None for random images.
        pool: Size of the training part.
        initial: Labels at the start.
        query_size: Labels asked in a round.
        rounds: Queries; there is one fit more.
        epochs: Epochs of every fit.
        batch_size: Of training.
        predict_batch_size: Of the pool pass and the test.
        lr: Learning rate.
        momentum: Of SGD.
        seed: Of initial labels, weights and order.
        threads: CPU threads.
        device: ``cpu`` or ``cuda``, for all systems.
    """

    data_dir: str | None
    pool: int = 49_000
    initial: int = 245
    query_size: int = 10
    rounds: int = 10
    epochs: int = 100
    batch_size: int = 64
    predict_batch_size: int = 512
    lr: float = 0.01
    momentum: float = 0.9
    seed: int = 0
    threads: int = 2
    device: str = "cpu"

    def load(self) -> tuple[Source, str]:
        """The data, and what they are in words."""
        return load_source(self.data_dir, self.pool)

    def first(self, source: Source) -> Tensor:
        """The initial labels: int64, sorted, the same for all systems."""
        return initial_labels(source.train.targets, seed=self.seed, count=self.initial)


class Network(nn.Module):
    """LeNet-5 as a short program writes it: dal's layers, PyTorch's pooling and memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.head = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 1, 28, 28)."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.head(F.relu(self.fc2(x)))
        return logits


@dataclass
class Outcome:
    """What one system needed and reached.

    Attributes:
        total: Seconds from loaded data to the last test.
        cpu: Processor seconds of the process in that time, all threads together.
        parts: Seconds in ``train``, ``predict``, ``select`` and ``test``.
        labels: Labels at every fit.
        accuracy: Test accuracy of every fit.
        steps: Optimizer steps of all fits.
    """

    total: float = 0.0
    cpu: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    labels: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    steps: int = 0

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Add the seconds of a block to one part."""
        start = time.perf_counter()
        yield
        self.parts[part] += time.perf_counter() - start

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Measure the whole experiment."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.total, self.cpu = time.perf_counter() - start, time.process_time() - cpu

    def scored(self, labels: int, predicted: Tensor, targets: Tensor) -> None:
        """Note the test accuracy of a fit."""
        self.labels.append(labels)
        self.accuracy.append(float((predicted == targets).double().mean()))

    @property
    def rest(self) -> float:
        """Seconds in none of the parts."""
        return self.total - sum(self.parts.values())

    @property
    def mean_accuracy(self) -> float:
        """Mean test accuracy over the fits, in [0, 1]."""
        return statistics.mean(self.accuracy)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain containers."""
        return asdict(self)


def prepared(source: Source) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalized float32 images and int64 targets in memory: training part, test part."""
    parts = []
    for split in (source.train, source.test):
        parts += [split.take(torch.arange(len(split))), split.targets]
    return parts[0], parts[1], parts[2], parts[3]
