"""How raw samples become what a model takes: resizing and normalization, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dal.utils.inputs import Inputs


@dataclass(frozen=True)
class Prepare:
    """Turns raw inputs into what a model takes; runs on the device of its input.

    Attributes:
        size: Side length in pixels that images are resized to (bilinear, antialiased), or None to
            leave them as they are.
        mean: Per-channel (images, in units of [0, 1]) or per-feature mean that is subtracted.
        std: Per-channel or per-feature standard deviation that is divided by.
    """

    size: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def resizes(self) -> bool:
        """Whether images may be of any size."""
        return self.size is not None

    def __call__(self, raw: Inputs) -> Inputs:
        """Prepare a batch.

        Args:
            raw: uint8 or float images (B, channels, H, W), uint8 ones in [0, 255]; or float
                features (B, D); or tensors (B, ...) by name, such as token ids.

        Returns:
            float32, (B, channels, size, size) or (B, D). Tensors by name stay as they are.
        """
        return self._prepared(raw) if isinstance(raw, Tensor) else raw

    def _prepared(self, raw: Tensor) -> Tensor:
        x = raw.to(torch.float32)
        if self.size is not None and x.ndim == 4 and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        unit = 255.0 if raw.dtype == torch.uint8 else 1.0
        if unit == 1 and not self.mean:
            return x
        scale, shift = _affine(self.mean or (0.0,), self.std or (1.0,), unit, x.ndim, x.device)
        return torch.addcmul(shift, x, scale)


@lru_cache
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], unit: float, ndim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factor and summand that make (x / unit - mean) / std one multiply-add, channels second."""
    shape = (1, -1) + (1,) * (ndim - 2)
    means, stds = (torch.tensor(values, dtype=torch.float64).view(shape) for values in (mean, std))
    return (1 / (unit * stds)).float().to(device), (-means / stds).float().to(device)


def check_normalization(
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    standardize: bool | None,
) -> None:
    """Refuse a mean and a deviation that do not fit inputs, or each other.

    Raises:
        ValueError: Saying which and why.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean or std is given without the other; give both or none")
    if mean is None or std is None:
        return
    if standardize:
        raise ValueError("mean and std are given and data.standardize=true; drop one or the other")
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"mean has {len(mean)} and std {len(std)} numbers; "
            f"give {channels} of both, one for each channel or feature"
        )
    if not all(map(math.isfinite, mean)):
        raise ValueError(f"mean={list(mean)} must be finite everywhere")
    if not all(0 < value < math.inf for value in std):
        raise ValueError(f"std={list(std)} must be above 0 and finite everywhere")
