"""Newton's method for the convex losses of linear models, each step by conjugate gradients."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

ROUNDING = 2**-45
"""Relative changes of a loss that may be its rounding in float64."""
NOTHING = 2**-70
"""Relative decreases of the loss that end a descent: the gradient resolves larger ones."""
MOST_PRODUCTS = 250
"""Conjugate gradients end a step after so many products with the Hessian."""
CURVATURE_ROWS = 2048
"""Samples from which the preconditioner is made: it decides the speed, not the minimum."""


class Loss(Protocol):
    """A convex loss of the logits (M, C) of all samples, summed over them."""

    def value(self, logits_MC: Tensor) -> Tensor:
        """The sum: a scalar."""

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
    loss: Loss, rows_MK: Tensor, start_CK: Tensor, penalty_K: Tensor, *, enough: float, most: int
) -> Minimum:
    """Minimize ``loss(X W') + sum_ck penalty_k W_ck^2 / 2`` over W.

    Every step solves the Newton equation by preconditioned conjugate gradients, as exactly as it is
    worth at that distance, and is halved until the loss falls. A model that is sure of some samples
    and not of others has curvatures that differ by orders of magnitude; methods that never look at
    them, L-BFGS among them, then take thousands of iterations, or seem to have arrived.

    Args:
        loss: Of the logits (M, C).
        rows_MK: float64, (M, K), the samples.
        start_CK: float64, (C, K).
        penalty_K: float64, (K,), zero or more, and not all zero.
        enough: Length of the gradient at which to stop.
        most: Newton steps at most.

    Returns:
        The last weights; the start itself where its gradient is short enough.

    Reference:
        J. Nocedal and S. Wright. Numerical Optimization. Springer 2006, algorithm 7.1 (line search
        Newton-CG).
    """
    here = _Point(loss, rows_MK, penalty_K, start_CK)
    factor, products = None, MOST_PRODUCTS
    for taken in range(most):
        if here.length <= enough:
            return Minimum(here.weights_CK, taken, True)
        if factor is None or products > 15:  # an old preconditioner is good enough before
            factor = _preconditioner(here)
        step_CK, products = _newton_step(here, factor, enough / 2)
        slope = float((here.gradient_CK * step_CK).sum())
        after = _descend(here, step_CK, slope) if -slope > NOTHING * here.value else None
        if after is None:
            return Minimum(here.weights_CK, taken, True)
        here = after
    return Minimum(here.weights_CK, most, here.length <= enough)


class _Point:
    """Loss, gradient and Hessian at some weights."""

    def __init__(self, loss: Loss, rows_MK: Tensor, penalty_K: Tensor, weights_CK: Tensor) -> None:
        self.loss, self.rows_MK, self.penalty_K = loss, rows_MK, penalty_K
        self.weights_CK = weights_CK
        with torch.enable_grad():
            leaf = (rows_MK @ weights_CK.T).requires_grad_()
            value = loss.value(leaf)
            (pull_MC,) = torch.autograd.grad(value, leaf)
        self.logits_MC = leaf.detach()
        shrink_CK = weights_CK * penalty_K
        self.value = float(value.detach() + (weights_CK * shrink_CK).sum() / 2)
        self.gradient_CK = pull_MC.T @ rows_MK + shrink_CK
        self.length = float(self.gradient_CK.norm())

    def moved(self, step_CK: Tensor) -> _Point:
        return _Point(self.loss, self.rows_MK, self.penalty_K, self.weights_CK + step_CK)

    def times_hessian(self, step_CK: Tensor) -> Tensor:
        bent_MC = self.loss.bend(self.logits_MC, self.rows_MK @ step_CK.T)
        return bent_MC.T @ self.rows_MK + step_CK * self.penalty_K


def _newton_step(here: _Point, factor: Tensor, enough: float) -> tuple[Tensor, int]:
    """``-H^-1 g``, approximated, and the products with H that it took.

    The nearer the minimum, the more exact, so that steps converge quadratically; but no more than
    the gradient is to be.
    """
    step, rest = torch.zeros_like(here.gradient_CK), -here.gradient_CK
    direction = torch.cholesky_solve(rest.T, factor).T
    square = float((rest * direction).sum())
    goal = square * min(0.01, square)
    products = 0
    while products < MOST_PRODUCTS:
        products += 1
        product = here.times_hessian(direction)
        curvature = float((direction * product).sum())
        if curvature <= 0:  # by rounding: the loss is convex
            break
        step = step + square / curvature * direction
        rest = rest - square / curvature * product
        better = torch.cholesky_solve(rest.T, factor).T
        before, square = square, float((rest * better).sum())
        if square <= goal or float(rest.norm()) <= enough:
            break
        direction = better + square / before * direction
    return step, products


def _preconditioner(here: _Point) -> Tensor:
    """Cholesky factor (K, K) of the Hessian of a class, had all classes their mean curvature."""
    every = -(-len(here.rows_MK) // CURVATURE_ROWS)
    mean_M = here.logits_MC.new_zeros(len(here.logits_MC))
    for label in range(here.logits_MC.shape[1]):
        unit = torch.zeros_like(here.logits_MC)
        unit[:, label] = 1
        mean_M += here.loss.bend(here.logits_MC, unit)[:, label]
    rows, scale = here.rows_MK[::every], every / here.logits_MC.shape[1]
    matrix = rows.T @ (scale * mean_M[::every].unsqueeze(1) * rows)
    matrix.diagonal().add_(here.penalty_K.clamp_min(1e-3 * float(here.penalty_K.max())))
    factor: Tensor = torch.linalg.cholesky(matrix)
    return factor


def _descend(here: _Point, step_CK: Tensor, slope: float) -> _Point | None:
    """The point on the way at which the loss has fallen; None where rounding hides any fall.

    Close to the minimum the loss changes by less than its rounding, and a flatter slope decides.
    """
    share = 1.0
    while share > 1e-9:
        there = here.moved(share * step_CK)
        if there.value <= here.value + 1e-4 * share * slope:
            return there
        flatter = abs(float((there.gradient_CK * step_CK).sum())) <= 0.5 * abs(slope)
        if flatter and there.value <= here.value * (1 + ROUNDING):
            return there
        share /= 2
    return None
