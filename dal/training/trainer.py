"""Fits a network on labeled samples: epochs, early stopping, schedule, best weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from dal.task import Task
from dal.training.context import FitContext, FitState, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import Fit
from dal.training.optim import MakeOptimizer, MakeScheduler, constant, sgd
from dal.training.parallel import ParallelFit
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole
from dal.utils.ranks import current

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """Mini-batch training with best weights restored at the end.

    Args:
        epochs: At most so many passes over the labeled samples.
        batch_size: Samples a step; a last batch of one joins the batch before it.
        optimizer: One of `dal.training.optim`; made anew for every fit.
        scheduler: One of `dal.training.optim`; stepped once an epoch, made anew for every fit.
        early_stopping: Which epoch's weights are kept, and when to stop; None keeps the last.
        restart: ``warm`` fine-tunes the best weights of the round before, ``cold`` starts every
            round from fresh weights.
        samples_per_epoch: Go over the labeled samples again, in another order, until an epoch has
            seen so many; None for once. With a handful of labels an epoch is a step or two, too
            few to judge by.
        precision: ``float32``; or ``bfloat16`` or ``float16`` for mixed precision (autocast, and
            loss scaling with float16), meant for CUDA.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is no number; optimizer, scheduler or early stopping is something else.
    """

    def __init__(
        self,
        epochs: int = 50,
        batch_size: int = 64,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        early_stopping: EarlyStopping | None = None,
        restart: Literal["warm", "cold"] = "warm",
        samples_per_epoch: int | None = None,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        sizes = {"epochs": epochs, "batch_size": batch_size, "samples_per_epoch": samples_per_epoch}
        for name, value in sizes.items():
            if value is not None or name != "samples_per_epoch":
                check_whole(f"trainer.{name}", value, 1)
        order = 8 * (samples_per_epoch or 0)  # bytes of the order in which an epoch takes them
        check_memory(order, f"trainer.samples_per_epoch={samples_per_epoch}")
        if restart not in ("warm", "cold"):
            raise ValueError(f"trainer.restart={restart!r}; choose warm or cold")
        if precision not in DTYPES:
            raise ValueError(f"trainer.precision={precision!r}; choose {', '.join(DTYPES)}")
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer or sgd()
        self.scheduler = scheduler or constant()
        for name, made in (("optimizer", self.optimizer), ("scheduler", self.scheduler)):
            if not callable(made):
                raise TypeError(f"trainer.{name}={made!r}; choose one with trainer/{name}={made}")
        if not isinstance(early_stopping, EarlyStopping | None):
            raise TypeError(
                f"trainer.early_stopping={early_stopping!r}; set its keys, such as "
                "trainer.early_stopping.patience=5, or null for none"
            )
        self.early_stopping = early_stopping
        self.restart = restart
        self.samples_per_epoch = samples_per_epoch
        self.dtype = DTYPES[precision]

    def fit(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> FitState:
        """Train a network in place and leave it with the weights of its best epoch.

        On a CPU equal seed, round, samples, starting weights and number of threads give equal bits.
        Torch's global random state is left as it was.

        Args:
            model: Any network of `dal.models.base`, on the device of the samples.
            samples: The labeled samples, M >= 1.
            task: Gives loss and metrics.
            context: Seeds, validation, callbacks, and the saved form to go on from.

        Returns:
            Where the fit ended: the metrics of every epoch, which epoch was the best, and why it
            was the last.

        Raises:
            ValueError: There are no samples, or the monitored metric is not logged.
            FloatingPointError: The loss became infinite or NaN, or the monitored metric was NaN in
                every epoch.
        """
        return self.begin(model, samples, task, context).run()

    def forgets_start(self, model: nn.Module) -> bool:
        """Whether fits from any two starting weights end at the same weights; never, here.

        Networks fitted so are all one network, so no committee can be made of them.
        """
        return False

    def begin(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> Fit:
        """A fit that stands at its beginning, or where the context resumes it; see `fit`."""
        if len(samples) == 0:
            raise ValueError("there are no labeled samples to train on; raise initial.count")
        kind = ParallelFit if current().world_size > 1 else Fit
        return kind(self, model, samples, task, context)
