"""Multilayer perceptron."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence

from torch import Tensor, nn

from dal.models.base import Output
from dal.utils.inputs import one_shape
from dal.utils.memory import check_memory


class MLP(nn.Module):
    """Linear layers with ReLU, optionally with dropout after each.

    Args:
        input_shape: Shape of one sample; flattened.
        num_classes: Number of classes C.
        hidden: Width of each hidden layer; at least one.
        dropout: Probability of zeroing a hidden unit while training, in [0, 1).

    Raises:
        ValueError: ``hidden`` is empty, or a width or ``dropout`` is out of range, or the weights
            do not fit into memory.
    """

    graphable = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("mlp needs a hidden layer; for none use model=logistic_regression")
        if min(hidden) < 1:
            raise ValueError(f"model.hidden={list(hidden)}; every width must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout}; give a number from 0 to below 1")
        widths = [math.prod(one_shape(input_shape, "mlp")), *hidden]
        weights = sum(itertools.starmap(operator.mul, itertools.pairwise([*widths, num_classes])))
        check_memory(8 * weights, f"model.hidden={list(hidden)}")  # the weights and their gradients
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, hidden[-1]) of inputs (B, ...)."""
        features = self.body(x.flatten(1))
        return Output(self.head(features), features)
