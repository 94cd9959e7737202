"""Fits a network on labeled samples: epochs, early stopping, schedule, best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from dal.models.base import forward
from dal.task import Task
from dal.training.cuda_graph import StepGraphs, step_graphs
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import FitContext, FitState, Progress, Samples, split_batches
from dal.training.optim import MakeOptimizer, MakeScheduler, constant, sgd
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole
from dal.utils.ranks import current
from dal.utils.seeding import derive, generator, generator_states, seeded
from dal.utils.signals import PreemptedError

__all__ = ["EarlyStopping", "FitContext", "FitState", "Samples", "Trainer", "split_batches"]


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EVALUATED_AT_ONCE = 512
RESIDENT_LIMIT = 2**28
"""Bytes of prepared training inputs kept on the device during a fit; above it, one batch."""


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
        """Train a model in place and leave it with its best weights.

        Deterministic on a CPU for equal seed, round, samples, starting weights and threads; the
        global random state is left as it was.

        Args:
            model: Any network of `dal.models.base`, on the device of the samples.
            samples: The labeled samples, M >= 1.
            task: Gives loss and metrics.
            context: Seeds, validation, callback, and the state to resume from.

        Returns:
            The final state.

        Raises:
            ValueError: There are no samples, or the monitored metric is not logged.
            FloatingPointError: The loss became infinite or NaN, or the monitored metric was NaN in
            every epoch.
        """
        fit = self.begin(model, samples, task, context)
        with tqdm(
            desc=f"round {context.round}: fit",
            total=self.epochs,
            initial=fit.state.epoch,
            unit="epoch",
            leave=False,
            disable=None,
        ) as bar:
            while not fit.state.stopped:
                fit.run_epoch()
                bar.update()
                context.on_epoch(fit.state, fit.state_dict)
        fit.finish()
        return fit.state

    def forgets_start(self, model: nn.Module) -> bool:
        """Whether a fit ends at the same weights whatever those are that it starts from."""
        return False

    def begin(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> Fit:
        """A fit that has not begun, or stands where the context resumes it; see `fit`."""
        if len(samples) == 0:
            raise ValueError("there are no labeled samples to train on; raise initial.count")
        if current().world_size > 1:
            from dal.training.parallel import ParallelFit  # which builds on this file

            return ParallelFit(self, model, samples, task, context)
        return Fit(self, model, samples, task, context)


class Fit:
    """One fit in progress: the live optimizer, schedule and scaler around a `FitState`."""

    def __init__(
        self,
        trainer: Trainer,
        model: nn.Module,
        samples: Samples,
        task: Task,
        context: FitContext,
    ) -> None:
        self.trainer, self.model, self.samples = trainer, model, samples
        self.task, self.context = task, context
        self.device = samples.targets.device
        self.resident = self._resident_inputs()
        self.inputs = samples.take if self.resident is None else self.resident.__getitem__
        self.state, self.progress = FitState(), Progress()
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = trainer.optimizer(parameters)
        self.scheduler = trainer.scheduler(self.optimizer)
        scaling = trainer.dtype == torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaling)
        if context.resume is not None:
            self.load_state_dict(context.resume)
        self._graphs: StepGraphs | None = None
        if not scaling and current().world_size == 1:  # scaling waits for the device at every step
            self._graphs = step_graphs(self.optimizer, model, self.device)

    def run_epoch(self) -> None:
        """One pass over the samples, or the rest of it, its metrics, and the verdict on them."""
        self.model.train()
        epoch = self.state.epoch
        order = self.order(generator(self.context.seed, self.context.round, "order", epoch))
        with seeded(self.noise(epoch), self.device, self.progress.noise):
            metrics = self._train(order)
        measured = self._measure() if self.measures else {}
        try:
            validation = self.context.evaluate() if self.context.evaluate is not None else {}
        except PreemptedError:
            self.context.on_signal(self.state_dict)
            raise
        self.progress = Progress()
        # Of several processes all must come to the same verdict.
        self.conclude(*current().broadcast(lambda: (metrics, measured, validation)))

    def noise(self, epoch: int) -> int:
        """Seed of what layers draw in an epoch."""
        return derive(self.context.seed, self.context.round, "noise", epoch)

    @property
    def measures(self) -> bool:
        """Whether the verdict on an epoch needs the metrics of the weights after it."""
        rule = self.trainer.early_stopping
        return rule is not None and rule.monitor.startswith("train/")

    def conclude(
        self,
        metrics: dict[str, float],
        measured: Mapping[str, float],
        validation: Mapping[str, float],
    ) -> None:
        """End an epoch: the schedule's step, the metrics in the record, the verdict on them."""
        metrics["lr"] = self.optimizer.param_groups[0]["lr"]
        self.scheduler.step()
        metrics |= measured
        metrics |= {f"val/{name}": value for name, value in validation.items()}
        self.state.history.append(metrics)
        self.state.epoch += 1
        self._judge(metrics)

    def order(self, rng: torch.Generator) -> Tensor:
        """All samples in random order; again, until there are as many as an epoch must see."""
        count = len(self.samples)
        wanted = max(self.trainer.samples_per_epoch or 0, count)
        turns = [torch.randperm(count, generator=rng) for _ in range(-(-wanted // count))]
        return torch.cat(turns)[:wanted]

    def _train(self, order: Tensor) -> dict[str, float]:
        """Step through the batches; means over them, with the weights as they changed."""
        batches = self.whole(split_batches(order.to(self.device), self.trainer.batch_size))
        for batch in batches[len(self.progress.losses) :]:
            self._look()
            loss, right = self.step(batch)
            self.progress.add(loss * len(batch), right)
            self.state.steps += 1
        count = sum(len(batch) for batch in batches)
        loss_sum, correct = self.sums()
        return {"train/loss": self.finite(loss_sum / count), "train/accuracy": correct / count}

    def sums(self) -> tuple[float, float]:
        """Loss and number of right predictions, over all samples of the epoch."""
        progress = self.progress
        return float(torch.stack(progress.losses).sum()), float(torch.stack(progress.correct).sum())

    def _look(self) -> None:
        """Between two batches: save and end, where a signal has come."""
        if self.context.pending():
            self.context.on_signal(self.state_dict)

    def _measure(self) -> dict[str, float]:
        """Loss and accuracy over all samples of the weights as they are now.

        The means of `_train` belong to the weights before each step: kept as the best, the ones
        after it can be far worse.
        """
        self.model.eval()
        targets = self.samples.targets
        everything = torch.arange(len(targets), device=self.device)
        with torch.no_grad(), self._autocast():
            parts = []
            for batch in torch.split(everything, max(self.trainer.batch_size, EVALUATED_AT_ONCE)):
                self._look()
                parts.append(forward(self.model, self.inputs(batch)).logits)
            logits = torch.cat(parts).float()
        loss = self.finite(float(self.task.loss(logits, targets, self.samples.weights)))
        return {
            "train/loss": loss,
            "train/accuracy": float(self.task.correct(logits, targets).sum()) / len(targets),
        }

    def _autocast(self) -> torch.autocast:
        dtype = self.trainer.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def finite(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise FloatingPointError(
            f"the training loss became {loss} in round {self.context.round}, epoch "
            f"{self.state.epoch}; lower trainer.optimizer.lr, or check the inputs for extreme "
            "values"
        )

    def step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """A step of the optimizer; gives the mean loss and the number of right predictions."""
        return self._graphs(self._step, batch) if self._graphs else self._step(batch)

    def _step(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        targets, weights = self.samples.targets[batch], self.samples.weights
        with self._autocast():
            logits = forward(self.model, self.inputs(batch)).logits
        logits = logits.float()
        loss = self.task.loss(logits, targets, None if weights is None else weights[batch])
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), self.task.correct(logits.detach(), targets).sum()

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

    def _resident_inputs(self) -> Tensor | None:
        """All inputs prepared once, (M, ...), where they fit; otherwise each batch as it comes."""
        first = self.samples.take(torch.zeros(1, dtype=torch.int64, device=self.device))
        if first.numel() * first.element_size() * len(self.samples) > RESIDENT_LIMIT:
            return None
        return self.samples.take(torch.arange(len(self.samples), device=self.device))

    def whole(self, batches: list[Tensor]) -> list[Tensor]:
        """Single samples are taken twice where BatchNorm could not normalize them alone."""
        if any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            return [batch.repeat(2) if len(batch) == 1 else batch for batch in batches]
        return batches


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state with its Counters as dicts, which load without pickle."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
