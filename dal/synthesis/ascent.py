"""Gradient ascent of a score."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def ascend(
    score: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int,
    rate: float,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """Climb a score from several points at once, each by itself, and keep the best of each way.

    Steps follow the direction of the gradient whatever its length, since the gradients of
    probabilities near 0 or 1 vanish. The first is ``rate`` of the diagonal of the unit cube long,
    those after it less and less, down to nothing.

    Args:
        score: Gives float, (B,), for numbers in [0, 1], (B, ...); that of a point depends on it
            alone.
        start: float, (B, ...), in [0, 1].
        steps: How many.
        rate: In (0, 1].
        check: Called before each step; may raise to abandon the ascent.

    Returns:
        As ``start``: the points of the highest score on each way, the start included.

    Raises:
        FloatingPointError: A score or a gradient is not finite.
    """
    at, length = start.detach(), rate * math.sqrt(start[0].numel())
    best, height = at, at.new_full((len(at),), -math.inf, dtype=torch.float64)
    for step in range(steps + 1):
        check()
        at = at.detach().requires_grad_()
        scores = score(at)
        (gradient,) = torch.autograd.grad(scores.sum(), at)
        _check_finite(scores, gradient, step)
        better = scores.detach().double() > height
        best = torch.where(_spread(better, at), at.detach(), best)
        height = torch.where(better, scores.detach().double(), height)
        size = gradient.flatten(1).norm(dim=1)
        size = size.masked_fill(size == 0, 1)  # nothing is higher nearby: it stays
        stride = length * (1 - step / max(steps, 1)) / size
        at = (at.detach() + _spread(stride, at) * gradient).clamp(0, 1)
    return best


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _check_finite(scores: Tensor, gradient: Tensor, step: int) -> None:
    good = scores.isfinite() & gradient.flatten(1).isfinite().all(1)
    if not bool(good.all()):
        raise FloatingPointError(
            f"the ascent diverged in step {step}: the score or its gradient is not finite for "
            f"{int((~good).sum())} of {len(good)} samples; give narrower setting.bounds, or lower "
            "trainer.optimizer.lr"
        )


def nearest(points: Tensor, samples: Tensor) -> Tensor:
    """The nearest sample of each point, no sample twice: the points choose one after the other.

    Args:
        points: float, (B, D).
        samples: float, (N, D), N >= B.

    Returns:
        int64, (B,), places among the samples.
    """
    taken = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    found = []
    for point in points:
        away = (samples - point).double().square().sum(1).masked_fill(taken, math.inf)
        found.append(away.argmin())
        taken[found[-1]] = True
    return torch.stack(found)
