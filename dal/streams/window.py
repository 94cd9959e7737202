"""How typical an arriving sample is of those that came just before it."""

from __future__ import annotations

import torch
from torch import Tensor


def window_density(features_ND: Tensor, first: int, window: int) -> Tensor:
    """Mean of (1 + cos) / 2 between each sample and those in the window before it.

    O(N D): a window's mean cosine is a product with the mean of its normalized rows.

    Args:
        features_ND: float, (N, D), in the order of arrival.
        first: Rows before it are looked back at only.
        window: How many samples before each are its window; fewer where fewer have come.

    Returns:
        Float64, (N - first,), in [0, 1]; 1 for a sample that nothing came before.

    Reference:
        B. Settles and M. Craven. An analysis of active learning strategies for sequence labeling
        tasks. EMNLP 2008 (information density); D. Ienco, I. Žliobaitė, B. Pfahringer. High
        density-focused uncertainty sampling for active learning over evolving stream data.
        BigMine 2014 (densities in a sliding window; theirs counts nearest neighbors).
    """
    rows = torch.nn.functional.normalize(features_ND.double(), eps=torch.finfo(torch.float32).tiny)
    sums = torch.cat([rows.new_zeros(1, rows.shape[1]), rows.cumsum(0)])
    places = torch.arange(first, len(rows), device=rows.device)
    begins = (places - window).clamp(min=0)
    counts = (places - begins).clamp(min=1)
    cosines = ((sums[places] - sums[begins]) * rows[places]).sum(1) / counts
    return ((1 + cosines) / 2).clamp(0, 1).masked_fill(places == begins, 1.0)
