"""Training steps recorded as CUDA graphs: one launch for the hundred kernels of a step.

A step of a small network is many kernels of a few microseconds, each of which takes Python longer
to launch than the device to run. A CUDA graph launches them all at once: the same kernels, on the
same numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

log = logging.getLogger(__name__)

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A training step on the samples at some positions; gives tensors on the device."""


def graphed(step: Step, optimizer: Optimizer, model: nn.Module, device: torch.device) -> Step:
    """The step, recorded where it can be: on CUDA, of a network that says it is ``graphable``.

    A recorded step repeats what the network did when it was recorded, so only the network's author
    can know that it always does the same; see `dal.models.base.is_graphable`.
    """
    from dal.models.base import is_graphable

    if device.type != "cuda" or not is_graphable(model):
        return step
    return GraphedStep(step, optimizer, device)


@dataclass(frozen=True)
class _Recorded:
    """A recorded step: its graph, where it reads the positions, and where it leaves its results."""

    graph: torch.cuda.CUDAGraph
    batch: Tensor
    results: tuple[Tensor, Tensor]


class GraphedStep:
    """A training step that is recorded at the second batch of each size, and replayed from then on.

    The first batch of a size is an ordinary step: libraries choose their kernels, and the optimizer
    makes its state. The learning rate may change between steps; when another setting of the
    optimizer changes, steps are recorded anew. A step that cannot be recorded goes on unrecorded,
    with one warning.

    Args:
        step: Does a step of the optimizer, gradients set to None before it, without waiting for the
            device.
        optimizer: The optimizer, whose state stays where it is as long as this object is used.
        device: A CUDA device.
    """

    def __init__(self, step: Step, optimizer: Optimizer, device: torch.device) -> None:
        self._step, self._optimizer, self._device = step, optimizer, device
        self._met: set[torch.Size] = set()
        self._recorded: dict[torch.Size, _Recorded] = {}
        self._refused = False
        self._settings = _settings(optimizer)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._rates_there = [torch.tensor(rate, device=device) for rate in self._rates]

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Do a step; gives what the step gives."""
        self._follow()
        if self._refused or batch.shape not in self._met:
            self._met.add(batch.shape)
            return self._step(batch)
        if batch.shape not in self._recorded:
            recorded = self._record(batch)
            if recorded is None:
                return self._step(batch)
            self._recorded[batch.shape] = recorded
        recorded = self._recorded[batch.shape]
        recorded.batch.copy_(batch)
        recorded.graph.replay()
        first, second = recorded.results
        return first.clone(), second.clone()

    def _follow(self) -> None:
        """Take over what has changed in the optimizer's settings."""
        settings = _settings(self._optimizer)
        if settings != self._settings:
            self._settings = settings
            self._recorded.clear()
        for number, group in enumerate(self._optimizer.param_groups):
            if group["lr"] != self._rates[number]:
                self._rates[number] = float(group["lr"])
                self._rates_there[number].fill_(self._rates[number])

    def _record(self, batch: Tensor) -> _Recorded | None:
        """Record a step without doing it; None where it cannot be."""
        graph, own = torch.cuda.CUDAGraph(), batch.clone()
        now = torch.cuda.current_stream(self._device)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(now)
        try:
            with torch.cuda.stream(side), self._capturable():
                # Other threads may use the device meanwhile: only this one is recorded.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    results = self._step(own)
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            self._refused = True
            reason = str(error).splitlines()[0]
            log.warning("training steps cannot be recorded as CUDA graphs: %s", reason)
            self._optimizer.zero_grad(set_to_none=True)
            return None
        now.wait_stream(side)
        return _Recorded(graph, own, results)

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Rates where a graph reads them, and the word of optimizers that they may be recorded."""
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


def _settings(optimizer: Optimizer) -> list[list[Any]]:
    """All settings of an optimizer but its parameters and learning rates."""
    return [
        [value for key, value in group.items() if key not in ("params", "lr")]
        for group in optimizer.param_groups
    ]
