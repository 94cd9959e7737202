"""Fits of several networks, step by step together: an epoch of all is one epoch of their stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dal.lockstep.stack import Stack
from dal.training.cuda_graph import StepGraphs, step_graphs
from dal.training.fit import FitState, Progress, split_batches
from dal.training.trainer import EVALUATED_AT_ONCE, Fit
from dal.utils.seeding import derive, generator
from dal.utils.signals import PreemptedError

State = dict[str, Any]


class StackedFit:
    """Fits that advance together, each by its own order of samples, noise, metrics and verdict.

    While they do, the tensors of their networks and the state of their optimizers are views of the
    stacked ones, so that whatever looks at one of them sees it as if it were fitted alone. A fit
    that is over leaves; its place is computed on, until half of the places are empty.

    Args:
        fits: R fits of one architecture, trainer, number of samples and epoch.
    """

    def __init__(self, fits: Sequence[Fit]) -> None:
        self.progress = Progress()
        self._gather(list(fits))

    def train(self) -> list[dict[str, float]]:
        """The steps of one epoch; gives the mean loss and accuracy of each, as they may be.

        Infinite and NaN losses are for `Fit.finite` to find.

        Raises:
            PreemptedError: A signal came between two steps.
        """
        first = self.fits[0]
        for fit, alive in zip(self.fits, self.alive, strict=True):
            if alive and not fit.model.training:
                fit.model.train()
        self.stack.train()
        order = torch.stack([_order(fit) for fit in self.fits]).to(first.device)
        if self.stack.noise.wanted:
            states = [fit.progress.noise for fit in self.fits]
            self.stack.noise.seed([_noise(fit) for fit in self.fits], states)
        for own, stacked in zip(
            first.optimizer.param_groups, self.optimizer.param_groups, strict=True
        ):
            stacked["lr"] = own["lr"]
        columns = split_batches(torch.arange(order.shape[1]), first.trainer.batch_size)
        columns = first.whole(columns)
        self.progress = _stacked([fit.progress for fit in self.fits])
        done = len(self.progress.losses)
        try:
            for column in columns[done:]:
                first.context.check()
                loss_R, correct_R = self.step(order[:, column])
                self.progress.add(loss_R * len(column), correct_R)
        finally:
            for fit, alive in zip(self.fits, self.alive, strict=True):
                fit.state.steps += (len(self.progress.losses) - done) if alive else 0
                fit.progress = Progress()
        count = sum(len(column) for column in columns)
        sums = (
            torch.stack(values).sum(0) for values in (self.progress.losses, self.progress.correct)
        )
        return _metrics(*(sum_R / count for sum_R in sums))

    def measure(self) -> list[dict[str, float]]:
        """Loss and accuracy of each over all its samples, with the weights as they are now."""
        self.stack.train(False)
        first = self.fits[0]
        size = max(first.trainer.batch_size, EVALUATED_AT_ONCE)
        everything = torch.arange(len(first.samples), device=first.device)
        everything = everything.expand(len(self.fits), -1)
        with torch.no_grad():
            parts = []
            for batch_RB in torch.split(everything, size, dim=1):
                first.context.check()
                parts.append(self.stack(self._inputs(batch_RB)).logits)
            logits = torch.cat(parts, 1)
            loss_R, correct_R = self._verdict(logits.float(), everything)
        return _metrics(loss_R, correct_R / everything.shape[1])

    def leave(self, number: int) -> None:
        """Give a fit its tensors back, and go on without it."""
        self.alive[number] = False
        for tensor, own in self._own[number]:
            own.copy_(tensor.detach())
            tensor.data = own

    def abandon(self, number: int) -> None:
        """Give a fit the tensors that it came with, as if it had never been here."""
        for tensor, own in self._own[number]:
            tensor.data = own

    def compact(self) -> list[int]:
        """Drop empty places once they are half of all; gives the places that remain, in order."""
        kept = [number for number, alive in enumerate(self.alive) if alive]
        if kept and 2 * len(kept) <= len(self.fits):
            for number in kept:
                self._share_optimizer_state(number)
                self.leave(number)
            self._gather([self.fits[number] for number in kept])
            return kept
        return list(range(len(self.fits)))

    def _gather(self, fits: list[Fit]) -> None:
        self.fits, self.alive = fits, [True] * len(fits)
        self.stack = Stack([fit.model for fit in fits])
        tensors = self.stack.tensors
        self._own: list[list[tuple[Tensor, Tensor]]] = []
        for number, fit in enumerate(fits):
            mine = dict(fit.model.named_parameters()) | dict(fit.model.named_buffers())
            self._own.append([(tensor, tensor.data) for tensor in mine.values()])
            for name, tensor in mine.items():
                tensor.data = tensors[name][number]
        stacked = self.stack.parameters.values()
        self._trained = [p for p in stacked if p.requires_grad]
        self.optimizer = fits[0].trainer.optimizer(self._trained)
        self._optimizer_states()
        self._flatten()
        self._graphs: StepGraphs | None = None
        if not self.stack.noise.wanted:  # which is drawn from one stream after another
            self._graphs = step_graphs(self.optimizer, fits[0].model, fits[0].device)

    def _optimizer_states(self) -> None:
        """Stack the states of fits that have done steps."""
        mine = [_trained(fit) for fit in self.fits]
        for number, parameter in enumerate(self._trained):
            of_fits = zip(self.fits, mine, strict=True)
            found = [fit.optimizer.state.get(params[number]) for fit, params in of_fits]
            states = [state for state in found if state]
            if states:
                self.optimizer.state[parameter] = {
                    key: torch.stack([state[key] for state in states])
                    if _elementwise(key, value, parameter[0])
                    else _cloned(value)
                    for key, value in states[0].items()
                }

    def _share_optimizer_state(self, number: int) -> None:
        """Show a fit's optimizer its part of the stacked state."""
        fit = self.fits[number]
        for own, stacked in zip(_trained(fit), self._trained, strict=True):
            if state := self.optimizer.state.get(stacked):
                fit.optimizer.state[own] = {
                    key: value[number].clone()
                    if _elementwise(key, value, stacked)
                    else _cloned(value)
                    for key, value in state.items()
                }

    def state_dict(self, number: int) -> State:
        """The saved form of a fit, as if it were alone; see `Fit.state_dict`."""
        self._share_optimizer_state(number)
        progress = self.progress
        losses, correct = (
            [value[number] for value in values] for values in (progress.losses, progress.correct)
        )
        within = Progress(losses, correct, self.stack.noise.states(number))
        saved: State = _copied(self.fits[number].state_dict())
        return saved | {"within": [within.state_dict()]}

    def _flatten(self) -> None:
        """Inputs, targets and weights of all fits behind each other."""
        fits = self.fits
        resident = [fit.resident for fit in fits if fit.resident is not None]
        self._resident = torch.cat(resident) if len(resident) == len(fits) else None
        self._targets = torch.cat([fit.samples.targets for fit in fits])
        weights = [fit.samples.weights for fit in fits if fit.samples.weights is not None]
        self._weights = torch.cat(weights) if weights else None
        count = len(fits[0].samples)
        self._offsets = torch.arange(len(fits), device=fits[0].device).unsqueeze(1) * count

    def _inputs(self, batch_RB: Tensor) -> Tensor:
        if self._resident is None:
            pairs = zip(self.fits, batch_RB, strict=True)
            return torch.stack([fit.inputs(batch) for fit, batch in pairs])
        return self._resident[batch_RB + self._offsets]

    def _verdict(self, logits_RBC: Tensor, batch_RB: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and number of right predictions of each: two of (R,)."""
        task, where = self.fits[0].task, (batch_RB + self._offsets).flatten()
        targets, logits = self._targets[where], logits_RBC.flatten(0, 1)
        losses_RB = task.losses(logits, targets).view(batch_RB.shape)
        correct_R = task.correct(logits.detach(), targets).view(batch_RB.shape).sum(1)
        if self._weights is None:
            return losses_RB.mean(1), correct_R
        weights_RB = self._weights[where].view(batch_RB.shape)
        return (losses_RB * weights_RB).sum(1) / weights_RB.sum(1), correct_R

    def step(self, batch_RB: Tensor) -> tuple[Tensor, Tensor]:
        """A step of the optimizer; gives each one's mean loss and number of right predictions."""
        return self._graphs(self._step, batch_RB) if self._graphs else self._step(batch_RB)

    def _step(self, batch_RB: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.stack(self._inputs(batch_RB)).logits.float()
        loss_R, correct_R = self._verdict(logits, batch_RB)
        self.optimizer.zero_grad(set_to_none=True)
        loss_R.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss_R.detach(), correct_R


def advance(
    fits: Sequence[Fit],
    attempt: Callable[[int, Callable[[], None]], bool],
    evaluate: Callable[[StackedFit, Sequence[int]], Sequence[dict[str, float]]] | None,
) -> Callable[[], None]:
    """Begin fitting together.

    Args:
        fits: R fits that have not ended.
        attempt: Calls a function on behalf of one of them; gives whether it succeeded.
        evaluate: Validation metrics of the fits at some places, if there is a validation split.

    Returns:
        What fits them to their ends. The first epoch's steps have been done by then: what the
        stack cannot do has shown, and nobody has been told of any of it.
    """
    stacked, numbers = StackedFit(fits), list(range(len(fits)))

    def saved_and_ended() -> None:
        for place, number in enumerate(numbers):
            if stacked.alive[place]:
                attempt(number, _Signal(stacked, place))
                stacked.leave(place)

    try:
        metrics = stacked.train()
    except PreemptedError:
        return saved_and_ended
    except Exception:
        for number in range(len(fits)):
            stacked.abandon(number)
        raise

    def epochs() -> None:
        nonlocal metrics, numbers
        while True:
            measured = stacked.measure() if fits[0].measures else [{} for _ in stacked.fits]
            validation = evaluate(stacked, numbers) if evaluate else [{} for _ in stacked.fits]
            stacked.progress = Progress()
            for place, number in enumerate(numbers):
                if stacked.alive[place]:
                    end = _Epoch(stacked, place, metrics[place], measured[place], validation[place])
                    if not attempt(number, end) or stacked.fits[place].state.stopped:
                        stacked.leave(place)
                        stacked.fits[place].finish()
            if not any(stacked.alive):
                return
            kept = stacked.compact()
            numbers = [numbers[place] for place in kept]
            metrics = stacked.train()

    def go_on() -> None:
        try:
            epochs()
        except PreemptedError:
            saved_and_ended()

    return go_on


class _Epoch:
    """The end of an epoch of one fit: verdict and callback."""

    def __init__(
        self,
        stacked: StackedFit,
        place: int,
        metrics: dict[str, float],
        measured: dict[str, float],
        validation: dict[str, float],
    ) -> None:
        self.stacked, self.place = stacked, place
        self.values = metrics, measured, validation

    def __call__(self) -> None:
        fit = self.stacked.fits[self.place]
        metrics, measured, validation = self.values
        fit.finite(metrics["train/loss"])
        if measured:
            fit.finite(measured["train/loss"])
        # The schedule would warn that no step came before its own: the stack's optimizer did it.
        fit.optimizer._opt_called = True  # type: ignore[attr-defined]
        fit.conclude(metrics, measured, validation)
        state: FitState = fit.state
        fit.context.on_epoch(state, lambda: self.stacked.state_dict(self.place))


class _Signal:
    """The end of a fit between two batches, after a signal: saved, to go on from there."""

    def __init__(self, stacked: StackedFit, place: int) -> None:
        self.stacked, self.place = stacked, place

    def __call__(self) -> None:
        context = self.stacked.fits[self.place].context
        context.on_signal(lambda: self.stacked.state_dict(self.place))


def _stacked(progress: Sequence[Progress]) -> Progress:
    """What R fits have come to in an epoch of which all have done equally many steps."""
    losses = zip(*(each.losses for each in progress), strict=True)
    correct = zip(*(each.correct for each in progress), strict=True)
    return Progress([torch.stack(each) for each in losses], [torch.stack(each) for each in correct])


def _order(fit: Fit) -> Tensor:
    return fit.order(generator(fit.context.seed, fit.context.round, "order", fit.state.epoch))


def _noise(fit: Fit) -> int:
    return derive(fit.context.seed, fit.context.round, "noise", fit.state.epoch)


def _metrics(loss_R: Tensor, accuracy_R: Tensor) -> list[dict[str, float]]:
    pairs = zip(loss_R.tolist(), accuracy_R.tolist(), strict=True)
    return [{"train/loss": loss, "train/accuracy": accuracy} for loss, accuracy in pairs]


def _trained(fit: Fit) -> list[nn.Parameter]:
    """The parameters that a fit's optimizer changes."""
    return [p for group in fit.optimizer.param_groups for p in group["params"]]


def _elementwise(key: str, value: Any, parameter: Tensor) -> bool:
    """Whether a part of an optimizer's state belongs to the elements of a parameter."""
    return isinstance(value, Tensor) and value.shape == parameter.shape and key != "step"


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _copied(value: Any) -> Any:
    """Nested containers with copies of their tensors, which would save all they are views of."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return _cloned(value)
