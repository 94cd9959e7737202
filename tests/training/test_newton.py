"""Newton's method on losses whose minimum is known otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from dal.task import Multiclass, Multilabel, Task
from dal.training.newton import minimize


class Summed:
    """A task's loss summed over weighted samples."""

    def __init__(self, task: Task, targets: Tensor, weights: Tensor) -> None:
        self.task, self.targets, self.weights = task, targets, weights

    def value(self, logits: Tensor) -> Tensor:
        return (self.weights * self.task.losses(logits, self.targets)).sum()

    def bend(self, logits: Tensor, moves: Tensor) -> Tensor:
        return self.weights.unsqueeze(1) * self.task.hessian_product(logits, moves)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(task: Task, count: int, width: int) -> tuple[Summed, Tensor]:
    rows = torch.randn(count, width, generator=rng(), dtype=torch.float64)
    targets = torch.randint(0, task.num_classes, (count,), generator=rng(1))
    if isinstance(task, Multilabel):
        targets = torch.randint(0, 2, (count, task.num_classes), generator=rng(1))
    return Summed(task, targets, torch.rand(count, generator=rng(2)).double() + 0.5), rows


@pytest.mark.parametrize("task", [Multiclass(2), Multiclass(5), Multilabel(3)])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_minimum_is_that_of_scipy(task: Task, scale: float) -> None:
    """A large scale makes the first Newton steps too long by orders of magnitude."""
    loss, rows = samples(task, 40, 6)
    rows = rows * scale
    penalty = torch.tensor([0.3] * 5 + [0.1], dtype=torch.float64)
    start = torch.randn(task.num_classes, 6, generator=rng(3), dtype=torch.float64)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat).view_as(start).requires_grad_()
        value = loss.value(rows @ weights.T) + (penalty * weights.square()).sum() / 2
        (gradient,) = torch.autograd.grad(value, weights)
        return float(value.detach()), gradient.flatten().numpy()

    got = minimize(loss, rows, start, penalty, enough=1e-8, most=200)
    want = scipy_minimize(
        objective,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 100_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-9},
    )
    assert got.converged
    assert objective(got.weights.flatten().numpy())[0] <= want.fun * (1 + 1e-12)
    assert np.abs(objective(got.weights.flatten().numpy())[1]).max() < 1e-7


@pytest.mark.parametrize("task", [Multiclass(2), Multiclass(5), Multilabel(3)])
def test_hessian_product_is_the_second_derivative_of_the_loss(task: Task) -> None:
    loss, _ = samples(task, 1, 6)
    logits = torch.randn(1, task.num_classes, generator=rng(4), dtype=torch.float64)
    moves = torch.randn(1, task.num_classes, generator=rng(5), dtype=torch.float64)
    hessian: Tensor = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda z: task.losses(z, loss.targets).sum(), logits
    )
    want = hessian.view(task.num_classes, -1) @ moves[0]
    torch.testing.assert_close(task.hessian_product(logits, moves)[0], want)


def test_steps_may_run_out_and_a_minimum_stays() -> None:
    loss, rows = samples(Multiclass(4), 30, 3)
    start, penalty = torch.zeros(4, 3).double(), torch.ones(3).double()
    few = minimize(loss, rows, start, penalty, enough=1e-9, most=1)
    assert (few.steps, few.converged) == (1, False)
    done = minimize(loss, rows, few.weights, penalty, enough=1e-9, most=50)
    again = minimize(loss, rows, done.weights, penalty, enough=1e-9, most=50)
    assert (again.steps, again.converged) == (0, True)
    assert torch.equal(again.weights, done.weights)


def test_what_rounding_hides_ends_the_descent() -> None:
    loss, rows = samples(Multiclass(4), 30, 3)
    start, penalty = torch.zeros(4, 3).double(), torch.ones(3).double()
    least = minimize(loss, rows, start, penalty, enough=0.0, most=100)
    assert least.converged
    assert least.steps < 30
