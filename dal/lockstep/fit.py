"""Fits of several networks, step by step together: an epoch of all is one epoch of their stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dal.lockstep.optimizer_states import copied, share_state, stack_states, trained
from dal.lockstep.stack import CannotStackError, FailsAloneError, Stack
from dal.task import Task
from dal.training.augment import Augment
from dal.training.context import Progress
from dal.training.cuda_graph import step_graphs
from dal.training.epochs import Epochs, Metrics
from dal.training.fit import Fit
from dal.training.optim import set_rates
from dal.utils.inputs import Inputs, cat_inputs, map_tensors, one_tensor, stack_inputs
from dal.utils.memory import out_of_memory
from dal.utils.signals import PreemptedError

Attempt = Callable[[int, Callable[[], Any]], bool]
"""Calls a function on behalf of the fit of a number; gives whether it succeeded."""

Evaluate = Callable[["StackedFit"], Sequence[Metrics]]
"""Gives the validation metrics of the fits of a stack, place by place."""


def ends_stacking(error: Exception) -> bool:
    """Whether networks go on one by one after an error of their stack; any other is a defect."""
    return isinstance(error, CannotStackError | FailsAloneError) or out_of_memory(error)


def advance(
    fits: Sequence[Fit],
    attempt: Attempt,
    evaluate: Evaluate | None = None,
    parted: Callable[[Exception], None] = lambda error: None,
) -> bool:
    """Fit together, to the ends of all; what ends one of them leaves the others as they are.

    Where the stack cannot go on, each fit does by itself, from the last step that was done: what
    comes out is what would have come out alone, but for the rounding of the steps done together.

    Args:
        fits: R fits that have not ended, of one architecture, trainer, number of samples, epoch
            and number of steps within it.
        attempt: See `Attempt`; an error that it is given to raise is that fit's end.
        evaluate: See `Evaluate`; None without a validation split.
        parted: Called with the reason before fits go on one by one; see `ends_stacking`.

    Returns:
        Whether they stayed together to the end.

    Raises:
        CannotStackError: The networks cannot be stacked at all; the fits are as they were.
        RuntimeError: Out of memory; the fits are as they were.
    """
    stacked = StackedFit(fits, attempt, evaluate)
    try:
        while any(stacked.alive):
            stacked.run_epoch()
        return True
    except PreemptedError:
        stacked.save()
        return True
    except Exception as error:
        if not ends_stacking(error):
            stacked.fail(error)
            return True
        reason = error.with_traceback(None)  # whose frames would keep what memory ran out for
    parted(reason)
    stacked.part()
    return False


class StackedFit(Epochs):
    """Fits that advance together, each by its own order of samples, noise, metrics and verdict.

    While they do, the tensors of their networks are views of the stacked ones, so that whatever
    looks at one of them sees it as if it were fitted alone. A fit that is over leaves; its place
    is computed on, until half of the places are empty: to stack anew costs copies of everything,
    and steps recorded anew.

    Args:
        fits: R fits of one architecture, trainer, number of samples and epoch.
        attempt: See `Attempt`.
        evaluate: See `Evaluate`.

    Attributes:
        fits: Those that have a place.
        numbers: For each place the number of its fit among those given.
        alive: Whether the fit at a place goes on.
        stack: Their networks.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        attempt: Attempt = lambda number, function: function() is None,
        evaluate: Evaluate | None = None,
    ) -> None:
        first = fits[0]
        super().__init__(first.trainer, first.model, first.count, first.device)
        self.task, self.step_task = first.task, first.step_task
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self.numbers = list(range(len(fits)))
        self._attempt, self._evaluate = attempt, evaluate
        self._gather(list(fits), Stack([fit.model for fit in fits]))
        self.progress = _stacked([fit.progress for fit in fits])

    def begin(self) -> Tensor:
        """See `Epochs.begin`."""
        for place in self._places():
            self.fits[place].model.train()
        self.stack.train()
        return torch.stack([fit.order() for fit in self.fits]).to(self.device)

    @contextmanager
    def noise(self) -> Iterator[None]:
        """See `Epochs.noise`: a stream for each fit, from its seed or where it was saved."""
        if self.stack.noise.wanted:
            states = [fit.progress.noise for fit in self.fits]
            self.stack.noise.seed([fit.noise_seed() for fit in self.fits], states)
        self.stack.remember()
        yield

    def draw(self, augment: Augment, count: int, step: int) -> Tensor:
        """See `Epochs.draw`: (R, count, ...)."""
        return torch.stack([fit.draw(augment, count, step) for fit in self.fits])

    def rates(self) -> AbstractContextManager[None]:
        """See `Epochs.rates`: schedules step the optimizers of the fits that go on, all alike."""
        rates = [self.fits[place].next_rates() for place in self._places()]
        set_rates(self.optimizer.param_groups, rates[0])
        return nullcontext()

    def clip(self, limit: float) -> None:
        """See `Epochs.clip`: each network by its own norm."""
        gradients = [p.grad for p in self._trained if p.grad is not None]
        norms = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
        norm_R = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factor_R = (limit / (norm_R + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(factor_R.view(-1, *[1] * (gradient.ndim - 1)))

    @contextmanager
    def judged(self) -> Iterator[None]:
        """See `Epochs.judged`: each fit's own."""
        with ExitStack() as stack:
            for place in self._places():
                stack.enter_context(self.fits[place].judged())
            yield

    def look(self) -> None:
        """See `Epochs.look`; one check is enough, as signals come to the whole process."""
        self.fits[0].context.check()

    def count_step(self) -> None:
        """See `Epochs.count_step`."""
        for place in self._places():
            self.fits[place].count_step()
        self.stack.remember()

    def begin_measuring(self) -> Tensor:
        """See `Epochs.begin_measuring`."""
        self.stack.train(False)
        return torch.arange(self.count, device=self.device).expand(len(self.fits), -1)

    def logits(self, batch: Tensor, part: slice | None = None) -> Tensor:
        """See `Epochs.logits`."""
        inputs = self._inputs(batch)
        if self.trainer.augment and self.drawn is not None and part is not None:
            images, drawn = one_tensor(inputs, "augmentation"), self.drawn[:, part]
            scale = self.fits[0].samples.scale
            changed = self.trainer.augment(images.flatten(0, 1), drawn.flatten(0, 1), *scale)
            inputs = changed.view_as(images)
        return self.stack(inputs).logits.float()

    def _inputs(self, batch_RB: Tensor) -> Inputs:
        if self._resident is None:
            pairs = zip(self.fits, batch_RB, strict=True)
            return stack_inputs([fit.inputs(batch) for fit, batch in pairs])
        where = batch_RB + self._offsets
        return map_tensors(lambda tensor: tensor[where], self._resident)

    def verdict(
        self, logits: Tensor, batch: Tensor, task: Task, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Epochs.verdict`: two of (R,)."""
        where = (batch + self._offsets).flatten()
        targets, rows = self._targets[where], logits.flatten(0, 1)
        losses_RB = task.losses(rows, targets).view(batch.shape)
        correct_R = task.correct(rows.detach(), targets).view(batch.shape).sum(1)
        if self._weights is None:
            mean = losses_RB.mean(1) if whole is None else losses_RB.sum(1) / whole.shape[1]
            return mean, correct_R
        weights_RB = self._weights[where].view(batch.shape)
        of_whole = weights_RB if whole is None else self._weights[whole + self._offsets]
        return (losses_RB * weights_RB).sum(1) / of_whole.sum(1), correct_R

    def shares(self, total: Tensor, count: int) -> list[float]:
        """See `Epochs.shares`: divided in float32, for all fits at once."""
        shares: list[float] = (total / count).tolist()
        return shares

    def validate(self) -> Sequence[Metrics]:
        """See `Epochs.validate`."""
        return self._evaluate(self) if self._evaluate else [{} for _ in self.fits]

    def conclude(
        self,
        trained: Sequence[Metrics],
        measured: Sequence[Metrics],
        validation: Sequence[Metrics],
    ) -> None:
        """See `Epochs.conclude`: each fit judges its own epoch, and those that are over leave."""
        self.progress = Progress()
        for place, found in enumerate(zip(trained, measured, validation, strict=True)):
            if self.alive[place]:
                ended = not self._do(place, partial(self._end_epoch, place, *found))
                if ended or self.fits[place].state.stopped:
                    self._leave(place)
                    self.fits[place].finish()
        self._compact()

    def _end_epoch(
        self, place: int, trained: Metrics, measured: Metrics, validation: Metrics
    ) -> None:
        fit = self.fits[place]
        fit.end_epoch(trained, measured, validation, partial(self.state_dict, place))

    def save(self) -> None:
        """Save each fit between two batches, after a signal."""
        for place in self._places():
            signaled = self.fits[place].context.on_signal
            self._do(place, partial(signaled, partial(self.state_dict, place)))
            self._leave(place)

    def fail(self, error: Exception) -> None:
        """Let each fit that goes on end with an error that is none of a single one."""
        for place in self._places():
            self._leave(place)
            self._do(place, partial(_raise, error))

    def part(self) -> None:
        """Undo the step that failed, and fit the rest of each by itself."""
        self.optimizer.zero_grad(set_to_none=True)
        self.stack.restore()
        places = self._places()
        for place in places:
            share_state(self.optimizer, place, self.fits[place].optimizer)
            self.fits[place].progress = self._progress_of(place)
            self._leave(place)
        del self.stack, self.optimizer, self.graphs, self._trained, self._resident
        for place in places:
            self._do(place, self.fits[place].run)

    def _places(self) -> list[int]:
        """Of the fits that go on."""
        return [place for place, alive in enumerate(self.alive) if alive]

    def _do(self, place: int, function: Callable[[], Any]) -> bool:
        return self._attempt(self.numbers[place], function)

    def state_dict(self, place: int) -> dict[str, Any]:
        """The saved form of a fit, as if it were alone; see `Fit.state_dict`."""
        share_state(self.optimizer, place, self.fits[place].optimizer)
        saved: dict[str, Any] = copied(self.fits[place].state_dict())
        return saved | {"within": [self._progress_of(place).state_dict()]}

    def _progress_of(self, place: int) -> Progress:
        """What the epoch has come to for one fit; nothing before the first step of one."""
        losses, correct = (
            [value[place] for value in values]
            for values in (self.progress.losses, self.progress.correct)
        )
        return Progress(losses, correct, self.stack.noise.states(place) if losses else {})

    def _leave(self, place: int) -> None:
        """Give a fit's network tensors of its own again, and go on without it."""
        if self.alive[place]:
            self.alive[place] = False
            for tensor, own in self._own[place]:
                own.copy_(tensor.detach())
                tensor.data = own

    def _compact(self) -> None:
        """Stack those that go on anew once they are half of all, or fewer."""
        kept = self._places()
        if not kept or 2 * len(kept) > len(self.fits):
            return
        fits = [self.fits[place] for place in kept]
        stack = Stack([fit.model for fit in fits])  # memory may run out: before anything changes
        for place in kept:
            share_state(self.optimizer, place, self.fits[place].optimizer)
            self._leave(place)
        self.numbers = [self.numbers[place] for place in kept]
        self._gather(fits, stack)

    def _gather(self, fits: list[Fit], stack: Stack) -> None:
        """Make the networks' tensors views of the stacked ones; stack all else that a step reads.

        The stack has copied the values. A tensor that a network came with is kept: what others hold
        of it, the optimizer of its fit among them, is the `Parameter`, whose data moves there and
        back.
        """
        # What allocates comes before what changes a network, so that memory may run out in between.
        self.fits, self.alive, self.stack = fits, [True] * len(fits), stack
        self._own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in fits]
        self.optimizer = fits[0].make_optimizer(stack.parameters)
        self._trained = trained(self.optimizer)
        stack_states(self.optimizer, [fit.optimizer for fit in fits])
        self._flatten()
        tensors = stack.tensors
        for number, fit in enumerate(fits):
            mine = dict(fit.model.named_parameters()) | dict(fit.model.named_buffers())
            for name, tensor in mine.items():
                self._own[number].append((tensor, tensor.data))
                tensor.data = tensors[name][number]
        self.graphs = None
        # A recorded step draws from the device's one generator; fits draw from a stream each, which
        # is set before and read after, by the CPU.
        if not stack.noise.wanted and all(fit.recordable for fit in fits):
            self.graphs = step_graphs(self.optimizer, fits[0].model, self.device)

    def _flatten(self) -> None:
        """Inputs, targets and weights of all fits behind each other: (R M, ...).

        One indexing operation then gives the batches of all: position p of fit r is row r M + p.
        """
        fits = self.fits
        resident = [fit.resident for fit in fits if fit.resident is not None]
        self._resident = cat_inputs(resident) if len(resident) == len(fits) else None
        self._targets = torch.cat([fit.samples.targets for fit in fits])
        weights = [fit.samples.weights for fit in fits if fit.samples.weights is not None]
        self._weights = torch.cat(weights) if weights else None
        self._offsets = torch.arange(len(fits), device=self.device).unsqueeze(1) * self.count


def _raise(error: Exception) -> None:
    raise error


def _stacked(progress: Sequence[Progress]) -> Progress:
    """What R fits have come to in an epoch of which all have done equally many steps."""
    losses = zip(*(each.losses for each in progress), strict=True)
    correct = zip(*(each.correct for each in progress), strict=True)
    return Progress([torch.stack(each) for each in losses], [torch.stack(each) for each in correct])
