"""Training steps recorded as CUDA graphs: one launch for all the kernels of a step.

A step of a small network is many kernels of a few microseconds, each of which takes Python longer
to launch than the device to run. A CUDA graph launches them all at once: the same kernels, on the
same numbers.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dal.models.base import is_graphable

log = logging.getLogger(__name__)

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A training step on the samples at some positions; gives tensors on the device."""


def step_graphs(optimizer: Optimizer, model: nn.Module, device: torch.device) -> StepGraphs | None:
    """What records training steps: on CUDA, of a ``graphable`` network; elsewhere None.

    A recorded step repeats what the network did when it was recorded, so only the network's author
    can know that it always does the same; see `dal.models.base.is_graphable`.
    """
    if device.type != "cuda" or not is_graphable(model):
        return None
    return StepGraphs(optimizer, device)


@dataclass(frozen=True)
class _Recorded:
    """A recorded step: its graph, where it reads the positions, and where it leaves its results."""

    graph: torch.cuda.CUDAGraph
    batch: Tensor
    results: tuple[Tensor, Tensor]


class StepGraphs:
    """Records a training step at the second batch of each size, and replays it from then on.

    The first batch of a size is an ordinary step: libraries choose their kernels, and the optimizer
    makes its state. The learning rate may change between steps; when another setting of the
    optimizer changes, steps are recorded anew. A step that cannot be recorded goes on unrecorded,
    with one warning.

    It does not hold the step: graphs must end with the fit that they belong to, not when Python
    comes to collect a cycle, which may be while another step is recorded.

    Args:
        optimizer: Its state must stay where it is as long as this object is used: a graph knows
            addresses, not tensors.
        device: A CUDA device.

    Attributes:
        recorded: How many steps have been recorded, one for each size of a batch, and again where a
            setting of the optimizer changed.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._optimizer, self._device = optimizer, device
        self._met: set[torch.Size] = set()
        self.recorded = 0
        self._recorded: dict[torch.Size, _Recorded] = {}
        self._refused = False
        self._settings = _settings(optimizer)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._rates_there = [torch.tensor(rate, device=device) for rate in self._rates]

    def __call__(self, step: Step, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Do a step; gives what it gives.

        Args:
            step: Does a step of the optimizer, gradients set to None before it, without waiting for
                the device; the same at every call.
            batch: Positions of samples, on the device.
        """
        self._follow()
        if self._refused or batch.shape not in self._met:
            self._met.add(batch.shape)
            return step(batch)
        if batch.shape not in self._recorded:
            recorded = self._record(step, batch)
            if recorded is None:
                return step(batch)
            self._recorded[batch.shape] = recorded
            self.recorded += 1
        recorded = self._recorded[batch.shape]
        # The graph reads the positions where they were when it was recorded, and writes its results
        # where they were: positions are copied there, results copied away, before the next replay
        # writes over them.
        recorded.batch.copy_(batch)
        recorded.graph.replay()
        first, second = recorded.results
        return first.clone(), second.clone()

    def _follow(self) -> None:
        """Take over what has changed in the optimizer's settings.

        A setting that is a Python number is part of what was recorded, so that another number takes
        another recording. The rate, which schedules change every few epochs, was a tensor while the
        step was recorded (see `_capturable`): the graph reads it anew at each replay.
        """
        settings = _settings(self._optimizer)
        if settings != self._settings:
            self._settings = settings
            self._recorded.clear()
        for number, group in enumerate(self._optimizer.param_groups):
            if group["lr"] != self._rates[number]:
                self._rates[number] = float(group["lr"])
                self._rates_there[number].fill_(self._rates[number])

    def _record(self, step: Step, batch: Tensor) -> _Recorded | None:
        """Record a step without doing it; None where it cannot be.

        On a stream of its own, since torch records none on the default stream. It begins after what
        the current stream has been given to do, and what follows there waits for it.
        """
        graph, own = torch.cuda.CUDAGraph(), batch.clone()  # the positions that the graph reads
        now = torch.cuda.current_stream(self._device)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(now)
        try:
            with torch.cuda.stream(side), _uncollected(), self._capturable():
                # Other threads may use the device meanwhile: only this one is recorded.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    results = step(own)
                finally:
                    graph.capture_end()
        except Exception as error:  # one of the step's own will come again when it is done
            self._refused = True
            reason = str(error).partition("\n")[0]
            log.warning("training steps cannot be recorded as CUDA graphs: %s", reason)
            self._optimizer.zero_grad(set_to_none=True)
            return None
        now.wait_stream(side)
        return _Recorded(graph, own, results)

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Rates where a graph reads them, and optimizers told that they are being recorded.

        Settings come back as they were: schedules compute with numbers, and checkpoints hold them.
        """
        groups = self._optimizer.param_groups
        before: list[dict[str, Any]] = [dict(group) for group in groups]
        try:
            for group, rate in zip(groups, self._rates_there, strict=True):
                group["lr"] = rate
                if group.get("fused") and "capturable" in group:
                    group["capturable"] = True  # its step count is on the device already
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: what it frees on the device would spoil what is being recorded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _settings(optimizer: Optimizer) -> list[list[Any]]:
    """All settings of an optimizer but its parameters and learning rates."""
    return [
        [value for key, value in group.items() if key not in ("params", "lr")]
        for group in optimizer.param_groups
    ]
