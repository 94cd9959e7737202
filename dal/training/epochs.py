"""One step and one epoch, written once: for a fit alone, one among processes, and a stack of fits.

What differs between these is what `Epochs` leaves open: which positions a batch holds, how the
networks turn them into losses, where dropout draws from, and how sums over steps become numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from dal.task import Task
from dal.training.augment import Augment
from dal.training.context import Progress
from dal.training.cuda_graph import StepGraphs
from dal.training.early_stopping import EarlyStopping
from dal.training.optim import MakeOptimizer, MakeScheduler

EVALUATED_AT_ONCE = 512

WHOLE = slice(None)
"""The one part of a batch that is not cut."""

Metrics = Mapping[str, float]


class Recipe(Protocol):
    """The settings that a fit reads; `dal.training.Trainer` has them and says what they mean."""

    epochs: int
    batch_size: int
    optimizer: MakeOptimizer
    scheduler: MakeScheduler
    early_stopping: EarlyStopping | None
    samples_per_epoch: int | None
    dtype: torch.dtype
    augment: Augment | None
    ema: float | None
    clip: float | None
    micro_batch_size: int | None
    warmup: float
    schedule_by: Literal["epoch", "step"]
    body_lr_factor: float
    layer_lr_decay: float


class Epochs(ABC):
    """What is trained by epochs: one fit, or R fits whose networks are stacked.

    A batch is a tensor of positions of labeled samples, int64, (B,); of a stack (R, B), a row for
    each fit. Losses and numbers of right predictions are scalars; of a stack (R,).

    Args:
        trainer: The settings.
        model: A network that shows which layers are trained.
        count: M, the number of labeled samples of a fit.
        device: Where networks and samples are.

    Attributes:
        optimizer: Steps over the parameters.
        scaler: Scales losses in float16; does nothing otherwise.
        task: Gives loss and metrics where weights are measured.
        step_task: Gives the loss of the steps; the same, or with smoothed labels.
        progress: What the epoch in progress has come to.
        drawn: What augmentation draws for the samples of the step; None where it changes nothing.
        graphs: Records steps on CUDA and replays them; None where every step is an ordinary one.
        normalizes: Whether a layer is a BatchNorm, which takes no single sample in training.
    """

    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    graphs: StepGraphs | None
    task: Task
    step_task: Task
    drawn: Tensor | None = None

    def __init__(self, trainer: Recipe, model: nn.Module, count: int, device: torch.device) -> None:
        self.trainer, self.count, self.device = trainer, count, device
        self.progress = Progress()
        self.normalizes = normalizes(model)

    def run_epoch(self) -> None:
        """One pass over the samples, or the rest of it, its metrics, and the verdict on them."""
        trained = self.train()
        with self.judged():
            measured = self.measure() if self.measures else [{} for _ in trained]
            validation = self.validate()
        self.conclude(trained, measured, validation)

    @property
    def measures(self) -> bool:
        """Whether the verdict on an epoch needs the metrics of the weights after it."""
        rule = self.trainer.early_stopping
        return rule is not None and rule.monitor.startswith("train/")

    def train(self) -> list[Metrics]:
        """The steps of an epoch, or the rest of them.

        Returns:
            Each fit's mean loss and accuracy over the steps, with the weights as they changed.
        """
        batches = split_batches(self.begin(), self.trainer.batch_size)
        if self.normalizes:
            # A single sample has no variance; taken twice, it weighs as much as once in a mean.
            batches = [_doubled(batch) if batch.shape[-1] == 1 else batch for batch in batches]
        left = batches[len(self.progress.losses) :]
        size = self.trainer.micro_batch_size
        self.expect(self.own_part(b, part) for b in left for part in parts_of(b.shape[-1], size))
        with self.noise():
            for batch in left:
                self.look()
                loss, right = self.step(batch)
                self.progress.add(loss * batch.shape[-1], right)
                self.count_step()
        seen = sum(batch.shape[-1] for batch in batches)
        return self._metrics(*self.sums(), seen, seen)

    def step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """A step of the optimizer; gives the mean loss and the number of right predictions."""
        if self.trainer.augment is not None:
            step = len(self.progress.losses)
            self.drawn = self.draw(self.trainer.augment, batch.shape[-1], step)
        with self.rates():
            return self.graphs(self._step, batch) if self.graphs else self._step(batch)

    def _step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        done: list[tuple[Tensor, Tensor]] = []
        for part in parts_of(batch.shape[-1], self.trainer.micro_batch_size):
            loss, right = self.losses(batch, part)
            if not done:  # new gradients replace old ones: zeros would be written and added to
                self.optimizer.zero_grad(set_to_none=True)
            # Of stacked fits this is the gradient of the sum of their losses. A fit's loss depends
            # on its own weights alone, so its part is the gradient of its own loss.
            scaled = self.scaler.scale(loss)
            scaled.backward(torch.ones_like(scaled))  # type: ignore[no-untyped-call]
            done.append((loss.detach(), right))
        if self.trainer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            self.clip(self.trainer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if len(done) == 1:
            return done[0]
        losses, rights = zip(*done, strict=True)
        return torch.stack(losses).sum(0), torch.stack(rights).sum(0)

    def losses(self, batch: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """A part's share of a batch's mean loss, with its graph, and its right predictions.

        Args:
            batch: Positions of a step's samples.
            part: Some of them; `WHOLE` for all, whose share is the mean itself.
        """
        own = self.own_part(batch, part)
        whole = None if part == WHOLE else batch
        return self.verdict(self.logits(own, part), own, self.step_task, whole)

    def measure(self) -> list[Metrics]:
        """Loss and accuracy over all samples of the weights as they are now, in evaluation mode.

        The means of `train` belong to the weights before each step: kept as the best, the ones
        after it can be far worse.
        """
        everything = self.begin_measuring()
        size = max(self.trainer.batch_size, EVALUATED_AT_ONCE)
        with torch.no_grad():
            parts = []
            batches = torch.split(everything, size, -1)
            self.expect(batches)
            for batch in batches:
                self.look()
                parts.append(self.logits(batch))
            loss, right = self.verdict(torch.cat(parts, -2), everything, self.task)
        return self._metrics(loss, right, 1, self.count)

    def _metrics(self, loss: Tensor, right: Tensor, of_loss: int, of_right: int) -> list[Metrics]:
        losses, accuracies = self.shares(loss, of_loss), self.shares(right, of_right)
        pairs = zip(losses, accuracies, strict=True)
        return [{"train/loss": mean, "train/accuracy": share} for mean, share in pairs]

    def sums(self) -> tuple[Tensor, Tensor]:
        """Loss and number of right predictions, over all samples that the epoch has seen."""
        return torch.stack(self.progress.losses).sum(0), torch.stack(self.progress.correct).sum(0)

    def expect(self, batches: Iterable[Tensor]) -> None:  # noqa: B027
        """Told whose inputs will be read next, batch by batch; a hint."""

    def own_part(self, batch: Tensor, part: slice) -> Tensor:
        """The positions of a part of a batch that are read in this process for its step."""
        return batch[..., part]

    @abstractmethod
    def begin(self) -> Tensor:
        """Ready for the steps of an epoch; gives the order of its samples on the device."""

    @abstractmethod
    def noise(self) -> AbstractContextManager[None]:
        """A block in which layers draw the epoch's random numbers, from where they stand."""

    @abstractmethod
    def draw(self, augment: Augment, count: int, step: int) -> Tensor:
        """What augmentation draws for so many samples of a step of the epoch, (count, ...)."""

    @abstractmethod
    def rates(self) -> AbstractContextManager[None]:
        """A block in which the optimizer has the learning rates of the next step."""

    @abstractmethod
    def clip(self, limit: float) -> None:
        """Shorten gradients whose norm over all parameters of a network exceeds a limit."""

    @abstractmethod
    def judged(self) -> AbstractContextManager[None]:
        """A block in which networks have the weights that are measured, validated and kept."""

    @abstractmethod
    def look(self) -> None:
        """Called before each batch: heeds a signal, if one has come, by raising."""

    @abstractmethod
    def count_step(self) -> None:
        """Note that a step is done."""

    @abstractmethod
    def begin_measuring(self) -> Tensor:
        """Switch to evaluation mode; gives the positions of all samples as one batch."""

    @abstractmethod
    def logits(self, batch: Tensor, part: slice | None = None) -> Tensor:
        """Logits of a batch: float32, (B, C); of a stack (R, B, C).

        Args:
            batch: Positions of samples.
            part: Of a step's samples these are; their inputs are then changed as was drawn for it.
                None leaves inputs as they are.
        """

    @abstractmethod
    def verdict(
        self, logits: Tensor, batch: Tensor, task: Task, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch's logits, weighted where samples are, and how many are right.

        Of a part of a batch, which is then given as ``whole``, the loss is the part's share of the
        mean: shares add up to it.
        """

    @abstractmethod
    def shares(self, total: Tensor, count: int) -> list[float]:
        """A total divided by a number, for each fit."""

    @abstractmethod
    def validate(self) -> Sequence[Metrics]:
        """Metrics of each fit's validation split; none without one."""

    @abstractmethod
    def conclude(
        self,
        trained: Sequence[Metrics],
        measured: Sequence[Metrics],
        validation: Sequence[Metrics],
    ) -> None:
        """End an epoch: each fit's record of it, the verdict, and whoever waits for it told."""


def normalizes(model: nn.Module) -> bool:
    """Whether a layer is a BatchNorm, which takes no single sample in training."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def split_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches; a last batch of one joins the one before it.

    BatchNorm cannot train on a single sample, and its gradient would weigh as much as a whole
    batch's.

    Args:
        order: int64, (M,) or (R, M), M >= 1.
        batch_size: At least 1.

    Returns:
        Tensors of ``batch_size`` indices, the last one of 1 to ``batch_size + 1``.
    """
    batches = list(torch.split(order, batch_size, -1))
    if len(batches) > 1 and batches[-1].shape[-1] == 1 and batch_size > 1:
        batches[-2:] = [torch.cat(batches[-2:], -1)]
    return batches


def parts_of(count: int, size: int | None) -> list[slice]:
    """Stretches of a batch whose gradients are added up; a last one of one joins that before it."""
    if size is None or count <= size:
        return [WHOLE]
    starts = [*range(0, count, size)]
    if size > 1 and count - starts[-1] == 1:
        starts.pop()
    return [slice(*ends) for ends in zip(starts, [*starts[1:], count], strict=True)]


def _doubled(batch: Tensor) -> Tensor:
    return torch.cat([batch, batch], -1)
