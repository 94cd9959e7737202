"""Multinomial logistic regression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output
from dal.models.sparse import SparseLinear, is_sparse
from dal.utils.inputs import Inputs, InputSpec, one_shape
from dal.utils.memory import check_memory


class LogisticRegression(nn.Module):
    """One linear layer on the flattened input; its features are that input.

    Of texts the input is the weights of their terms, which stay sparse: `SparseLinear`. A network
    on these gives no features.

    Args:
        input_shape: Shape of one sample, flattened to D numbers; or shapes of ``terms`` and
            ``weights``.
        num_classes: Number of classes C.
        vocab_size: V, how many terms there are, where inputs are terms.

    Raises:
        TypeError: Inputs are tensors of other names.
        ValueError: The weights do not fit into memory.
    """

    text_encoder: ClassVar[str] = "ngrams"

    def __init__(
        self, input_shape: InputSpec, num_classes: int, vocab_size: int | None = None
    ) -> None:
        super().__init__()
        self.head: nn.Linear | SparseLinear
        if is_sparse(input_shape) and vocab_size is not None:
            check_memory(8 * vocab_size * num_classes, f"{vocab_size} terms: the weights")
            self.head = SparseLinear(vocab_size, num_classes)
        else:
            shape = one_shape(input_shape, "logistic_regression")
            self.head = nn.Linear(math.prod(shape), num_classes)

    @property
    def graphable(self) -> bool:
        """Whether it may be recorded: the backward pass of sparse rows goes by their values."""
        return isinstance(self.head, nn.Linear)

    def forward(self, x: Inputs) -> Output:
        """Logits (B, C) and features (B, D) of inputs (B, ...)."""
        if isinstance(x, dict):
            return Output(self.head(x), None)
        features = x.flatten(1)
        return Output(self.head(features), features)

    def stacked(self, tensors: Mapping[str, Tensor], x: Inputs) -> Output:
        """R of its kind at once; see `dal.models.base.StackedForward`."""
        weight, bias = tensors["head.weight"], tensors["head.bias"].unsqueeze(1)
        if isinstance(x, dict):
            tables, terms, values = weight.flatten(0, 1), x["terms"], x["weights"].flatten(0, 1)
            first = torch.arange(len(weight), device=terms.device) * weight.shape[1]
            terms = (terms + first.view(-1, 1, 1)).flatten(0, 1)
            sums = F.embedding_bag(terms, tables, mode="sum", per_sample_weights=values)
            return Output(torch.unflatten(sums, 0, (len(weight), -1)) + bias, None)
        features = x.flatten(2)
        return Output(torch.baddbmm(bias, features, weight.mT), features)
