"""Samples as rows of a matrix, dense or sparse, for `dal.training.newton`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

CURVATURE_ROWS = 2048
"""Samples from which the preconditioner is made: it decides the speed, not the minimum."""

Precondition = Callable[[Tensor], Tensor]
"""Divides (C, K) by something close to the Hessian."""
Curvatures = Iterator[Tensor]
"""Second derivatives of a loss with respect to each logit alone: (M,) of each output."""


class Rows(Protocol):
    """The samples as rows X (M, K) of float64.

    Attributes:
        patience: A preconditioner serves again after steps of so many products.
        rough: Precision of products with the Hessian. Its error is no error of the minimum, which
            the gradient decides.
    """

    patience: int
    rough: torch.dtype

    def logits(self, weights_CK: Tensor) -> Tensor:
        """``X W'``: (M, C), in the precision of the weights."""

    def pulled(self, of_MC: Tensor) -> Tensor:
        """``G' X``: (C, K), in the precision of what is given for each logit."""

    def longest(self) -> float:
        """Length of the longest row."""

    def preconditioner(
        self, curvatures: Callable[[], Curvatures], penalty_K: Tensor
    ) -> Precondition:
        """What divides by an approximation of the Hessian."""


class DenseRows:
    """See `Rows`.

    Args:
        rows_MK: float64.
    """

    patience = 15
    rough = torch.float64

    def __init__(self, rows_MK: Tensor) -> None:
        self.rows_MK = rows_MK

    def logits(self, weights_CK: Tensor) -> Tensor:
        """See `Rows.logits`."""
        return self.rows_MK @ weights_CK.T

    def pulled(self, of_MC: Tensor) -> Tensor:
        """See `Rows.pulled`."""
        return of_MC.T @ self.rows_MK

    def longest(self) -> float:
        """See `Rows.longest`."""
        return float(self.rows_MK.norm(dim=1).max())

    def preconditioner(
        self, curvatures: Callable[[], Curvatures], penalty_K: Tensor
    ) -> Precondition:
        """By Cholesky's factor (K, K) of the Hessian, had all outputs their mean curvature."""
        every = -(-len(self.rows_MK) // CURVATURE_ROWS)
        mean_M, outputs = self.rows_MK.new_zeros(len(self.rows_MK)), 0
        for curvature_M in curvatures():
            mean_M, outputs = mean_M + curvature_M, outputs + 1
        rows, scale = self.rows_MK[::every], every / outputs
        matrix = rows.T @ (scale * mean_M[::every].unsqueeze(1) * rows)
        matrix.diagonal().add_(penalty_K.clamp_min(1e-3 * float(penalty_K.max())))
        factor: Tensor = torch.linalg.cholesky(matrix)
        return lambda rest_CK: torch.cholesky_solve(rest_CK.T, factor).T


class SparseRows:
    """See `Rows`: those of `dal.models.sparse.SparseLinear`, and a last column of ones.

    Kept by rows and by columns, so that both products go through memory in order, and each number
    of a result is summed by one thread: bits do not depend on how many there are.

    Args:
        columns: int64, (T,), below K - 1, of all samples behind each other.
        values: float64, (T,), what stands there.
        lengths: int64, (M,), how many of the T each sample has, in order.
        width: K.
    """

    patience = 0
    rough = torch.float32

    def __init__(self, columns: Tensor, values: Tensor, lengths: Tensor, width: int) -> None:
        each = torch.arange(len(lengths), device=columns.device)
        rows = torch.cat([each.repeat_interleave(lengths), each])
        columns = torch.cat([columns, torch.full_like(each, width - 1)])
        values = torch.cat([values, values.new_ones(len(lengths))])
        by_row, by_column = rows.argsort(stable=True), columns.argsort(stable=True)
        counts = columns.bincount(minlength=width)
        squares = values.square()
        self._by_row = _Bags(columns[by_row], values[by_row], lengths + 1)
        self._by_column = _Bags(rows[by_column], values[by_column], counts)
        self._squares = _Bags(rows[by_column], squares[by_column], counts)
        lengths_M = squares.new_zeros(len(lengths)).index_add(0, rows, squares).sqrt()
        self._longest = float(lengths_M.max())

    def logits(self, weights_CK: Tensor) -> Tensor:
        """See `Rows.logits`."""
        return self._by_row.sums(weights_CK.T)

    def pulled(self, of_MC: Tensor) -> Tensor:
        """See `Rows.pulled`."""
        return self._by_column.sums(of_MC).T

    def longest(self) -> float:
        """See `Rows.longest`."""
        return self._longest

    def preconditioner(
        self, curvatures: Callable[[], Curvatures], penalty_K: Tensor
    ) -> Precondition:
        """By the diagonal of the Hessian."""
        bends_MC = torch.stack(list(curvatures()), 1).to(self.rough)
        diagonal_CK = self._squares.sums(bends_MC).T + penalty_K.to(self.rough)
        diagonal_CK = diagonal_CK.clamp_min(torch.finfo(self.rough).tiny)
        return lambda rest_CK: rest_CK / diagonal_CK


class _Bags:
    """Weighted sums of rows of a table.

    Args:
        places: int64, (T,), rows of the table, those of all sums behind each other.
        values: float64, (T,), the weight of each.
        counts: int64, (N,), how many of the T each sum has.
    """

    def __init__(self, places: Tensor, values: Tensor, counts: Tensor) -> None:
        self.places, self.starts = places, counts.cumsum(0) - counts
        self.values = {kind: values.to(kind) for kind in (torch.float64, torch.float32)}

    def sums(self, table: Tensor) -> Tensor:
        """The sums (N, D) of a table (., D), in its precision."""
        values = self.values[table.dtype]
        return F.embedding_bag(
            self.places, table.contiguous(), self.starts, mode="sum", per_sample_weights=values
        )
