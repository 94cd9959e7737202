"""Fits linear and small heads on all labels at once, to the optimum: L-BFGS in float64."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dal.models.base import forward, last_layer
from dal.task import Task
from dal.trainer import FitContext, FitState, Samples, Trainer

log = logging.getLogger(__name__)

HISTORY = 20
"""Past steps from which L-BFGS knows the curvature."""
CURVATURE = 0.05
"""Typical p (1 - p) of a class on the labels of a fit: it decides the speed, not the optimum."""
CURVATURE_ROWS = 2048
"""Samples from which the curvature in all directions is estimated."""


class FullBatch(Trainer):
    """L-BFGS on all labels at once: no epochs, no learning rate, no early stopping to tune.

    It minimizes the sum of the samples' losses plus ``l2 / 2`` times the squared weights (biases
    are free), as scikit-learn's ``LogisticRegression(C=1 / l2)`` does. That of a linear model is
    convex: the fit ends at its one optimum, whatever weights it started from, so that strategies
    compared on equal labels meet equal models. With hidden layers it ends at a local one.

    Meant for features that do not change (``features=...``, tables): on 1,000 labels of 512
    numbers a fit takes milliseconds. Everything is computed in float64, where a line search can
    follow the loss down to the optimum; the weights are rounded to the network's own type at the
    end. Deterministic on a CPU.

    Args:
        l2: Strength of the penalty, above 0: without one, separable labels have no optimum.
        epochs: At most so many iterations; each is a pass over all labels, or a few.
        tolerance: The fit has converged when no entry of the gradient of the mean loss is larger;
            for linear models, in coordinates in which curvature is about 1.
        restart: ``warm`` starts from the weights of the round before, which is faster; ``cold``
            from fresh ones.

    Raises:
        ValueError: A value is out of range.

    Reference:
        D. C. Liu and J. Nocedal. On the limited memory BFGS method for large scale optimization.
        Mathematical Programming 45, 1989, algorithm 2.1.
    """

    def __init__(
        self,
        l2: float = 1.0,
        epochs: int = 1000,
        tolerance: float = 1e-5,
        restart: Literal["warm", "cold"] = "warm",
    ) -> None:
        super().__init__(epochs=epochs, restart=restart)
        for name, value in (("l2", l2), ("tolerance", tolerance)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"trainer.{name}={value}; give a number above 0")
        self.l2, self.tolerance = l2, tolerance

    def fit(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> FitState:
        """Bring a model to the optimum, in place.

        Args:
            model: A network without dropout and BatchNorm, on the device of the samples.
            samples: The labeled samples, M >= 1.
            task: Gives loss and metrics.
            context: Validation, callback, and the state to resume from.

        Returns:
            The final state: one epoch, whose ``steps`` are the iterations; ``stopped`` is
            ``converged``, or ``epochs`` where their number ran out.

        Raises:
            ValueError: There are no samples.
            TypeError: The network draws random numbers while it trains, or couples its samples.
            FloatingPointError: The loss became infinite or NaN.
        """
        if len(samples) == 0:
            raise ValueError("there are no labeled samples to train on; raise initial.size")
        _check(model)
        if context.resume is not None:  # saved after the fit, so there is nothing left to do
            saved = dict(context.resume)
            model.load_state_dict(saved.pop("model"))
            return FitState(**saved)
        state = self._solve(model, samples, task, context.round)
        if context.evaluate is not None:
            state.history[0] |= {f"val/{k}": value for k, value in context.evaluate().items()}
        context.on_epoch(state, lambda: {**vars(state), "model": model.state_dict()})
        return state

    def forgets_start(self, model: nn.Module) -> bool:
        """Whether the loss has a single optimum: for linear models."""
        return _is_linear(model)

    def _solve(self, model: nn.Module, samples: Samples, task: Task, number: int) -> FitState:
        exact = copy.deepcopy(model).double().eval()
        problem = _problem(exact, samples, task, self.l2)
        optimizer = torch.optim.LBFGS(
            problem.unknowns,
            max_iter=self.epochs,
            max_eval=4 * self.epochs,
            tolerance_grad=self.tolerance * problem.total,
            tolerance_change=1e-14,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            value = problem.objective()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            problem.write_back()
            metrics = _metrics(exact, samples, task, number)
        model.load_state_dict(exact.state_dict())
        steps = int(optimizer.state[problem.unknowns[0]]["n_iter"])
        stopped = "converged" if steps < self.epochs else "epochs"
        if stopped == "epochs":
            log.warning(
                "round %d: the fit did not converge within trainer.epochs=%d iterations; raise "
                "them, or trainer.l2",
                number,
                self.epochs,
            )
        return FitState(epoch=1, steps=steps, best_epoch=0, history=[metrics], stopped=stopped)


class _Problem:
    """The sum of losses with its penalty, as a function of a network's weights.

    Attributes:
        unknowns: What L-BFGS moves.
        total: Weight of all samples together.
    """

    def __init__(self, model: nn.Module, samples: Samples, task: Task, l2: float) -> None:
        self.task, self.l2, self.targets = task, l2, samples.targets
        self.weights = None if samples.weights is None else samples.weights.double()
        self.total = float(len(samples) if self.weights is None else self.weights.sum())
        self.model, self.inputs = model, _all_inputs(samples)
        if not self.inputs.isfinite().all():
            raise FloatingPointError(
                "the inputs of the labeled samples hold NaN or infinity; check them for extreme "
                "values"
            )
        self.unknowns: list[Tensor] = [p for p in model.parameters() if p.requires_grad]

    def objective(self) -> Tensor:
        """The sum at the unknowns, a scalar in nats."""
        penalized = [p.square().sum() for p in self.unknowns if p.ndim > 1]
        return self._sum(forward(self.model, self.inputs).logits, torch.stack(penalized).sum())

    def _sum(self, logits: Tensor, squares: Tensor) -> Tensor:
        loss = self.task.loss(logits, self.targets, self.weights)
        return self.total * loss + self.l2 / 2 * squares

    def write_back(self) -> None:
        """Give the network the weights that the unknowns stand for: they are its own."""


class _LinearProblem(_Problem):
    """The same for a last layer on features that do not change, in better coordinates.

    Features are centered; with fewer samples than features the weights are sought in the span of
    the samples, where the optimum lies. In the coordinates ``v = L.T w``, with ``L L.T`` the
    Hessian of a typical fit, curvature is about 1 in every direction, which saves most iterations.
    """

    def __init__(self, model: nn.Module, samples: Samples, task: Task, l2: float) -> None:
        super().__init__(model, samples, task, l2)
        head = last_layer(model)
        assert head is not None
        self.head = head
        with torch.no_grad():
            features = forward(model, self.inputs).features
            assert features is not None
            self.mean = features.mean(0)
            self.rows, self.basis = _within_span(features - self.mean)
            self.factor = _curvature(self.rows, l2)
            self.scale = math.sqrt(CURVATURE * self.total)
            start = self.factor.T @ (self.basis.T @ head.weight.T)
            bias = self.scale * (head.bias + head.weight @ self.mean)
        self.unknowns = [start.contiguous().requires_grad_(), bias.requires_grad_()]

    def objective(self) -> Tensor:
        """The sum at the unknowns, a scalar in nats."""
        weight = self._weight()
        logits = torch.addmm(self.unknowns[1] / self.scale, self.rows, weight)
        return self._sum(logits, weight.square().sum())

    def write_back(self) -> None:
        """Give the last layer its weights in its own coordinates."""
        self.head.weight.copy_((self.basis @ self._weight()).T)
        self.head.bias.copy_(self.unknowns[1] / self.scale - self.head.weight @ self.mean)

    def _weight(self) -> Tensor:
        """Weights in the span of the samples, (rank, C)."""
        weight: Tensor = torch.linalg.solve_triangular(self.factor.T, self.unknowns[0], upper=True)
        return weight


def _problem(model: nn.Module, samples: Samples, task: Task, l2: float) -> _Problem:
    """The problem in the best coordinates that the network allows."""
    return (_LinearProblem if _is_linear(model) else _Problem)(model, samples, task, l2)


def _is_linear(model: nn.Module) -> bool:
    """Whether nothing but a last layer is trained."""
    head = last_layer(model)
    moving = {id(p) for p in model.parameters() if p.requires_grad}
    return head is not None and moving == {id(head.weight), id(head.bias)}


def _all_inputs(samples: Samples) -> Tensor:
    everything = torch.arange(len(samples), device=samples.targets.device)
    return samples.take(everything).double()


def _within_span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, D) as coordinates (M, r) in an orthonormal basis (D, r), r = min(M, D)."""
    if len(rows) >= rows.shape[1]:
        return rows, torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    basis, upper = torch.linalg.qr(rows.T)
    return upper.T.contiguous(), basis


def _curvature(rows: Tensor, l2: float) -> Tensor:
    """Cholesky factor of the Hessian about the weights of one class, from some of the rows."""
    step = -(-len(rows) // CURVATURE_ROWS)
    some = rows[::step]
    gram = some.T @ some * (CURVATURE * len(rows) / len(some))
    gram.diagonal().add_(l2)
    factor: Tensor = torch.linalg.cholesky(gram)
    return factor


def _metrics(model: nn.Module, samples: Samples, task: Task, number: int) -> dict[str, float]:
    """Loss without penalty and accuracy on the labels."""
    logits = forward(model, _all_inputs(samples)).logits
    weights = None if samples.weights is None else samples.weights.double()
    loss = float(task.loss(logits, samples.targets, weights))
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the training loss became {loss} in round {number}; check the inputs for extreme "
            "values"
        )
    correct = float(task.correct(logits, samples.targets).sum())
    return {"train/loss": loss, "train/accuracy": correct / len(samples)}


def _check(model: nn.Module) -> None:
    """Refuse networks whose loss is no function of weights and labels alone."""
    for module in model.modules():
        random: Any = isinstance(module, _DropoutNd) and module.p > 0
        if random or isinstance(module, _BatchNorm):
            raise TypeError(
                f"trainer=lbfgs fits all labels at once, without noise, and the model has "
                f"{type(module).__name__}; choose model=logistic_regression, or trainer=default"
            )
