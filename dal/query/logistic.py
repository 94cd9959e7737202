"""Logistic regression on features, to its optimum: what strategies learn by themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.query.selection import blocks

STEPS = 200
"""Iterations of L-BFGS at most; a few dozen are usual."""


class Logistic:
    """Multinomial logistic regression, in float64 on the CPU.

    Features are centered and scaled by one number, so that their units play no part; the squared
    weights cost one half each, the intercepts nothing. O(M D C) an iteration.

    Args:
        rows_MD: float, (M, D), M >= 1.
        classes_M: int64, (M,), any numbers.

    Attributes:
        classes: int64, (C,), ascending, those that occur.
    """

    def __init__(self, rows_MD: Tensor, classes_M: Tensor) -> None:
        rows = rows_MD.cpu().double()
        self.classes, numbers = torch.unique(classes_M.cpu(), return_inverse=True)
        self._mean = rows.mean(0)
        spread = float((rows - self._mean).square().mean().sqrt())
        self._scale = spread or 1.0  # rows may all be the same
        self._weights, self._intercepts = _fitted((rows - self._mean) / self._scale, numbers)

    @property
    def weights(self) -> Tensor:
        """What a step of a row adds to its logits: float64, (D, C)."""
        return self._weights / self._scale

    def logits(self, rows_ND: Tensor) -> Tensor:
        """Logits of the classes that occur: float64, (N, C), on the CPU."""
        found = [
            ((block.cpu().double() - self._mean) / self._scale) @ self._weights + self._intercepts
            for _, block in blocks(rows_ND)
        ]
        return torch.cat(found)

    def probs(self, rows_ND: Tensor) -> Tensor:
        """Probabilities of the classes that occur: float64, (N, C), on the CPU."""
        return self.logits(rows_ND).softmax(1)

    def probs_of_all(self, rows_ND: Tensor, num_classes: int) -> Tensor:
        """Probabilities of classes 0 to C - 1, 0 for one that does not occur: float64, (N, C)."""
        found = torch.zeros(len(rows_ND), num_classes, dtype=torch.float64)
        found[:, self.classes] = self.probs(rows_ND)
        return found


def _fitted(rows_MD: Tensor, numbers_M: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (D, C) and intercepts (C,) of rows with classes 0 to C - 1; float64."""
    count = int(numbers_M.max()) + 1
    weights = torch.zeros(rows_MD.shape[1], count, dtype=torch.float64, requires_grad=True)
    intercepts = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, intercepts], max_iter=STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = rows_MD @ weights + intercepts
        value = torch.nn.functional.cross_entropy(logits, numbers_M, reduction="sum")
        value = value + weights.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), intercepts.detach()
