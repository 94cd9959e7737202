"""One network's fit: the live optimizer, schedule and scaler around the state that is saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dal.models.base import Output, forward
from dal.task import Task
from dal.training.context import FitContext, FitState, Progress, Samples, Save
from dal.training.cuda_graph import step_graphs
from dal.training.epochs import Epochs, Metrics, Recipe
from dal.utils.inputs import Inputs, map_tensors, num_bytes
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

    Attributes:
        state: Where the fit stands between two epochs.
        resident: All inputs prepared, (M, ...), where they are small enough to be kept; or None.
    """

    def __init__(
        self,
        trainer: Recipe,
        model: nn.Module,
        samples: Samples,
        task: Task,
        context: FitContext,
    ) -> None:
        super().__init__(trainer, model, len(samples), samples.targets.device)
        self.model, self.samples, self.task, self.context = model, samples, task, context
        self.resident = self._resident_inputs()
        self.state = FitState()
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = trainer.optimizer(parameters)
        self.scheduler = trainer.scheduler(self.optimizer)
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
        """Whether a step reads its inputs from the device alone."""
        return self.resident is not None or self.samples.on_device

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
        wanted = max(self.trainer.samples_per_epoch or 0, self.count)
        turns = [torch.randperm(self.count, generator=rng) for _ in range(-(-wanted // self.count))]
        return torch.cat(turns)[:wanted]

    def noise_seed(self) -> int:
        """Seed of what layers draw in this epoch."""
        return derive(self.context.seed, self.context.round, "noise", self.state.epoch)

    def noise(self) -> AbstractContextManager[None]:
        """See `Epochs.noise`: torch's own generators, which are left as they were."""
        return seeded(self.noise_seed(), self.device, self.progress.noise)

    def look(self) -> None:
        """Save and end, where a signal has come."""
        if self.context.pending():
            self.context.on_signal(self.state_dict)

    def count_step(self) -> None:
        """See `Epochs.count_step`."""
        self.state.steps += 1

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

    def logits(self, batch: Tensor) -> Tensor:
        """See `Epochs.logits`."""
        return self.forward(self.model, batch).logits.float()

    def forward(self, model: nn.Module, batch: Tensor) -> Output:
        """What a network returns for a batch, in the trainer's precision."""
        dtype = self.trainer.dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return forward(model, self.inputs(batch))

    def verdict(self, logits: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """See `Epochs.verdict`."""
        targets, weights = self.samples.targets[batch], self.samples.weights
        loss = self.task.loss(logits, targets, None if weights is None else weights[batch])
        return loss, self.task.correct(logits.detach(), targets).sum()

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
            "lr": self.optimizer.param_groups[0]["lr"],
            **measured,
            **{f"val/{name}": value for name, value in validation.items()},
        }
        self.scheduler.step()
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
                # Copies: the live weights go on changing under any alias.
                weights = self.model.state_dict()
                state.best = {name: value.clone() for name, value in weights.items()}
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
        if self.state.best:
            self.model.load_state_dict(self.state.best)

    def state_dict(self) -> dict[str, Any]:
        """The fit between two epochs or batches, as tensors and plain containers.

        Of several processes all must ask for it: each has a part of an epoch in progress.
        """
        progress = Progress(self.progress.losses, self.progress.correct)
        if progress.losses:
            progress.noise = generator_states(self.device)
        return {
            **vars(self.state),
            "within": current().all_gather(progress.state_dict()),
            "model": self.model.state_dict(),
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
        self.state = FitState(**saved)
        # The schedule would warn where the steps of the epoch were those of an earlier process.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]

    def _resident_inputs(self) -> Inputs | None:
        """All inputs prepared once, (M, ...), where they fit; otherwise each batch as it comes."""
        first = self.samples.take(torch.zeros(1, dtype=torch.int64, device=self.device))
        if num_bytes(first) * self.count > RESIDENT_LIMIT:
            return None
        return self.samples.take(torch.arange(self.count, device=self.device))


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state with its Counters as dicts, which load without pickle."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
