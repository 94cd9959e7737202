"""A linear layer on sparse rows: the numbers of a sample that are not 0, each with its place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.utils.inputs import InputSpec

TERMS = ("terms", "weights")
"""Names of the tensors of a sparse row; see `SparseLinear`."""


def is_sparse(spec: InputSpec) -> bool:
    """Whether inputs are sparse rows, as `SparseLinear` takes them."""
    return isinstance(spec, dict) and set(spec) == set(TERMS)


class SparseLinear(nn.Module):
    """``y = W' x + b`` of rows x of length V that are 0 but for at most L places.

    Weights start at 0: a linear model needs no other start, and so a term that no label tells
    anything of changes no prediction.

    Args:
        num_columns: V.
        num_outputs: Number of outputs C.

    Attributes:
        weight: float, (V, C), the other way round than in `torch.nn.Linear`.
        bias: float, (C,).
    """

    def __init__(self, num_columns: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_columns, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.zeros_(self.weight)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Outputs (B, C) of sparse rows.

        Args:
            x: ``terms``, int64, (B, L), in [0, V), each at most once in a row; and what stands
                there, ``weights``, float, (B, L). Places with the weight 0 change nothing, not
                even bits, and may repeat.
        """
        terms, weights = (x[name] for name in TERMS)
        sums = F.embedding_bag(terms, self.weight, mode="sum", per_sample_weights=weights)
        return sums + self.bias
