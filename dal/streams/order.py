"""The order in which the samples of a data set arrive."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Order = Literal["own", "shuffled", "drifting"]
ORDERS: tuple[Order, ...] = get_args(Order)


def drifting(targets: Tensor, drift: float, rng: torch.Generator) -> Tensor:
    """Classes come one after another by degrees, in the order of their numbers.

    Each sample arrives at drift · a + (1 - drift) · b: a is uniform in the part of [0, 1] that is
    its class's own, as wide as its share of the samples, b uniform in [0, 1]. With drift 1 each
    class comes whole before the next, with 0 all come mixed; between them a class is frequent
    around its own time and rare far from it.

    Args:
        targets: int64, (N,), classes, all known.
        drift: In [0, 1].
        rng: Source of a and b.

    Returns:
        int64, (N,), the samples in the order of their arrival.
    """
    counts = torch.bincount(targets).double()
    begins = (counts.cumsum(0) - counts)[targets]
    own, any_time = torch.rand(2, len(targets), generator=rng, dtype=torch.float64)
    classwise = (begins + own * counts[targets]) / max(1, len(targets))
    times: Tensor = drift * classwise + (1 - drift) * any_time
    return times.argsort(stable=True)


def arrival_order(
    order: Order, positions: Tensor, targets: Tensor, drift: float, rng: torch.Generator
) -> Tensor:
    """The samples of a training part in the order of their arrival.

    Args:
        order: ``own``: as they lie in the data set's own arrays; ``shuffled``; ``drifting``.
        positions: int64, (N,), where each stands in these arrays.
        targets: int64, (N,) or (N, L); `drifting` looks at them.
        drift: See `drifting`.
        rng: Source of randomness.

    Returns:
        int64, (N,).
    """
    if order == "drifting":
        return drifting(targets, drift, rng)
    if order == "shuffled":
        return torch.randperm(len(positions), generator=rng)
    return positions.argsort(stable=True)
