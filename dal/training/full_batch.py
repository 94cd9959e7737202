"""Fits linear and small heads on all labels at once, to the optimum, in float64."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dal.models.base import forward, last_layer
from dal.models.sparse import SparseLinear
from dal.task import Multilabel, Task
from dal.training.context import FitContext, FitState, Samples
from dal.training.newton import minimize
from dal.training.rows import SparseRows
from dal.training.trainer import Trainer, weighed
from dal.utils.inputs import map_tensors, tensors_of
from dal.utils.ranks import leaving_together

__all__ = ["FullBatch"]

log = logging.getLogger(__name__)

HISTORY = 20
"""Past steps from which L-BFGS knows the curvature."""


class FullBatch(Trainer):
    """All labels at once, down to the optimum: no epochs, learning rate or early stopping to tune.

    It minimizes the sum of the samples' losses plus ``l2 / 2`` times the squared weights (biases
    are free). Of a linear model that is convex, strictly so in the weights because ``l2`` is above
    0: the fit ends at its one optimum, whatever weights it started from, so that strategies
    compared on equal labels meet equal models. It is the optimum of scikit-learn's
    ``LogisticRegression(C=1 / l2)`` for three or more classes; for two, of ``C=2 / l2``, as
    scikit-learn then penalizes the difference of the two rows of weights only; and for each of K
    labels that may hold together of ``C=1 / (K l2)``, as the loss is the mean over these, or with
    ``l2_by_label`` of ``C=1 / l2``. So it is with ``class_weights=balanced`` and scikit-learn's
    ``class_weight="balanced"``. A class without labels has no finite optimum of its bias; its
    probability falls until the fit ends.

    Linear models take Newton steps (`dal.training.newton`), which end there; networks with hidden
    layers L-BFGS, which ends at a local optimum, a different one from each start. Meant for
    features that do not change (``features=...``, tables): on 1,000 labels of 512 numbers a fit
    takes a fraction of a second. Sparse rows, such as terms of texts, stay sparse. Computed in
    float64; the weights are rounded to the network's own type at the end. Deterministic on a CPU.

    Args:
        l2: Strength of the penalty, above 0: without one, separable labels have no optimum.
        epochs: At most so many iterations; each is a pass over all labels, or some.
        tolerance: For linear models the distance from the optimum at which the fit ends: no logit
            of a labeled sample differs by more from what it is at the best weights. By strong
            convexity that is sure once ``|gradient| max|x| / l2`` is no larger. With hidden layers
            the largest entry of the gradient of the mean loss.
        restart: ``warm`` starts from the weights of the round before, which is faster; ``cold``
            from fresh ones.
        class_weights: ``balanced``: all classes count alike in the loss, however many labels they
            have; of labels that may hold together, yes and no of each count alike. A label that
            holds everywhere so far, or nowhere, is not weighed.
        l2_by_label: Of labels that may hold together: ``l2`` is the strength for each label's own
            loss, so that it means the same whatever the number of labels.

    Raises:
        ValueError: A value is out of range.

    Reference:
        D. C. Liu and J. Nocedal. On the limited memory BFGS method for large scale optimization.
        Mathematical Programming 45, 1989, algorithm 2.1.
    """

    weighs_labels = True

    def __init__(
        self,
        l2: float = 1.0,
        epochs: int = 1000,
        tolerance: float = 1e-5,
        restart: Literal["warm", "cold"] = "warm",
        class_weights: Literal["none", "balanced"] = "none",
        l2_by_label: bool = False,
    ) -> None:
        super().__init__(epochs=epochs, restart=restart, class_weights=class_weights)
        for name, value in (("l2", l2), ("tolerance", tolerance)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"trainer.{name}={value}; give a number above 0")
        self.l2, self.tolerance, self.l2_by_label = l2, tolerance, l2_by_label

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
            raise ValueError("there are no labeled samples to train on; raise initial.count")
        _check(model)
        if context.resume is not None:  # saved after the fit, so there is nothing left to do
            saved = dict(context.resume)
            model.load_state_dict(saved.pop("model"))
            return FitState(**saved)
        with leaving_together():
            state = self._solve(model, samples, task, context)
        if context.evaluate is not None:
            state.history[0] |= {f"val/{k}": value for k, value in context.evaluate().items()}
        context.on_epoch(state, lambda: {**vars(state), "model": model.state_dict()})
        return state

    @property
    def is_cheap(self) -> bool:
        """Whether a fit may be done again on parts of the labels: so it may."""
        return True

    def forgets_start(self, model: nn.Module) -> bool:
        """Whether fits from any two starting weights end at the same weights.

        They do where the loss has a single optimum: for linear models.
        """
        return _is_linear(model)

    def _solve(
        self, model: nn.Module, samples: Samples, task: Task, context: FitContext
    ) -> FitState:
        """The model changes at the end only: a fit that a signal ends is done again."""
        number = context.round
        exact = copy.deepcopy(model).double().eval()
        exact = exact.to(memory_format=torch.contiguous_format)  # L-BFGS flattens all gradients
        if self.class_weights == "balanced":
            samples = weighed(samples)
        l2 = self.l2 / task.num_classes if self.l2_by_label and not task.exclusive else self.l2
        problem = _Problem(samples, task, l2, context.check)
        descend = self._descend_linear if _is_linear(exact) else self._descend
        steps, converged = descend(exact, problem)
        with torch.no_grad():
            metrics = _metrics(exact, problem, number)
        model.load_state_dict(exact.state_dict())
        if not converged:
            log.warning(
                "round %d: the fit did not converge within trainer.epochs=%d iterations; raise "
                "them, or trainer.l2",
                number,
                self.epochs,
            )
        stopped = "converged" if converged else "epochs"
        return FitState(epoch=1, steps=steps, best_epoch=0, history=[metrics], stopped=stopped)

    def _descend(self, model: nn.Module, problem: _Problem) -> tuple[int, bool]:
        """L-BFGS for networks with hidden layers: iterations, and whether they were enough."""
        unknowns = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.LBFGS(
            unknowns,
            max_iter=self.epochs,
            max_eval=4 * self.epochs,
            tolerance_grad=self.tolerance * problem.total,
            tolerance_change=1e-14,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            penalized = torch.stack([p.square().sum() for p in unknowns if p.ndim > 1]).sum()
            value = problem.value(forward(model, problem.inputs).logits)
            value = value + problem.l2 / 2 * penalized
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        steps = int(optimizer.state[unknowns[0]]["n_iter"])
        return steps, steps < self.epochs

    def _descend_linear(self, model: nn.Module, problem: _Problem) -> tuple[int, bool]:
        """Newton steps for a last layer on features that do not change.

        Features are centered; with fewer samples than features the weights are sought in the span
        of the samples, where the optimum lies. The bias is the weight of a last column of ones.
        """
        if isinstance(model.head, SparseLinear):
            return self._descend_sparse(model.head, problem)
        head = last_layer(model)
        assert head is not None
        with torch.no_grad():
            features = forward(model, problem.inputs).features
        if features is None:
            return self._descend(model, problem)
        with torch.no_grad():
            mean = features.mean(0)
            rows, basis = _within_span(features - mean)
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
            bias = head.bias + head.weight @ mean
            start = torch.cat([head.weight @ basis, bias.unsqueeze(1)], 1)
            penalty = torch.full_like(rows[0], problem.l2)
            penalty[-1] = 0
            enough = self.tolerance * problem.l2 / float(rows.norm(dim=1).max())
            least = minimize(problem, rows, start, penalty, enough=enough, most=self.epochs)
            head.weight.copy_(least.weights[:, :-1] @ basis.T)
            head.bias.copy_(least.weights[:, -1] - head.weight @ mean)
        return least.steps, least.converged

    @torch.no_grad()
    def _descend_sparse(self, head: SparseLinear, problem: _Problem) -> tuple[int, bool]:
        """As `_descend_linear`, of the columns that any sample has; the optimum of others is 0."""
        assert isinstance(problem.inputs, dict)
        terms, values = problem.inputs["terms"], problem.inputs["weights"]
        there = values != 0
        columns, places = torch.unique(terms[there], return_inverse=True)
        rows = SparseRows(places, values[there], there.sum(1), len(columns) + 1)
        start = torch.cat([head.weight[columns].T, head.bias.unsqueeze(1)], 1)
        penalty = torch.full_like(start[0], problem.l2)
        penalty[-1] = 0
        problem.apart = isinstance(problem.task, Multilabel)
        enough = self.tolerance * problem.l2 / rows.longest()
        least = minimize(problem, rows, start, penalty, enough=enough, most=self.epochs)
        problem.apart = False
        head.weight.zero_()
        head.weight[columns] = least.weights[:, :-1].T
        head.bias.copy_(least.weights[:, -1])
        return least.steps, least.converged


class _Problem:
    """The labeled samples and the sum of their losses, in float64.

    What ``check`` raises ends whatever goes on asking for them.

    Attributes:
        total: Weight of all samples together.
        l2: Strength of the penalty.
        apart: Each label has a loss of its own, whose sum is that of the samples' losses.
    """

    def __init__(self, samples: Samples, task: Task, l2: float, check: Callable[[], None]) -> None:
        self.task, self.targets, self.l2, self.check = task, samples.targets, l2, check
        self.apart = False
        self.weights = None if samples.weights is None else samples.weights.double()
        self.total = float(len(samples) if self.weights is None else self.weights.sum())
        if self.weights is not None and self.weights.ndim == 2:
            self.total /= self.weights.shape[1]
        everything = torch.arange(len(samples), device=samples.targets.device)
        self.inputs = map_tensors(_exact, samples.take(everything))
        if not all(tensor.isfinite().all() for tensor in tensors_of(self.inputs)):
            raise FloatingPointError(
                "the inputs of the labeled samples hold NaN or infinity; check them for extreme "
                "values"
            )

    def value(self, logits_MC: Tensor) -> Tensor:
        """The sum of the losses at some logits, in nats: a scalar, or (C, 1) where `apart`."""
        self.check()
        if self.apart:
            assert isinstance(self.task, Multilabel)
            losses_MC = self.task.losses_by_label(logits_MC, self.targets)
            if self.weights is not None:
                losses_MC = losses_MC * self._by_logit
            return losses_MC.sum(0).unsqueeze(1) / losses_MC.shape[1]
        return self.total * self.task.loss(logits_MC, self.targets, self.weights)

    def bend(self, logits_MC: Tensor, moves_MC: Tensor) -> Tensor:
        """Second derivative of the sum, times a move of the logits: (M, C)."""
        self.check()
        product_MC = self.task.hessian_product(logits_MC, moves_MC)
        return product_MC if self.weights is None else self._by_logit * product_MC

    @property
    def _by_logit(self) -> Tensor:
        """The weight of each logit, or of each sample: (M, C) or (M, 1)."""
        assert self.weights is not None
        return self.weights if self.weights.ndim == 2 else self.weights.unsqueeze(1)


def _exact(tensor: Tensor) -> Tensor:
    """Fractions in float64; whole numbers, such as token ids, as they are."""
    return tensor.double() if tensor.is_floating_point() else tensor


def _is_linear(model: nn.Module) -> bool:
    """Whether nothing but a last layer is trained."""
    head = getattr(model, "head", None)
    moving = {id(p) for p in model.parameters() if p.requires_grad}
    if not isinstance(head, nn.Linear | SparseLinear):
        return False
    return moving == {id(head.weight), id(head.bias)}


def _within_span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, D) as coordinates (M, r) in an orthonormal basis (D, r), r = min(M, D)."""
    if len(rows) >= rows.shape[1]:
        return rows, torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    basis, upper = torch.linalg.qr(rows.T)
    return upper.T.contiguous(), basis


def _metrics(model: nn.Module, problem: _Problem, number: int) -> dict[str, float]:
    """Loss without penalty and accuracy on the labels."""
    logits = forward(model, problem.inputs).logits
    loss = float(problem.value(logits)) / problem.total
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the training loss became {loss} in round {number}; check the inputs for extreme "
            "values"
        )
    correct = float(problem.task.correct(logits, problem.targets).sum())
    return {"train/loss": loss, "train/accuracy": correct / len(problem.targets)}


def _check(model: nn.Module) -> None:
    """Refuse networks whose loss is no function of weights and labels alone."""
    for module in model.modules():
        random: Any = isinstance(module, _DropoutNd) and module.p > 0
        if random or isinstance(module, _BatchNorm):
            raise TypeError(
                f"trainer=lbfgs fits all labels at once, without noise, and the model has "
                f"{type(module).__name__}; choose model=logistic_regression, or trainer=default"
            )
