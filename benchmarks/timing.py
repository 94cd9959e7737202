"""Seconds of alternatives that are run in turn, so that all meet the same disturbances."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

MATRIX = 1024
"""Side of the square float32 matrices whose product gives the machine's rate."""


@dataclass(frozen=True)
class Times:
    """Seconds of each alternative, one entry a repetition, in step with each other."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one alternative."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str, factor: float = 1.0) -> tuple[float, float, float]:
        """Median, smallest and largest of the ratios within the repetitions, times a factor."""
        pairs = zip(self.seconds[name], self.seconds[reference], strict=True)
        ratios = [factor * a / b for a, b in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)


def interleave(
    alternatives: Mapping[str, Callable[[], object]], repeat: int, device: torch.device
) -> Times:
    """Run each alternative once to warm up, then all of them in turn, ``repeat`` times."""
    for work in alternatives.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(repeat):
        for name, work in alternatives.items():
            seconds[name].append(timed(work, device))
    return Times(seconds)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_product(device: torch.device, times: int) -> Callable[[], None]:
    """Work of ``times`` float32 products of 1024 x 1024 matrices; 2^30 multiply-adds each."""
    a = torch.randn(MATRIX, MATRIX, device=device)
    b, out = torch.randn_like(a), torch.empty_like(a)

    def work() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)

    return work


def forward_macs(model: nn.Module, sample: torch.Tensor) -> list[int]:
    """Multiply-adds of each linear and convolution layer for one sample, in order of use.

    Args:
        model: Any network.
        sample: (1, ...), a batch of one.
    """
    macs: list[int] = []

    def count(layer: nn.Module, args: object, output: torch.Tensor) -> None:
        assert isinstance(layer.weight, torch.Tensor)
        macs.append(output.numel() * layer.weight[0].numel())

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        model(sample)
    for handle in handles:
        handle.remove()
    return macs


def training_macs(model: nn.Module, sample: torch.Tensor) -> int:
    """Multiply-adds of a training step for one sample: forward, and backward twice that.

    The first layer's input needs no gradient.
    """
    macs = forward_macs(model, sample)
    return 3 * sum(macs) - macs[0]
