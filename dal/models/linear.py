"""Multinomial logistic regression."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dal.models.base import Output
from dal.utils.inputs import one_shape


class LogisticRegression(nn.Module):
    """One linear layer on the flattened input; its features are that input.

    Args:
        input_shape: Shape of one sample; flattened to D numbers.
        num_classes: Number of classes C.
    """

    graphable = True

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(one_shape(input_shape, "logistic_regression")), num_classes)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, D) of inputs (B, ...)."""
        features = x.flatten(1)
        return Output(self.head(features), features)

    def stacked(self, tensors: Mapping[str, Tensor], x: Tensor) -> Output:
        """R of its kind at once; see `dal.models.base.StackedForward`."""
        features = x.flatten(2)
        weight, bias = tensors["head.weight"].mT, tensors["head.bias"].unsqueeze(1)
        return Output(torch.baddbmm(bias, features, weight), features)
