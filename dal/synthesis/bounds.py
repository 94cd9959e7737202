"""Within which bounds samples are made, and how numbers from 0 to 1 become samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Given = Sequence[float] | Sequence[Sequence[float]] | None
"""Bounds as settings give them: low and high, for all numbers or a list of one for each feature or
channel; None for the range of the training part."""


@dataclass(frozen=True)
class Bounds:
    """A box that made samples lie in.

    Attributes:
        low: float64, as one sample is shaped, or as what can be spread over it.
        high: The same; equal to ``low`` where a number never changes.
        dtype: Of samples as a store keeps them.
    """

    low: Tensor
    high: Tensor
    dtype: torch.dtype

    def floats(self, units: Tensor) -> Tensor:
        """Samples from numbers in [0, 1], with gradients: float32, (B, ...), not rounded.

        Pixels of uint8 are in [0, 1], which networks are given the same of.
        """
        low, high = self.low.to(units), self.high.to(units)
        return (low + units * (high - low)) / self._scale

    def raw(self, units: Tensor) -> Tensor:
        """Samples from numbers in [0, 1] as a store keeps them, on the CPU: (B, ...)."""
        units = units.double().cpu()
        values = self.low + units * (self.high - self.low)
        return values.round().to(self.dtype) if self._scale > 1 else values.to(self.dtype)

    def units(self, raw: Tensor) -> Tensor:
        """Numbers in [0, 1] from samples, float64, (B, ...); those outside go to the bound."""
        width = self.high - self.low
        inside = (raw.double() - self.low) / width.masked_fill(width == 0, 1)
        return inside.clamp(0, 1) * (width > 0)

    @property
    def _scale(self) -> float:
        return 255.0 if self.dtype == torch.uint8 else 1.0


def range_of(blocks: Iterable[Tensor]) -> Bounds:
    """The lowest and highest number of each feature, or each channel of images.

    Args:
        blocks: (B, D) or (B, channels, H, W) each, at least one sample in all.

    Raises:
        ValueError: Nothing varies, or a number is not finite.
    """
    lows, highs, dtype = [], [], torch.float32
    for block in blocks:
        axes = [0, *range(2, block.ndim)]
        lows.append(block.double().amin(axes))
        highs.append(block.double().amax(axes))
        dtype, ndim = block.dtype, block.ndim
    low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    if not bool((high - low).isfinite().all()):
        raise ValueError("samples hold numbers that are not finite; give setting.bounds=[LOW,HIGH]")
    if not bool((high > low).any()):
        raise ValueError(
            "the samples do not differ in any number, so their range has no volume; give "
            "setting.bounds=[LOW,HIGH]"
        )
    shape = (-1, *[1] * (ndim - 2))
    return Bounds(low.view(shape), high.view(shape), dtype)


def check_bounds(given: Any) -> None:
    """Refuse bounds that are none, before there are any data.

    Raises:
        ValueError: They are no pair of numbers or of lists, or have no volume.
        TypeError: They are something else.
    """
    if given is None:
        return
    told = f"setting.bounds={given}"
    remedy = "give [LOW,HIGH], or a list of both for each feature or channel"
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{told}; {remedy}")
    if len(given) != 2:
        raise ValueError(f"{told} has {len(given)} entries; {remedy}")
    low, high = (side if isinstance(side, Sequence) else [side] for side in given)
    numbers = [*low, *high]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise TypeError(f"{told}; {remedy}")
    if len(low) != len(high) or not low:
        raise ValueError(f"{told} has {len(low)} numbers below and {len(high)} above; {remedy}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{told}; give finite numbers")
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"{told} has no volume: each low number must be below its high one")


def given_bounds(given: Sequence[Any], shape: Sequence[int], dtype: torch.dtype) -> Bounds:
    """Bounds that passed `check_bounds`, for samples of a shape.

    Raises:
        ValueError: There are not as many as features or channels, or pixels cannot be that, or
            they have no volume, or no finite one, as samples are kept.
    """
    low, high = (torch.tensor(side, dtype=torch.float64).flatten() for side in given)
    if len(low) not in (1, shape[0]):
        kind = "channels" if len(shape) > 1 else "features"
        raise ValueError(f"setting.bounds holds {len(low)} pairs for samples of {shape[0]} {kind}")
    if dtype == torch.uint8 and (float(low.min()) < 0 or float(high.max()) > 255):
        raise ValueError(f"setting.bounds={list(given)}; pixels are numbers from 0 to 255")
    kept = [(side.round() if dtype == torch.uint8 else side).to(dtype) for side in (low, high)]
    if not bool((kept[0] < kept[1]).all() and (kept[1] - kept[0]).isfinite().all()):
        raise ValueError(
            f"setting.bounds={list(given)} have no volume, or no finite one, in "
            f"{str(dtype).removeprefix('torch.')}, which samples are kept in; give others"
        )
    view = (-1, *[1] * (len(shape) - 1))
    return Bounds(low.view(view), high.view(view), dtype)
