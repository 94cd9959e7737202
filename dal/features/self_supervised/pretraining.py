"""Training without labels, step by step, which goes on to the same bits after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from dal.data.source import Split
from dal.features.self_supervised.encoders import Joint, make_encoder
from dal.features.self_supervised.losses import nt_xent, vicreg
from dal.features.self_supervised.views import Views
from dal.inference.pool_pass import evaluating
from dal.models.frozen import features_of
from dal.training.optim import warmed_up
from dal.utils.inputs import one_shape, one_tensor
from dal.utils.seeding import derive, generator, seeded

PROJECTION = {"simclr": (128, 64), "vicreg": (512, 512)}
"""Widths of the projection that each method compares: of its hidden layer, and of what it gives."""
WEIGHT_DECAY = 1e-4
WARMED_UP = 0.05
"""Share of the steps in which the rate rises."""
LEAST, MOST, PER_ROOT = 200, 1200, 5
"""Automatic steps: so many for each root of the samples, within bounds."""
SETTLING = 10
"""Batches of which batch normalization takes its statistics."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
BLOCK = 256
"""Images whose features are looked at in one batch."""


def automatic_steps(samples: int) -> int:
    """Steps where none are asked for: 200 for 1,000 samples, 1,200 for 60,000."""
    return min(max(round(PER_ROOT * math.sqrt(samples)), LEAST), MOST)


@dataclass(frozen=True)
class Plan:
    """All that decides the weights, besides the images.

    Attributes:
        method: ``simclr`` or ``vicreg``.
        encoder: ``small`` or ``resnet18``.
        views: Name of the views.
        steps: Steps of training.
        batch: Samples of a step, each with two views.
        lr: Highest learning rate; it rises in 5 % of the steps, and falls along a cosine to 0.
        temperature: See `nt_xent`.
        seed: Decides first weights, order and views.
    """

    method: Literal["simclr", "vicreg"]
    encoder: str
    views: str
    steps: int
    batch: int
    lr: float
    temperature: float
    seed: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warmed = warmed_up(step, WARMED_UP * self.steps)
        return self.lr * warmed * (1 + math.cos(math.pi * step / self.steps)) / 2

    def loss(self, one: Tensor, two: Tensor) -> Tensor:
        """What the projections of two views of a batch cost."""
        if self.method == "simclr":
            return nt_xent(one, two, self.temperature)
        return vicreg(one, two)


class Pretraining:
    """An encoder as it is trained: the weights, and how far they are.

    All that a step draws follows from the seed and the step's number, so weights, the optimizer and
    that number are all there is to keep.

    Args:
        split: The images; their targets play no part.
        views: Changes them.
        plan: Decides the rest; its batch is at most the number of images.
        device: Where it trains.
        name: Of the data set, for errors.
    """

    def __init__(
        self, split: Split, views: Views, plan: Plan, device: torch.device, name: str
    ) -> None:
        self.split, self.views, self.plan, self.device = split, views, plan, device
        shape = one_shape(split.input_shape, name)
        with seeded(derive(plan.seed, "self_supervised", "weights"), device):
            encoder = make_encoder(plan.encoder, shape)
            width = encoder.head.in_features
            self.model = Joint(encoder, width, *PROJECTION[plan.method])
        self._norms = [m for m in self.model.encoder.modules() if isinstance(m, BATCH_NORMS)]
        for norm in self._norms:
            norm.momentum = None  # statistics are means over the batches of `settle`
        self.model = self.model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = AdamW(self.model.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
        self.step = 0
        self._order: tuple[int, Tensor] = -1, torch.empty(0)

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def run_step(self) -> Tensor:
        """Train on the next batch; gives its loss, float32, (), on the device."""
        images = one_tensor(self.split.take(self.batch(self.step), self.device), "views")
        prepare = self.split.prepare
        rng = generator(self.plan.seed, "self_supervised", "views", self.step)
        seen = images.repeat(2, 1, 1, 1)
        drawn = self.views.draw(len(seen), rng)
        seen = self.views(seen, drawn, prepare.mean, prepare.std)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad()
        one, two = self.model(seen.contiguous(memory_format=torch.channels_last)).chunk(2)
        loss = self.plan.loss(one, two)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return loss.detach()

    def batch(self, step: int) -> Tensor:
        """The samples of a step, int64 (batch,): epochs in random order, their rest left out."""
        per_epoch = len(self.split) // self.plan.batch
        epoch, place = divmod(step, per_epoch)
        if self._order[0] != epoch:
            rng = generator(self.plan.seed, "self_supervised", "order", epoch)
            self._order = epoch, torch.randperm(len(self.split), generator=rng)
            self.split.expect(self._batches()[place:])
        return self._batches()[place]

    def _batches(self) -> list[Tensor]:
        """The batches of the epoch."""
        size = self.plan.batch
        order = self._order[1][: len(self.split) // size * size]
        return list(torch.split(order, size))

    def settle(self, check: Callable[[], None]) -> None:
        """Let batch normalization know images as they are, and not as the views show them.

        Statistics that moved along with the training would be of views and of earlier weights.
        """
        encoder = self.model.encoder
        for norm in self._norms:
            norm.reset_running_stats()
        encoder.train()
        with torch.no_grad():
            for number in range(min(SETTLING, len(self.split) // self.plan.batch)):
                check()
                images = one_tensor(self.split.take(self.batch(number), self.device), "features")
                features_of(encoder, images)

    def features(self, indices: Tensor, check: Callable[[], None] = lambda: None) -> Tensor:
        """Features of some samples by the weights as they are: float32, (n, D), on the CPU."""
        self.settle(check)
        blocks = torch.split(indices, BLOCK)
        self.split.expect(blocks)
        self._order = -1, torch.empty(0)  # what is announced is no longer an epoch's
        found: list[Tensor] = []
        with evaluating(self.model), torch.inference_mode():
            for block in blocks:
                check()
                images = one_tensor(self.split.take(block, self.device), "features")
                found.append(features_of(self.model.encoder, images).float().cpu())
        return torch.cat(found)
