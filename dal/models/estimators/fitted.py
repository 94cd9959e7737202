"""scikit-learn classifiers fitted on the classes there are, answering for all C of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dal.models.base import Output
from dal.utils.inputs import Inputs, one_tensor
from dal.utils.seeding import derive

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FLOOR = 1e-12
"""Probabilities below it become logits as if they were it: a loss of at most 27.6 nats a sample."""


class Fitted:
    """What a fitted estimator says of inputs, with one column a class, in class order.

    Classes without a label have probability 0. Estimators without probabilities (support vector
    machines, passive-aggressive) get the softmax of their decision values, with (-f/2, f/2) for
    two classes, which is the sigmoid of f: it ranks as the distances do, and is not calibrated.

    Args:
        estimator: The fitted estimator, or None where there is one class only.
        classes: int, the class of each column of the estimator.
        num_classes: C.
    """

    def __init__(self, estimator: Any, classes: Integers, num_classes: int) -> None:
        self.estimator, self.num_classes = estimator, num_classes
        self.classes = np.asarray(classes, dtype=np.int64)

    def probs(self, inputs_ND: Floats) -> Floats:
        """Class probabilities: float64, (N, C), rows sum to one."""
        if self.estimator is None:
            return self._columns(np.ones((len(inputs_ND), 1)))
        if hasattr(self.estimator, "predict_proba"):
            return self._columns(self.estimator.predict_proba(inputs_ND))
        values = self._decision(inputs_ND)
        values = values / 2 if values.shape[1] == 2 else values
        powers = np.exp(values - values.max(1, keepdims=True))
        return self._columns(powers / powers.sum(1, keepdims=True))

    def decision(self, inputs_ND: Floats) -> Floats:
        """Decision values f: float64, (N, C); (N, 1) for C = 2, positive for the second class.

        The value of a machine a pair of classes (`sklearn.svm.SVC`) is 0 for the class predicted
        and -|f_ij| for another class j, where f_ij is the value of the predicted class i against
        j: its own columns ("ovr") are votes, in which the distance to a boundary hardly counts.

        A class without a label gets the lowest value of its row; with labels of one class there is
        no boundary yet, and all values are 0. They are not divided by the length of the normal.
        """
        if self.estimator is None:
            values = np.zeros((len(inputs_ND), 1))
        elif self.num_classes > 2 and hasattr(self.estimator, "decision_function_shape"):
            values = behind_winner(pairwise(self.estimator, inputs_ND), len(self.classes))
        else:
            values = self._decision(inputs_ND)
        full = np.repeat(values.min(1, keepdims=True), self.num_classes, axis=1)
        full[:, self.classes] = values
        return full[:, 1:] if self.num_classes == 2 else full

    def members(self, inputs_ND: Floats) -> Floats:
        """Class probabilities of a committee's members: float64, (K, N, C)."""
        return np.stack([self._columns(p) for p in self.estimator.member_probs(inputs_ND)])

    def _decision(self, inputs_ND: Floats) -> Floats:
        """Decision values with the columns of the estimator, two of them for two classes."""
        values: Floats = self.estimator.decision_function(inputs_ND)
        return np.stack([-values, values], axis=1) if values.ndim == 1 else values

    def _columns(self, values: Floats) -> Floats:
        full = np.zeros((len(values), self.num_classes))
        full[:, self.classes] = values
        return full


def pairwise(machine: Any, inputs_ND: Floats) -> Floats:
    """Values of the machine of every pair i < j of C classes: float64, (N, C (C - 1) / 2).

    Positive for i; scikit-learn's single value of two classes is positive for the second.

    Args:
        machine: A fitted `sklearn.svm.SVC`; left as it is.
        inputs_ND: float64, (N, D).
    """
    machine = copy.copy(machine).set_params(decision_function_shape="ovo")
    values: Floats = machine.decision_function(inputs_ND)
    return values if values.ndim == 2 else -values[:, None]


def behind_winner(pairs_NP: Floats, num_classes: int) -> Floats:
    """How far each class is behind the class that wins most pairs: 0 for that one, else -|f_ij|.

    Args:
        pairs_NP: float64, (N, C (C - 1) / 2), for pairs i < j in lexical order, positive for i.
        num_classes: C.

    Returns:
        float64, (N, C), <= 0. Of classes with equal votes the first wins, as in LIBSVM.
    """
    first, second = np.triu_indices(num_classes, 1)
    values_NCC = np.zeros((len(pairs_NP), num_classes, num_classes))
    values_NCC[:, first, second] = pairs_NP
    values_NCC[:, second, first] = -pairs_NP
    wins_NCC = values_NCC > 0
    wins_NCC[:, second, first] |= pairs_NP == 0  # LIBSVM gives it to the second
    winners = wins_NCC.sum(2).argmax(1)
    of_winner: Floats = values_NCC[np.arange(len(pairs_NP)), winners]
    return 0.0 - np.abs(of_winner)


def fit_estimator(
    template: Any,
    inputs_ND: Floats,
    targets_N: Integers,
    weights_N: Floats | None,
    num_classes: int,
    seed: int,
) -> Fitted:
    """Fit a copy of an estimator; equal arguments give equal bits.

    Args:
        template: An unfitted classifier; left as it is.
        inputs_ND: float64, (N, D), N >= 1.
        targets_N: int64, (N,), in [0, C); classes may be missing.
        weights_N: float64, (N,), or None for equal ones.
        num_classes: C.
        seed: Every ``random_state`` of the copy is derived from it.

    Raises:
        ValueError: There are weights, and the estimator takes none.
    """
    from sklearn.utils.validation import has_fit_parameter

    classes = np.unique(targets_N)
    if len(classes) == 1 and not hasattr(template, "member_probs"):
        return Fitted(None, classes, num_classes)
    estimator = seeded_copy(template, seed)
    if weights_N is None:
        estimator.fit(inputs_ND, targets_N)
    elif has_fit_parameter(estimator, "sample_weight"):
        estimator.fit(inputs_ND, targets_N, sample_weight=weights_N)
    else:
        raise ValueError(
            f"{type(template).__name__} cannot weigh its samples, and the labels have weights; "
            "choose another model, or give all labels the weight 1"
        )
    return Fitted(estimator, estimator.classes_, num_classes)


def takes_weights(template: Any) -> bool:
    """Whether an estimator, and all members of a committee, can weigh the samples."""
    from sklearn.utils.validation import has_fit_parameter

    members = getattr(template, "members", ())
    return has_fit_parameter(template, "sample_weight") and all(map(takes_weights, members))


def seeded_copy(template: Any, seed: int) -> Any:
    """An unfitted copy whose ``random_state`` and those of its parts derive from a seed."""
    from sklearn.base import clone

    fresh = clone(template)
    names = [name for name in fresh.get_params() if name.split("__")[-1] == "random_state"]
    return fresh.set_params(**{name: derive(seed, name) % 2**32 for name in names})


def to_logits(probs_NC: Floats) -> Tensor:
    """Logits whose softmax are the probabilities, up to `FLOOR`: float32, (N, C)."""
    return torch.from_numpy(np.log(np.maximum(probs_NC, FLOOR))).float()


class EstimatorModule(nn.Module):
    """A fitted estimator as a module, which predicts wherever a network does.

    Args:
        fitted: The estimator.
    """

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.fitted = fitted

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, D), the flattened inputs, of inputs (B, ...).

        Logits of inputs that are not finite are NaN: forests would answer them as if a value was
        missing, and others raise without saying which sample it is.
        """
        inputs_BD = as_floats(x)
        strange_B = ~torch.from_numpy(inputs_BD).isfinite().all(1)
        with torch_threads():
            logits = to_logits(
                self.fitted.probs(np.nan_to_num(inputs_BD, nan=0, posinf=0, neginf=0))
            )
        logits[strange_B] = torch.nan
        return Output(logits.to(x.device), x.flatten(1))


def as_floats(inputs: Inputs) -> Floats:
    """Prepared inputs (N, ...) as scikit-learn takes them: float64, (N, D)."""
    one = one_tensor(inputs, "a scikit-learn model")
    floats: Floats = one.detach().flatten(1).double().cpu().numpy()
    return floats


@contextmanager
def torch_threads() -> Iterator[None]:
    """Let NumPy, SciPy and scikit-learn use as many threads as torch, since they decide bits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(torch.get_num_threads()):
        yield
