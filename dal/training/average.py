"""Weights averaged over the steps of a fit, which lie still where the last ones still jump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(decay: float, steps: int) -> float:
    """Share of the average that a step keeps: smaller at first, so that the start is forgotten.

    Args:
        decay: The largest, 0 to below 1.
        steps: Number of the step, from 1.

    Returns:
        ``min(decay, (1 + steps) / (10 + steps))``.

    Reference:
        TensorFlow, ``tf.train.ExponentialMovingAverage``, ``num_updates``.
    """
    return min(decay, (1 + steps) / (10 + steps))


class Average:
    """The exponential moving average of a network's floating tensors.

    After each step ``average = d * average + (1 - d) * weights``, d of `decay_at`. Statistics of
    BatchNorm are averaged in the same way, as they belong to the weights; counters and other whole
    numbers stay those of the last step. Costs as much memory as the network, and a pass over its
    weights a step.

    Values move, tensors stay: whoever holds the network's tensors, such as a recorded step or a
    stack of networks, sees them.

    Args:
        model: The network; its tensors are the average's start.
        decay: See `decay_at`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        saved = model.state_dict().keys()
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._live = {
            name: tensor
            for name, tensor in tensors.items()
            if name in saved and tensor.is_floating_point()
        }
        self._kept = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._in_use = False

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take up the weights as they are after a step of that number, from 1."""
        kept, live = list(self._kept.values()), [t.detach() for t in self._live.values()]
        torch._foreach_lerp_(kept, live, 1 - decay_at(self.decay, steps))

    @contextmanager
    def used(self, use: bool = True) -> Iterator[None]:
        """A block in which the network has the averaged weights, or with False its own."""
        if use == self._in_use:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, live in self._live.items():
            own = live.clone()
            live.copy_(self._kept[name])
            self._kept[name].copy_(own)
        self._in_use = not self._in_use

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, copied; while the network has its own weights."""
        return {name: tensor.clone() for name, tensor in self._kept.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        for name, tensor in self._kept.items():
            tensor.copy_(state[name])
