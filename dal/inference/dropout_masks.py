"""Dropout samples of a network in evaluation mode, with one mask a member for the whole pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dal.models.base import forward
from dal.utils.inputs import Inputs
from dal.utils.seeding import generator

CHANNELWISE = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def why_not(model: nn.Module) -> str:
    """Why dropout samples of a network cannot be drawn, or an empty string where they can."""
    for name, module in model.named_modules():
        if isinstance(module, nn.AlphaDropout | nn.FeatureAlphaDropout) and module.p > 0:
            return f"has alpha dropout ({name}), of which no members are drawn here"
    if not any(0 < layer.p < 1 for layer in _layers(model).values()):
        return "has no dropout layer with 0 < p < 1, so all dropout samples would be the same"
    return ""


class DropoutMasks:
    """The members of a committee of dropout samples: one mask of each dropout layer for each.

    A member's masks are drawn once, from generators of their own, and are the same for every
    sample of the pool, however it is cut into batches, so members can be compared from sample to
    sample, which joint entropies need. The network stays in evaluation mode, so that nothing else
    that behaves differently in training does: statistics of batch normalization stay as they are.

    Args:
        model: A network with `torch.nn.Dropout` layers, or the 1d, 2d and 3d ones, whose masks
            span whole channels. Dropout called as a function in evaluation mode is not seen.
        size: K, the number of members.
        seed: Seed of the run.
        round_number: Number of the round: each has masks of its own.
        uncut: A sample of full length, where batches are cut to shorter ones. A mask is drawn at
            the shape that a layer passes on of it, and cut as the batches are, so that a member's
            mask of a place is the same in all of them. None where all batches are of one length.

    Reference:
        Y. Gal and Z. Ghahramani. Dropout as a Bayesian approximation. ICML 2016.
        A. Kirsch, J. van Amersfoort and Y. Gal. BatchBALD. NeurIPS 2019, section 3.2.
    """

    def __init__(
        self,
        model: nn.Module,
        size: int,
        *,
        seed: int,
        round_number: int,
        uncut: Inputs | None = None,
    ) -> None:
        self.size = size
        self._keys = (seed, round_number)
        self._layers = {name: layer for name, layer in _layers(model).items() if layer.p > 0}
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._full: dict[tuple[str, int], list[int]] = {}
        self._model, self._uncut = model, uncut

    @contextmanager
    def member(self, number: int) -> Iterator[None]:
        """One forward within this block is that of a member, from 0 to ``size - 1``."""
        if self._uncut is not None:
            self._look(self._uncut)
            self._uncut = None
        with self._hooked(partial(self._apply, number, Counter())):
            yield

    def _look(self, sample: Inputs) -> None:
        """Note of what shape the masks are for a sample of full length."""
        calls: Counter[str] = Counter()

        def look(name: str, values: Tensor) -> Tensor:
            calls[name] += 1
            self._full[name, calls[name]] = self._shape(name, values)
            return values

        with self._hooked(look), torch.no_grad():
            forward(self._model, sample)

    @contextmanager
    def _hooked(self, function: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        """What the layers pass on goes through a function of their names and that."""
        handles = []
        try:
            for name, layer in self._layers.items():
                hook = _as_hook(partial(function, name))
                handles.append(layer.register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def of(
        self, number: int, shapes: Mapping[str, Sequence[int]], device: torch.device
    ) -> dict[str, Tensor]:
        """The masks of a member by layer, for layers that are used once and pass on such shapes."""
        return {name: self._mask(number, name, 1, shapes[name], device) for name in shapes}

    def _apply(self, member: int, calls: Counter[str], name: str, values: Tensor) -> Tensor:
        """Mask what a layer passed on; a layer used several times has a mask for each."""
        calls[name] += 1
        shape = self._shape(name, values)
        full = self._full.get((name, calls[name]), shape)
        mask = self._mask(member, name, calls[name], full, values.device)
        mask = mask[(slice(None), *(slice(0, length) for length in shape))]
        return values * mask.to(values.dtype)

    def _shape(self, name: str, values: Tensor) -> list[int]:
        """Of a mask for what a layer passes on."""
        shape = list(values.shape[1:])
        if isinstance(self._layers[name], CHANNELWISE):
            shape[1:] = [1] * len(shape[1:])
        return shape

    def _mask(
        self, member: int, name: str, call: int, shape: Sequence[int], device: torch.device
    ) -> Tensor:
        key = (member, name, call, tuple(shape))
        if key not in self._masks:
            rng = generator(*self._keys, "mask", member, name, call)
            self._masks[key] = _draw(shape, self._layers[name].p, rng).to(device)
        return self._masks[key]


def _layers(model: nn.Module) -> dict[str, Any]:
    kinds = (nn.Dropout, *CHANNELWISE)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def _draw(shape: Sequence[int], p: float, rng: torch.Generator) -> Tensor:
    """A mask of zeros, with probability p, and 1 / (1 - p): float32, (1, *shape)."""
    if p == 1:
        return torch.zeros(1, *shape)
    return (torch.rand(1, *shape, generator=rng) >= p).float() / (1 - p)


def _as_hook(apply: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, inputs, output: apply(output)
