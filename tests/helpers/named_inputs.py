"""Networks on tensors by name, and the same networks on one tensor that holds all numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dal.models import MLP, Output
from dal.utils.inputs import Inputs

COUNT = 43
_RNG = torch.Generator().manual_seed(7)
TARGETS = torch.arange(COUNT) % 3
PARTS: dict[str, Tensor] = {
    "left": torch.randn(COUNT, 3, generator=_RNG) + TARGETS.unsqueeze(1),
    "right": torch.randn(COUNT, 2, generator=_RNG),
}
"""Two tensors of fractions."""
TOKENS: dict[str, Tensor] = {
    "ids": (torch.randint(0, 6, (COUNT, 5), generator=_RNG) + 2 * TARGETS.unsqueeze(1)) % 10,
    "mask": (torch.arange(5) < torch.randint(1, 6, (COUNT, 1), generator=_RNG)).long(),
}
"""Token ids, and which of them are there."""


class OfParts(MLP):
    """Takes parts by name, or side by side."""

    def __init__(self, input_shape: Any = None, num_classes: int = 3) -> None:
        super().__init__((5,), num_classes, hidden=(8,), dropout=0.3)

    def forward(self, x: Any) -> Output:
        return super().forward(torch.cat([x["left"], x["right"]], 1) if isinstance(x, dict) else x)


class OfTokens(nn.Module):
    """Takes ids and mask by name, or side by side as fractions."""

    def __init__(self, input_shape: Any = None, num_classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6, padding_idx=0)
        self.drop = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Inputs) -> Output:
        ids, mask = (x["ids"], x["mask"]) if isinstance(x, dict) else x.long().split(5, 1)
        weights = mask.unsqueeze(-1)
        features = self.norm((self.drop(self.embed(ids)) * weights).sum(1) / weights.sum(1))
        return Output(self.head(features), features)


Make = Callable[..., nn.Module]
CASES: dict[str, tuple[Make, dict[str, Tensor]]] = {
    "parts": (OfParts, PARTS),
    "tokens": (OfTokens, TOKENS),
}


def side_by_side(named: dict[str, Tensor]) -> Tensor:
    """All numbers of a sample in one row, as fractions."""
    return torch.cat([tensor.float() for tensor in named.values()], 1)


def network(make: Make, seed: int = 0) -> nn.Module:
    """A network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
