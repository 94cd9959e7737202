"""One network's fit: the live optimizer, schedule and scaler around the state that is saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from dal.models.base import Output, forward
from dal.task import Task
from dal.training.augment import Augment
from dal.training.average import Average
from dal.training.context import FitContext, FitState, Progress, Samples, Save
from dal.training.cuda_graph import step_graphs
from dal.training.epochs import Epochs, Metrics, Recipe, split_batches
from dal.training.optim import lr_factors, parameter_groups, set_rates, warmed_up
from dal.utils.inputs import Inputs, map_tensors, num_bytes, one_tensor
from dal.utils.ranks import current
from dal.utils.seeding import derive, generator, generator_states, seeded
from dal.utils.signals import PreemptedError

RESIDENT_LIMIT = 2**28
"""Bytes of prepared training inputs kept on the device during a fit; above it, one batch."""


class Fit(Epochs):
    """The fit of one network, from where its context resumes it to its end.

    Args:
        trainer: The settings.
        model: Any network of `dal.models.base`, on the device of the samples; trained in place.
        samples: The labeled samples, M >= 1.
        task: Gives loss and metrics.
        context: Seeds, validation, callbacks, and the saved form to go on from.
        smoothing: Share of a label that is spread over all classes in steps, 0 to below 1.

    Attributes:
        state: Where the fit stands between two epochs.
        average: The running average of the weights; None without one.
        epoch_steps: Steps of an epoch.
        lr_factors: See `dal.training.optim.lr_factors`.
        resident: All inputs prepared, (M, ...), where they are small enough to be kept; or None.
    """

    def __init__(
        self,
        trainer: Recipe,
        model: nn.Module,
        samples: Samples,
        task: Task,
        context: FitContext,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(trainer, model, len(samples), samples.targets.device)
        self.model, self.samples, self.task, self.context = model, samples, task, context
        self.step_task = replace(task, smoothing=smoothing) if smoothing else task
        self.resident = self._resident_inputs()
        self.state = FitState()
        self.epoch_steps = len(split_batches(torch.arange(self.taken), trainer.batch_size))
        self.lr_factors = lr_factors(model, trainer.body_lr_factor, trainer.layer_lr_decay)
        self.optimizer = self.make_optimizer(dict(model.named_parameters()))
        by_step = {"steps": self.epoch_steps} if trainer.schedule_by == "step" else {}
        self.scheduler = trainer.scheduler(self.optimizer, **by_step)
        self.average = None if trainer.ema is None else Average(model, trainer.ema)
        scaling = trainer.dtype == torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaling)
        if context.resume is not None:
            self.load_state_dict(context.resume)
        self.graphs = None
        # Loss scaling waits for the device at every step; several processes wait for each other.
        if self.recordable and not scaling and current().world_size == 1:
            self.graphs = step_graphs(self.optimizer, model, self.device)

    @property
    def recordable(self) -> bool:
        """Whether a step reads its inputs from the device alone, and none that is drawn anew."""
        on_device = self.resident is not None or self.samples.on_device
        return on_device and self.trainer.augment is None

    @property
    def taken(self) -> int:
        """Samples that an epoch takes."""
        return max(self.trainer.samples_per_epoch or 0, self.count)

    def make_optimizer(self, named: Mapping[str, nn.Parameter]) -> Optimizer:
        """An optimizer of the model's parameters, or of others in their places, by name."""
        groups = parameter_groups(self.model, named, len(self.lr_factors))
        return self.trainer.optimizer(groups)

    def run(self) -> FitState:
        """Train to the end and leave the network with its best weights; gives the final state."""
        with tqdm(
            desc=f"round {self.context.round}: fit",
            total=self.trainer.epochs,
            initial=self.state.epoch,
            unit="epoch",
            leave=False,
            disable=None,
        ) as bar:
            while not self.state.stopped:
                self.run_epoch()
                bar.update()
        self.finish()
        return self.state

    def begin(self) -> Tensor:
        """See `Epochs.begin`."""
        self.model.train()
        return self.order().to(self.device)

    def order(self) -> Tensor:
        """This epoch's samples: all in random order, again until there are as many as it takes."""
        rng = generator(self.context.seed, self.context.round, "order", self.state.epoch)
        turns = -(-self.taken // self.count)
        orders = [torch.randperm(self.count, generator=rng) for _ in range(turns)]
        return torch.cat(orders)[: self.taken]

    def noise_seed(self) -> int:
        """Seed of what layers draw in this epoch."""
        return derive(self.context.seed, self.context.round, "noise", self.state.epoch)

    def noise(self) -> AbstractContextManager[None]:
        """See `Epochs.noise`: torch's own generators, which are left as they were."""
        return seeded(self.noise_seed(), self.device, self.progress.noise)

    def draw(self, augment: Augment, count: int, step: int) -> Tensor:
        """See `Epochs.draw`: from seed, round, epoch and step alone."""
        keys = self.context.round, "augment", self.state.epoch, step
        return augment.draw(count, generator(self.context.seed, *keys))

    def next_rates(self) -> list[float]:
        """The learning rate of each group of the optimizer in the next step.

        Schedules that go by the step are stepped before it, but for the first: so the optimizer has
        the last step's rate at the end of an epoch, as it has with those that go by the epoch.
        """
        by_step = self.trainer.schedule_by == "step"
        while by_step and self.scheduler.last_epoch < self.state.steps:
            self.step_schedule()
        return self._rates(self.state.steps)

    def _rates(self, steps: int) -> list[float]:
        """Rates of a step before which so many have been done, as the schedule stands."""
        warm = warmed_up(steps, self.trainer.warmup * self.epoch_steps)
        groups = zip(self.optimizer.param_groups, self.lr_factors, strict=True)
        return [group["lr"] * warm * factor for group, factor in groups]

    @contextmanager
    def rates(self) -> Iterator[None]:
        """See `Epochs.rates`; afterwards the optimizer has the schedule's again."""
        groups, rates = self.optimizer.param_groups, self.next_rates()
        scheduled = [group["lr"] for group in groups]
        set_rates(groups, rates)
        try:
            yield
        finally:
            set_rates(groups, scheduled)

    def step_schedule(self) -> None:
        """Step the schedule."""
        # It would warn where the steps before its own were those of an earlier process, of a
        # stack's optimizer, or left out as gradients were infinite in half precision.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        self.scheduler.step()

    def clip(self, limit: float) -> None:
        """See `Epochs.clip`."""
        nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    def judged(self) -> AbstractContextManager[None]:
        """See `Epochs.judged`: the averaged weights, where there are."""
        return nullcontext() if self.average is None else self.average.used()

    def look(self) -> None:
        """Save and end, where a signal has come."""
        if self.context.pending():
            self.context.on_signal(self.state_dict)

    def count_step(self) -> None:
        """See `Epochs.count_step`."""
        self.state.steps += 1
        if self.average is not None:
            self.average.update(self.state.steps)

    def begin_measuring(self) -> Tensor:
        """See `Epochs.begin_measuring`."""
        self.model.eval()
        return torch.arange(self.count, device=self.device)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """See `Epochs.expect`."""
        if self.resident is None:
            self.samples.expect(batches)

    def inputs(self, batch: Tensor) -> Inputs:
        """Prepared inputs of some positions."""
        if self.resident is None:
            return self.samples.take(batch)
        return map_tensors(lambda tensor: tensor[batch], self.resident)

    def logits(self, batch: Tensor, part: slice | None = None) -> Tensor:
        """See `Epochs.logits`."""
        return self.forward(self.model, batch, part).logits.float()

    def forward(self, model: nn.Module, batch: Tensor, part: slice | None = None) -> Output:
        """What a network returns for a batch, in the trainer's precision; see `Epochs.logits`."""
        dtype, inputs = self.trainer.dtype, self.inputs(batch)
        if self.trainer.augment and self.drawn is not None and part is not None:
            images = one_tensor(inputs, "augmentation")
            inputs = self.trainer.augment(images, self.drawn[part], *self.samples.scale)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return forward(model, inputs)

    def verdict(
        self, logits: Tensor, batch: Tensor, task: Task, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Epochs.verdict`."""
        targets, weights = self.samples.targets[batch], self.samples.weights
        right = task.correct(logits.detach(), targets).sum()
        if whole is None:
            of_batch = None if weights is None else weights[batch]
            return task.loss(logits, targets, of_batch), right
        losses = task.losses(logits, targets)
        if weights is None:
            return losses.sum() / len(whole), right
        return (losses * weights[batch]).sum() / weights[whole].sum(), right

    def shares(self, total: Tensor, count: int) -> list[float]:
        """See `Epochs.shares`: divided in float64."""
        return [float(total) / count]

    def validate(self) -> Sequence[Metrics]:
        """See `Epochs.validate`; a signal meanwhile saves the fit as it was before."""
        try:
            return [self.context.evaluate() if self.context.evaluate is not None else {}]
        except PreemptedError:
            self.context.on_signal(self.state_dict)
            raise

    def conclude(
        self,
        trained: Sequence[Metrics],
        measured: Sequence[Metrics],
        validation: Sequence[Metrics],
    ) -> None:
        """See `Epochs.conclude`; several processes must all come to the same verdict."""
        agreed = current().broadcast(lambda: (trained[0], measured[0], validation[0]))
        self.end_epoch(*agreed, self.state_dict)

    def end_epoch(
        self, trained: Metrics, measured: Metrics, validation: Metrics, save: Save
    ) -> None:
        """Take up an epoch's metrics, step the schedule, judge the epoch, tell of it.

        Args:
            trained: Loss and accuracy of the steps.
            measured: Those of the weights after the epoch, which take their place; or none.
            validation: Metrics of the validation split, or none.
            save: Gives the fit in its saved form.

        Raises:
            FloatingPointError: The loss became infinite or NaN, or the monitored metric was NaN in
                every epoch.
            ValueError: The monitored metric is not among them.
        """
        self.progress = Progress()
        for found in (trained, measured):
            self._check_finite(found.get("train/loss", 0.0))
        metrics = {
            **trained,
            "lr": self._rates(self.state.steps - 1)[0],
            **measured,
            **{f"val/{name}": value for name, value in validation.items()},
        }
        if self.trainer.schedule_by == "epoch":
            self.step_schedule()
        self.state.history.append(metrics)
        self.state.epoch += 1
        self._judge(metrics)
        self.context.on_epoch(self.state, save)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss became {loss} in round {self.context.round}, epoch "
                f"{self.state.epoch}; lower trainer.optimizer.lr, or check the inputs for extreme "
                "values"
            )

    def _judge(self, metrics: Mapping[str, float]) -> None:
        """Keep the weights if the epoch is the best so far; decide whether to stop."""
        state, rule = self.state, self.trainer.early_stopping
        if rule is None:
            state.best_epoch = state.epoch - 1
        else:
            value = rule.value(metrics)
            if rule.improved(value, state.best_value):
                with self.judged():
                    state.best = _copies(self.model)
                state.best_epoch, state.best_value, state.stale = state.epoch - 1, value, 0
            else:
                state.stale += 1
            if (
                rule.patience is not None
                and state.stale >= rule.patience
                and state.epoch >= rule.min_epochs
            ):
                state.stopped = "early"
        if state.epoch >= self.trainer.epochs and not state.stopped:
            state.stopped = "epochs"
        if rule is not None and state.stopped and state.best_epoch < 0:
            raise FloatingPointError(
                f"{rule.monitor} was NaN in every epoch of round {self.context.round}; monitor "
                "another metric, or check the labels of the validation split"
            )

    def finish(self) -> None:
        """Leave the model with its best weights."""
        best = self.state.best
        if not best and self.average is not None:
            with self.average.used():
                best = _copies(self.model)
        if best:
            self.model.load_state_dict(best)

    def state_dict(self) -> dict[str, Any]:
        """The fit between two epochs or batches, as tensors and plain containers.

        Of several processes all must ask for it: each has a part of an epoch in progress.
        """
        progress = Progress(self.progress.losses, self.progress.correct)
        if progress.losses:
            progress.noise = generator_states(self.device)
        weights: dict[str, Any] = {"model": self.model.state_dict()}
        if self.average is not None:
            with self.average.used(False):
                weights = {"model": _copies(self.model), "average": self.average.state_dict()}
        return {
            **vars(self.state),
            **weights,
            "within": current().all_gather(progress.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": _plain(self.scheduler.state_dict()),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        saved = dict(saved)
        self.model.load_state_dict(saved.pop("model"))
        self.optimizer.load_state_dict(saved.pop("optimizer"))
        self.scheduler.load_state_dict(saved.pop("scheduler"))
        if scaler := saved.pop("scaler"):  # empty where it was saved without scaling
            self.scaler.load_state_dict(scaler)
        self.progress = Progress.load(saved.pop("within"), current(), self.device)
        if self.average is not None:
            self.average.load_state_dict(saved.pop("average"))
        self.state = FitState(**saved)

    def _resident_inputs(self) -> Inputs | None:
        """All inputs prepared once, (M, ...), where they fit; otherwise each batch as it comes."""
        first = self.samples.take(torch.zeros(1, dtype=torch.int64, device=self.device))
        if num_bytes(first) * self.count > RESIDENT_LIMIT:
            return None
        return self.samples.take(torch.arange(self.count, device=self.device))


def _copies(model: nn.Module) -> dict[str, Tensor]:
    """A network's tensors by name; copies, since the live ones go on changing under any alias."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state with its Counters as dicts, which load without pickle."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
