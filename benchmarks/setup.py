"""What all measurements share: data, device, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dal.data import Dataset, Source, initial_labels, make_source, mnist
from dal.learners import RoundContext, TorchLearner
from dal.models import LeNet5
from dal.pool import Pool
from dal.task import Multiclass
from dal.training.optim import sgd, step
from dal.training.trainer import Trainer

TOTAL, TEST_FRACTION = 70_000, 0.3


@dataclass(frozen=True)
class Sizes:
    """Sizes of the made-up predictions and features on which scores are measured.

    Attributes:
        scores: Candidates of the scores.
        selection: Candidates of the batch strategies.
        joint: Candidates of BatchBALD.
        large: Candidates of the large pool.
        frozen: Training part of the rounds on frozen features.
        classes: C.
        members: K.
        width: D, width of the features.
        picks: Samples queried.
    """

    scores: int = 60_000
    selection: int = 20_000
    joint: int = 2_000
    large: int = 1_000_000
    frozen: int = 50_000
    classes: int = 10
    members: int = 20
    width: int = 512
    picks: int = 100


@dataclass(frozen=True)
class Setup:
    """Data and sizes of the measurements.

    Attributes:
        source: The data.
        data: What they are, in words.
        device: Where everything runs.
        repeat: Repetitions of every timing.
        epochs: Epochs of a fit, as in the paper's setting.
        rounds: Queries of the run whose overhead is measured; the first is not counted.
        items: Samples whose gradient lengths are measured.
        items_autograd: Samples that plain autograd measures, one by one.
        steps: Training steps a repetition, in units of ten.
        batch_sizes: Batch sizes among which the bare loop has its choice.
        sizes: Sizes of what is made up.
    """

    source: Source
    data: str
    device: torch.device
    repeat: int = 5
    epochs: int = 100
    rounds: int = 6
    items: int = 8192
    items_autograd: int = 100
    steps: int = 20
    batch_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    sizes: Sizes = Sizes()

    def learner(self, trainer: Trainer | None = None) -> TorchLearner:
        """A LeNet-5 with fresh weights, equal ones at every call."""
        return TorchLearner(
            LeNet5,
            trainer or self.trainer(),
            self.source,
            Multiclass(self.source.num_classes),
            seed=0,
            device=self.device,
        )

    def trainer(self, epochs: int | None = None) -> Trainer:
        """The settings of the instability paper for MNIST."""
        return Trainer(epochs or self.epochs, 64, sgd(lr=0.01, momentum=0.9), step(50, 0.1))

    def initial(self) -> Tensor:
        """0.5 % of the training part, at least ten."""
        count = max(10, round(0.005 * len(self.source.train)))
        return initial_labels(self.source.train.targets, seed=0, count=count)

    def fitted(self, learner: TorchLearner, labels: Tensor, round_number: int, epochs: int) -> None:
        """Fit a learner on the given labels, for a few epochs."""
        pool = Pool(len(self.source.train))
        pool.label(0, labels, self.source.train.targets[labels], origin="initial")
        learner.trainer = self.trainer(epochs)
        learner.fit(pool.train_set(), RoundContext(round_number))


def load_source(data_dir: str | None, pool: int) -> tuple[Source, str]:
    """MNIST with a merged 70/30 split, or random images of its shape where it is not there.

    Args:
        data_dir: Folder that holds ``MNIST/raw``; nothing is downloaded.
        pool: Size of the training part; at 49,000 it is the whole of MNIST.

    Returns:
        The data, and what they are in words.
    """
    total = min(TOTAL, round(pool / (1 - TEST_FRACTION)))
    found = data_dir is not None and any((Path(data_dir) / "MNIST/raw").glob("train-images*"))
    dataset = mnist(str(data_dir)) if found else _random_images(total)
    if found and total < TOTAL:
        dataset = Dataset(
            dataset.name,
            dataset.inputs[:total],
            dataset.targets[:total],
            dataset.class_names,
            mean=dataset.mean,
            std=dataset.std,
        )
    source = make_source(dataset, seed=0, kind="merged", test_fraction=TEST_FRACTION)
    sizes = f"{len(source.train):,} training and {len(source.test):,} test images"
    what = "MNIST" if found else "random uint8 images of MNIST's shape (no MNIST in data_dir)"
    return source, f"{what}, merged 70/30: {sizes}"


def _random_images(total: int) -> Dataset:
    rng = torch.Generator().manual_seed(0)
    return Dataset(
        "random",
        torch.randint(0, 256, (total, 1, 28, 28), dtype=torch.uint8, generator=rng),
        torch.arange(total) % 10,
        tuple("0123456789"),
        mean=(0.1307,),
        std=(0.3081,),
    )
