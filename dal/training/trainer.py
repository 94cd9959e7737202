"""Fits a network on labeled samples: epochs, early stopping, schedule, best weights."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dal.task import Task
from dal.training.augment import Augment
from dal.training.context import FitContext, FitState, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.epochs import normalizes
from dal.training.fit import Fit
from dal.training.optim import MakeOptimizer, MakeScheduler, constant, lr_factors, sgd
from dal.training.parallel import ParallelFit
from dal.utils.inputs import InputSpec, shapes_of
from dal.utils.memory import check_memory
from dal.utils.ranges import check_number, check_whole
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
        augment: How images are changed in steps; None for not at all.
        label_smoothing: Share of a label that steps spread over all classes, 0 to below 1. Losses
            that are measured (after an epoch, on the validation split, in the test) are those of
            the labels as they are, so that they mean the same with and without it.
        class_weights: ``balanced`` weighs samples so that all classes that have labels count alike
            in the loss, whatever their number of labels; ``none`` leaves weights as they are.
        clip: Longest norm of the gradient over all parameters; longer ones are scaled down to it.
            None for no limit.
        ema: Decay of a running average of the weights, such as 0.999, which is what is measured,
            validated, kept as the best and used; see `dal.training.average.Average`. None for none.
        micro_batch_size: Cut batches into parts of so many samples, one after the other on the
            device, whose gradients add up to that of the whole batch, where that does not fit into
            memory. BatchNorm normalizes by the part. None for whole batches.
        warmup: Epochs, or a part of one, over which the learning rate rises in a line from next to
            nothing, step by step, in every fit; at most ``epochs``.
        schedule_by: Whether the schedule moves once an ``epoch`` or with every ``step``; its
            lengths are in epochs either way.
        body_lr_factor: Learning rate of all layers but the head, as a factor of the head's. The
            head is `dal.models.base.last_layer`.
        layer_lr_decay: Learning rate of each block of the network as a factor of that of what is
            above it, down to what is below the first block; see `dal.training.optim.lr_factors`.
            Times `body_lr_factor`.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is no number; optimizer, scheduler or early stopping is something else.
    """

    weighs_labels: ClassVar[bool] = False
    """Whether yes and no of each of several labels may be weighed."""
    learns_unlabeled: ClassVar[bool] = False
    """Whether it learns from the candidates of a round too, without a label."""

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
        augment: Augment | None = None,
        label_smoothing: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        clip: float | None = None,
        ema: float | None = None,
        micro_batch_size: int | None = None,
        warmup: float = 0.0,
        schedule_by: Literal["epoch", "step"] = "epoch",
        body_lr_factor: float = 1.0,
        layer_lr_decay: float = 1.0,
    ) -> None:
        sizes = {
            "epochs": epochs,
            "batch_size": batch_size,
            "samples_per_epoch": samples_per_epoch,
            "micro_batch_size": micro_batch_size,
        }
        for name, value in sizes.items():
            if value is not None or name in ("epochs", "batch_size"):
                check_whole(f"trainer.{name}", value, 1)
        order = 8 * (samples_per_epoch or 0)  # bytes of the order in which an epoch takes them
        check_memory(order, f"trainer.samples_per_epoch={samples_per_epoch}")
        for name, choice, choices in (
            ("restart", restart, ("warm", "cold")),
            ("precision", precision, tuple(DTYPES)),
            ("class_weights", class_weights, ("none", "balanced")),
            ("schedule_by", schedule_by, ("epoch", "step")),
        ):
            if choice not in choices:
                raise ValueError(f"trainer.{name}={choice!r}; choose {' or '.join(choices)}")
        check_number("trainer.label_smoothing", label_smoothing, below=1)
        check_number("trainer.warmup", warmup)
        if warmup > epochs:
            raise ValueError(
                f"trainer.warmup={warmup:g} is longer than a fit of trainer.epochs={epochs}, which "
                "would never reach its learning rate; warm up for fewer epochs, 0 for none"
            )
        check_number("trainer.body_lr_factor", body_lr_factor)
        check_number("trainer.layer_lr_decay", layer_lr_decay)
        if clip is not None:
            check_number("trainer.clip", clip, positive=True)
        if ema is not None:
            check_number("trainer.ema", ema, below=1)
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
        if not isinstance(augment, Augment | None):
            raise TypeError(f"trainer.augment={augment!r}; choose one with trainer/augment=light")
        if schedule_by == "step" and "steps" not in inspect.signature(self.scheduler).parameters:
            raise TypeError(
                "trainer.schedule_by=step needs a schedule that takes the number of steps of an "
                "epoch as steps=..., such as those of dal.training; set trainer.schedule_by=epoch"
            )
        self.restart = restart
        self.samples_per_epoch = samples_per_epoch
        self.dtype = DTYPES[precision]
        self.augment = augment or None  # one that changes nothing is none
        self.label_smoothing, self.class_weights = label_smoothing, class_weights
        self.clip, self.ema, self.micro_batch_size = clip, ema, micro_batch_size
        self.warmup, self.schedule_by = warmup, schedule_by
        self.body_lr_factor, self.layer_lr_decay = body_lr_factor, layer_lr_decay

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

    @property
    def is_cheap(self) -> bool:
        """Whether a fit costs so little that it may be done again on parts of the labels."""
        return False

    def begin(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> Fit:
        """A fit that stands at its beginning, or where the context resumes it; see `fit`.

        Raises:
            ValueError: There are no samples; or see `check`.
            TypeError: See `check`.
        """
        if len(samples) == 0:
            raise ValueError("there are no labeled samples to train on; raise initial.count")
        first = torch.zeros(1, dtype=torch.int64, device=samples.targets.device)
        self.check(model, shapes_of(samples.take(first)) if self.augment else (), task)
        if self.class_weights == "balanced":
            samples = weighed(samples)
        return self.kind_of_fit(samples)(self, model, samples, task, context, self.label_smoothing)

    def kind_of_fit(self, samples: Samples) -> type[Fit]:
        """What fits these samples."""
        return ParallelFit if current().world_size > 1 else Fit

    def check(self, model: nn.Module, shape: InputSpec, task: Task) -> None:
        """Refuse settings that do not go with a network or its samples.

        Args:
            model: The network.
            shape: Of a prepared sample, or shapes by name.
            task: What is learned.

        Raises:
            ValueError: There is no head for `body_lr_factor`, or no block for `layer_lr_decay`; or
                a BatchNorm, and parts of one sample.
            TypeError: Samples are no images and shall be augmented, or have several labels each and
                shall be weighted by class.
        """
        lr_factors(model, self.body_lr_factor, self.layer_lr_decay)
        if self.augment is not None:
            self.augment.check(shape)
        if self.class_weights == "balanced" and not (task.exclusive or self.weighs_labels):
            raise TypeError(
                "trainer.class_weights=balanced is for samples of one class each, and these have "
                "several labels each; set trainer.class_weights=none, or choose trainer=lbfgs"
            )
        if self.micro_batch_size == 1 and normalizes(model):
            raise ValueError(
                f"trainer.micro_batch_size=1: {type(model).__name__} has BatchNorm, which takes no "
                "single sample; give 2 or more"
            )


def weighed(samples: Samples) -> Samples:
    """Samples with the weights of `balanced`, times those that they have."""
    known = samples.weights
    weights = balanced(samples.targets, known)
    if known is not None and weights.ndim == 2:
        known = known.unsqueeze(1)
    return replace(samples, weights=weights if known is None else weights * known)


def balanced(targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weights of samples with which every class that occurs counts alike.

    Args:
        targets: int64, (M,), or of several labels (M, C), 0 or 1.
        weights: float, (M,), above 0, by which the samples are weighed besides: a sample is counted
            as so many of the mean weight. None for equal ones.

    Returns:
        float32, (M,): M / (classes that occur * samples of the own class), whose mean is 1. Of
        several labels (M, C): M / (2 * samples that have the label, or that have it not), whose
        mean is 1 for each label; 1 for one that holds everywhere, or nowhere.

    Reference:
        ``class_weight="balanced"`` of scikit-learn, by G. King and L. Zeng. Logistic regression in
        rare events data. Political Analysis 9, 2001.
    """
    if weights is not None:
        return _balanced_by_weight(targets, weights.double() / weights.double().mean())
    if targets.ndim == 2:
        held = targets.sum(0).double()
        absent = len(targets) - held
        of_label = torch.where(
            targets.bool(), len(targets) / (2 * held), len(targets) / (2 * absent)
        )
        return torch.where((held > 0) & (absent > 0), of_label, 1.0).float()
    counts = targets.bincount()
    share = len(targets) / (int((counts > 0).sum()) * counts.double())
    return share[targets].float()


def _balanced_by_weight(targets: Tensor, weights: Tensor) -> Tensor:
    """`balanced` where samples count by weights, float64, (M,), of mean 1."""
    if targets.ndim == 2:
        held = weights @ targets.double()
        absent = weights @ (1 - targets).double()
        of_label = len(targets) / (2 * torch.where(targets.bool(), held, absent))
        return torch.where((held > 0) & (absent > 0), of_label, 1.0).float()
    classes, place = torch.unique(targets, return_inverse=True)
    # A product and not a sum by index, which on a GPU would depend on the order of threads.
    counts = weights @ (place[:, None] == torch.arange(len(classes), device=place.device)).double()
    found: Tensor = (len(targets) / (len(classes) * counts))[place].float()
    return found
