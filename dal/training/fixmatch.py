"""Training on unlabeled images as well: what is predicted of one view is taught on another."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import forward
from dal.task import Task
from dal.training.augment import Augment
from dal.training.context import Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import Fit
from dal.training.optim import MakeOptimizer, MakeScheduler
from dal.training.trainer import Trainer
from dal.utils.inputs import InputSpec, one_tensor
from dal.utils.ranges import check_number, check_whole
from dal.utils.ranks import current
from dal.utils.seeding import generator


def consistency(weak: Tensor, strong: Tensor, threshold: float) -> Tensor:
    """How little the prediction of a strongly changed image agrees with the plainer one's class.

    Args:
        weak: float, (B, C), logits of images that are changed little; nothing is learned from them.
        strong: float, (B, C), logits of the same images changed a lot.
        threshold: Confidence of the former from which on an image counts, in [0, 1].

    Returns:
        A scalar: cross-entropy in nats, 0 for images that do not count, the mean over all B.

    Reference:
        K. Sohn et al., "FixMatch: Simplifying semi-supervised learning with consistency and
        confidence", NeurIPS 2020, equation 4.
    """
    confidence, classes = weak.detach().softmax(1).max(1)
    losses = F.cross_entropy(strong, classes, reduction="none")
    return (losses * (confidence >= threshold)).mean()


class FixMatch(Trainer):
    """A trainer that learns from the candidates of a pool too, without a label: FixMatch.

    Each step takes random candidates beside its labeled samples and sees each twice: changed by
    ``augment``, as labeled images are, and by ``strong``. Where it is sure of the former, the class
    that it predicts is learned from the latter. No guess is remembered: nothing of it enters the
    ledger. The loss of training steps contains it; metrics that are measured do not.

    Which candidates a step takes, and how they are changed, follows from seed, round, epoch and
    step alone, so that a fit goes on exactly. An epoch lasts as long as it does without: see
    ``samples_per_epoch``. A step costs about 1 + 2 ``ratio`` times as much. Such fits are neither
    stacked with others nor recorded as CUDA graphs, and are done by one process.

    Args:
        strong: How images are changed a lot.
        threshold: Confidence from which on a prediction is learned from, in [0, 1].
        ratio: How many candidates a step takes for each labeled sample.
        unlabeled_weight: Of their loss, beside that of the labeled samples.

    The others are those of `Trainer`.

    Raises:
        ValueError: A value is out of range, ``strong`` changes nothing, or batches are cut.
        TypeError: A value has another type.

    Reference:
        See `consistency`.
    """

    learns_unlabeled = True

    def __init__(
        self,
        strong: Augment,
        threshold: float = 0.95,
        ratio: int = 3,
        unlabeled_weight: float = 1.0,
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
    ) -> None:
        super().__init__(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=scheduler,
            early_stopping=early_stopping,
            restart=restart,
            samples_per_epoch=samples_per_epoch,
            precision=precision,
            augment=augment,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            clip=clip,
            ema=ema,
            micro_batch_size=micro_batch_size,
            warmup=warmup,
            schedule_by=schedule_by,
            body_lr_factor=body_lr_factor,
        )
        if not isinstance(strong, Augment):
            raise TypeError(
                f"trainer.strong={strong!r}; set its keys, such as trainer.strong.erase"
            )
        if not strong:
            raise ValueError("trainer.strong changes nothing; give it a rotation or an erased part")
        check_number("trainer.threshold", threshold)
        if threshold > 1:
            raise ValueError(f"trainer.threshold={threshold}; give a number from 0 to 1")
        check_whole("trainer.ratio", ratio, 1)
        check_number("trainer.unlabeled_weight", unlabeled_weight)
        if self.micro_batch_size is not None:
            raise ValueError(
                "trainer=fixmatch takes whole batches; set trainer.micro_batch_size=null"
            )
        self.strong, self.threshold = strong, threshold
        self.ratio, self.unlabeled_weight = ratio, unlabeled_weight

    def kind_of_fit(self, samples: Samples) -> type[Fit]:
        """See `Trainer.kind_of_fit`: without candidates a fit like any other."""
        if current().world_size > 1:
            raise ValueError("trainer=fixmatch fits in one process; start the run without torchrun")
        return Fit if samples.unlabeled is None else ConsistentFit

    def check(self, model: nn.Module, shape: InputSpec, task: Task) -> None:
        """See `Trainer.check`.

        Raises:
            TypeError: Samples are no images, or have several labels each.
        """
        if not task.exclusive:
            raise TypeError(
                "trainer=fixmatch is for samples of one class each, and these have several labels "
                "each; choose trainer=default"
            )
        # A fit without augmentation of labeled images looks at no shape: it was looked at before.
        if isinstance(shape, dict) or len(shape) not in (0, 3):
            raise TypeError(
                f"trainer=fixmatch changes images, and these samples have the shape {shape}; "
                "choose trainer=default"
            )
        super().check(model, shape, task)


class ConsistentFit(Fit):
    """The fit of one network to labeled samples, and to what it predicts of others."""

    trainer: FixMatch

    @property
    def recordable(self) -> bool:
        """Each step draws other candidates."""
        return False

    def losses(self, batch: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """See `Epochs.losses`: with the weighted loss of candidates."""
        loss, right = super().losses(batch, part)
        return loss + self.trainer.unlabeled_weight * self.unlabeled_loss(batch.shape[-1]), right

    def unlabeled_loss(self, labeled: int) -> Tensor:
        """`consistency` of the candidates that this step takes beside so many labeled samples."""
        trainer, others = self.trainer, self.samples.unlabeled
        assert others is not None
        keys = self.context.round, "consistency", self.state.epoch, len(self.progress.losses)
        rng = generator(self.context.seed, *keys)
        places = torch.randint(others.count, (trainer.ratio * labeled,), generator=rng)
        drawn = [trainer.strong.draw(len(places), rng) for _ in range(2)]
        images = one_tensor(others.take(places.to(self.device)), "augmentation")
        scale = self.samples.scale
        weak = trainer.augment(images, drawn[0], *scale) if trainer.augment else images
        with torch.autocast(
            self.device.type, trainer.dtype, enabled=trainer.dtype != torch.float32
        ):
            with torch.no_grad():
                expected = forward(self.model, weak).logits.float()
            found = forward(self.model, trainer.strong(images, drawn[1], *scale)).logits.float()
        return consistency(expected, found, trainer.threshold)
