"""By which probability of a label it is predicted, where a sample may have several."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = 0.5
"""The threshold of a label of which nothing is known."""


def best_thresholds(probs_NL: Tensor, targets_NL: Tensor) -> Tensor:
    """For each label the threshold of the largest F1 on some samples, over all cuts.

    A label is predicted where its probability is above its threshold. Only a cut between two
    different probabilities tells samples apart; the threshold is the middle between these (below
    the lowest, between it and 0). Of cuts with equal F1 that which predicts the fewest is taken. A
    label without a positive sample keeps one half.

    Args:
        probs_NL: float, (N, L), in [0, 1]; NaN counts as 0.
        targets_NL: int64, (N, L), 0 or 1.

    Returns:
        float64, (L,), in [0, 1].
    """
    probs, targets = probs_NL.double().nan_to_num(0.0), targets_NL.double()
    if len(probs) == 0:
        return torch.full((probs.shape[1],), HALF, dtype=torch.float64)
    falling, order = probs.sort(0, descending=True)
    true_positive = targets.gather(0, order).cumsum(0)
    said = torch.arange(1, len(probs) + 1, dtype=torch.float64, device=probs.device)
    positive = targets.sum(0)
    f1 = 2 * true_positive / (said.unsqueeze(1) + positive)
    below = torch.cat([falling[1:], torch.zeros_like(falling[:1])])
    f1 = f1.masked_fill(falling <= below, -1)  # no cut between equals
    best = f1.argmax(0, keepdim=True)  # the first of equals
    high, low = falling.gather(0, best).squeeze(0), below.gather(0, best).squeeze(0)
    middle = (high + low) / 2
    found = torch.where(middle < high, middle, low)  # neighbors among floats have no middle
    return torch.where(positive > 0, found, HALF).cpu()


def fitted_thresholds(probs_NL: Tensor, targets_NL: Tensor) -> Tensor:
    """For each label its `best_thresholds`, drawn to that of all labels where it has few samples.

    A label with k positive samples gets ``(k t + g) / (k + 1)``: t is its own best threshold, g the
    best of all labels' decisions taken together, which so counts as one positive sample does. The
    best cut of one or two positive samples is often so low that nearly everything is predicted.
    docs/training.md has what this was measured to gain.

    Args:
        probs_NL: float, (N, L), in [0, 1]; NaN counts as 0.
        targets_NL: int64, (N, L), 0 or 1.

    Returns:
        float64, (L,), in [0, 1]: one half where no label has a positive sample.
    """
    own = best_thresholds(probs_NL, targets_NL)
    together = best_thresholds(probs_NL.reshape(-1, 1), targets_NL.reshape(-1, 1))
    count = targets_NL.sum(0).double().cpu()
    return (count * own + together) / (count + 1)
