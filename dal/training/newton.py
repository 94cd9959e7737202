"""Newton's method for the convex losses of linear models, each step by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dal.training.rows import Curvatures, DenseRows, Precondition, Rows

ROUNDING = 2**-45
"""Relative changes of a loss that may be its rounding in float64."""
NOTHING = 2**-70
"""Relative decreases of the loss that end a descent: the gradient resolves larger ones."""
MOST_PRODUCTS = 250
"""Conjugate gradients end a step after so many products with the Hessian."""
SUMMED_AT_ONCE = 2**15 - 1
"""Torch divides sums of more numbers among threads, so that their bits depend on how many."""
LEAST_GOAL = {torch.float64: 0.0, torch.float32: 1e-9}
"""Relative squares of what a step leaves over that its precision still resolves."""


class Loss(Protocol):
    """A convex loss of the logits (M, C) of all samples, summed over them."""

    def value(self, logits_MC: Tensor) -> Tensor:
        """The sum: a scalar; or (C, 1), of each output, where each has a loss of its own."""

    def bend(self, logits_MC: Tensor, moves_MC: Tensor) -> Tensor:
        """Its Hessian with respect to the logits, times a move of them: (M, C)."""


class Minimum(NamedTuple):
    """Where a descent ended.

    Attributes:
        weights: float64, (C, K).
        steps: Newton steps taken.
        converged: The gradient is short enough, or float64 resolves no further decrease.
    """

    weights: Tensor
    steps: int
    converged: bool


def minimize(
    loss: Loss,
    rows: Tensor | Rows,
    start_CK: Tensor,
    penalty_K: Tensor,
    *,
    enough: float,
    most: int,
) -> Minimum:
    """Minimize ``loss(X W') + sum_ck penalty_k W_ck^2 / 2`` over W.

    Every step solves the Newton equation by preconditioned conjugate gradients, as exactly as it is
    worth at that distance, and is halved until the loss falls. A model that is sure of some samples
    and not of others has curvatures that differ by orders of magnitude; methods that never look at
    them, L-BFGS among them, then take thousands of iterations, or seem to have arrived.

    Outputs that have a loss each are minimized apart, though side by side: each has step lengths of
    its own, and stays where it is once it has arrived.

    A model that is all but sure of what is wrong, such as one that has seen a single class so far,
    has next to no curvature, and steps from there are too long to be of use: what ends above the
    loss at 0 begins again there.

    Args:
        loss: Of the logits (M, C).
        rows: The samples: float64, (M, K), or `Rows`.
        start_CK: float64, (C, K).
        penalty_K: float64, (K,), zero or more, and not all zero.
        enough: Length of the gradient (of that of each output that has a loss of its own) at which
            to stop.
        most: Newton steps at most.

    Returns:
        The last weights; the start itself where its gradient is short enough.

    Reference:
        J. Nocedal and S. Wright. Numerical Optimization. Springer 2006, algorithm 7.1 (line search
        Newton-CG).
    """
    rows = DenseRows(rows) if isinstance(rows, Tensor) else rows
    here, taken, converged = _descended(loss, rows, start_CK, penalty_K, enough, most)
    misled = ~(here.value <= loss.value(torch.zeros_like(here.logits_MC)).detach())
    if misled.any():
        start_CK = here.weights_CK.masked_fill(misled, 0)
        here, more, converged = _descended(loss, rows, start_CK, penalty_K, enough, most)
        taken += more
    return Minimum(here.weights_CK, taken, converged)


def _descended(
    loss: Loss, rows: Rows, start_CK: Tensor, penalty_K: Tensor, enough: float, most: int
) -> tuple[_Point, int, bool]:
    """Where a descent from the start ended, its steps, and whether it arrived."""
    here = _Point(loss, rows, penalty_K, start_CK)
    moving = torch.ones_like(here.length, dtype=torch.bool)
    solve, products = None, MOST_PRODUCTS
    for taken in range(most):
        moving = moving & ~(here.length <= enough)
        if not moving.any():
            return here, taken, True
        if solve is None or products > rows.patience:  # an old one is good enough before
            solve = rows.preconditioner(here.curvatures, penalty_K)
        step_CK, products = _newton_step(here, solve, moving, enough / 2)
        slope = here.total(here.gradient_CK * step_CK)
        moving = moving & (-slope > NOTHING * here.value)
        after, moving = _descend(here, step_CK, slope, moving)
        if after is None:
            return here, taken, True
        here = after
    return here, most, not (moving & ~(here.length <= enough)).any()


class _Point:
    """Loss, gradient and Hessian at some weights.

    What belongs to the loss is a scalar, or (C, 1) where outputs have a loss each.
    """

    def __init__(self, loss: Loss, rows: Rows, penalty_K: Tensor, weights_CK: Tensor) -> None:
        self.loss, self.rows, self.penalty_K = loss, rows, penalty_K
        self.weights_CK = weights_CK
        with torch.enable_grad():
            leaf = rows.logits(weights_CK).requires_grad_()
            value = loss.value(leaf)
            (pull_MC,) = torch.autograd.grad(value.sum(), leaf)
        self.apart = value.ndim > 0
        self.logits_MC = leaf.detach()
        shrink_CK = weights_CK * penalty_K
        self.value = value.detach() + self.total(weights_CK * shrink_CK) / 2
        self.gradient_CK = rows.pulled(pull_MC) + shrink_CK
        self.length = self.norm(self.gradient_CK)

    def total(self, of_CK: Tensor) -> Tensor:
        """The sum over all weights that have a loss together."""
        if not self.apart and of_CK.numel() <= SUMMED_AT_ONCE:
            return of_CK.sum()
        each = of_CK.sum(1, keepdim=True)
        return each if self.apart else each.sum()

    def norm(self, of_CK: Tensor) -> Tensor:
        """The length of the weights that have a loss together."""
        each: Tensor = of_CK.norm(dim=1, keepdim=True)
        return each if self.apart else torch.linalg.vector_norm(each)

    def moved(self, step_CK: Tensor) -> _Point:
        return _Point(self.loss, self.rows, self.penalty_K, self.weights_CK + step_CK)

    def curvatures(self) -> Curvatures:
        """Second derivatives with respect to each logit alone: (M,) of each output."""
        if self.apart:
            yield from self.loss.bend(self.logits_MC, torch.ones_like(self.logits_MC)).T
            return
        for label in range(self.logits_MC.shape[1]):
            unit = torch.zeros_like(self.logits_MC)
            unit[:, label] = 1
            yield self.loss.bend(self.logits_MC, unit)[:, label]

    def hessian(self, kind: torch.dtype) -> Callable[[Tensor], Tensor]:
        """What multiplies a step (C, K) with the Hessian, in a precision.

        Curvatures are those of the exact logits: a rough ``1 - p`` of what is all but sure is 0.
        """
        logits_MC, penalty_K = self.logits_MC, self.penalty_K.to(kind)
        alone_MC = None
        if self.apart:
            alone_MC = self.loss.bend(logits_MC, torch.ones_like(logits_MC)).to(kind)

        def product(step_CK: Tensor) -> Tensor:
            moves_MC = self.rows.logits(step_CK)
            bent_MC = (
                self.loss.bend(logits_MC, moves_MC) if alone_MC is None else alone_MC * moves_MC
            )
            return self.rows.pulled(bent_MC.to(kind)) + step_CK * penalty_K

        return product


def _newton_step(
    here: _Point, solve: Precondition, moving: Tensor, enough: float
) -> tuple[Tensor, int]:
    """``-H^-1 g``, approximated, and the products with H that it took.

    The nearer the minimum, the more exact, so that steps converge quadratically; but no more than
    the gradient is to be.
    """
    kind = here.rows.rough
    times_hessian, total, norm = here.hessian(kind), here.total, here.norm
    rest = -here.gradient_CK.to(kind)
    step = torch.zeros_like(rest)
    direction = solve(rest)
    square = total(rest * direction)
    goal = square * square.clamp(LEAST_GOAL[kind], 0.01)
    products = 0
    while products < MOST_PRODUCTS and moving.any():
        products += 1
        product = times_hessian(direction)
        curvature = total(direction * product)
        moving = moving & (curvature > 0)  # or else by rounding: the loss is convex
        share = torch.where(moving, square / curvature, 0)
        step = step + share * direction
        rest = rest - share * product
        better = solve(rest)
        before, square = square, total(rest * better)
        moving = moving & (square > goal) & (norm(rest) > enough)
        direction = better + torch.where(moving, square / before, 0) * direction
    return step.to(here.gradient_CK.dtype), products


def _descend(
    here: _Point, step_CK: Tensor, slope: Tensor, moving: Tensor
) -> tuple[_Point | None, Tensor]:
    """The point on the way at which the loss has fallen, and which outputs have moved.

    None where rounding hides any fall. Close to the minimum the loss changes by less than its
    rounding, and a flatter slope decides.
    """
    share = moving.to(slope.dtype)
    while (moving := moving & (share > 1e-9)).any():
        share = torch.where(moving, share, 0)
        there = here.moved(share * step_CK)
        fallen = there.value <= here.value + 1e-4 * share * slope
        flatter = here.total(there.gradient_CK * step_CK).abs() <= 0.5 * slope.abs()
        as_low = flatter & (there.value <= here.value * (1 + ROUNDING))
        far = moving & ~(fallen | as_low)
        if not far.any():
            return there, moving
        share = torch.where(far, share / 2, share)
    return None, moving
