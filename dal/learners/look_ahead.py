"""Risk over the pool after one more label: by fitting again, or by a Newton step of the last layer.

What answers the need `LookAhead`. The risk of a model is the mean entropy of its predictions, in
nats, over a reference: the same samples of the pool for every candidate and label. A candidate that
is in the reference stays in it, also when its own label is tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dal.models.fitted import Floats, Integers, fit_estimator
from dal.query.selection import random_keys

MOST_FITS = 20_000
"""More fits than these are refused: at 2 ms each they would take over half a minute a round."""
LARGEST_SYSTEM = 6_000
"""Weights of a last layer, C (D + 1), up to which the Newton step is offered: 288 MB in float64."""
DAMPING = 1.0
"""Precision of the Gaussian prior on the last layer's weights."""
BLOCK_NUMBERS = 2**22
"""Numbers in each of the few large tensors of a block of candidates: 16 MiB in float32."""


def reference_positions(
    indices: Tensor, count: int, num_total: int, rng: torch.Generator
) -> Tensor:
    """Positions of the reference samples among the candidates.

    Those with the smallest of random keys drawn over the whole training part, so that neither the
    order of the candidates nor, as far as they remain, the other candidates decide.

    Args:
        indices: int64, (N,), the candidates.
        count: How many; all of them where there are fewer.
        num_total: Size of the training part.
        rng: CPU generator, derived from the run's seed.

    Returns:
        int64, (min(N, count),), in ascending order of the indices they stand for.
    """
    keys = random_keys(num_total, rng)[indices.cpu()]
    chosen = keys.argsort()[:count]
    return chosen[indices.cpu()[chosen].argsort()].to(indices.device)


def retrained_risk(
    template: Any,
    inputs_MD: Floats,
    targets_M: Integers,
    weights_M: Floats | None,
    candidates_ND: Floats,
    reference_RD: Floats,
    num_classes: int,
    *,
    seed: int,
    check: Callable[[], None] = lambda: None,
    description: str = "look-ahead",
) -> Tensor:
    """Risk after fitting again with each candidate and each label: exact, N x C fits.

    All fits share one random state, so that chance does not tell candidates apart.

    Args:
        template: An unfitted classifier.
        inputs_MD: float64, (M, D), the labeled samples.
        targets_M: int64, (M,).
        weights_M: float64, (M,), or None for equal ones; the new sample weighs 1.
        candidates_ND: float64, (N, D).
        reference_RD: float64, (R, D), the samples of the risk.
        num_classes: C.
        seed: Of the random state.
        check: Called before each candidate; may raise to abandon.
        description: Shown at the progress bar.

    Returns:
        float32, (N, C), in nats, in [0, ln C].

    Raises:
        ValueError: There would be more than `MOST_FITS` fits.
    """
    from sklearn.exceptions import ConvergenceWarning

    fits = len(candidates_ND) * num_classes
    if fits > MOST_FITS:
        raise ValueError(
            f"looking ahead would fit {fits} times ({len(candidates_ND)} candidates x "
            f"{num_classes} labels), and more than {MOST_FITS} are refused; set "
            f"candidates={MOST_FITS // num_classes} or fewer, or choose another strategy"
        )
    inputs = np.concatenate([inputs_MD, candidates_ND[:1]])
    targets = np.append(targets_M, 0)
    weights = None if weights_M is None else np.append(weights_M, 1.0)
    risk_NC = torch.empty(len(candidates_ND), num_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the round's own fit has shown it
        for row, candidate in enumerate(
            tqdm(candidates_ND, description, leave=False, disable=None)
        ):
            check()
            inputs[-1] = candidate
            for label in range(num_classes):
                targets[-1] = label
                model = fit_estimator(template, inputs, targets, weights, num_classes, seed)
                probs_RC = torch.from_numpy(model.probs(reference_RD))
                risk_NC[row, label] = torch.special.entr(probs_RC).sum(1).mean()
    return risk_NC
