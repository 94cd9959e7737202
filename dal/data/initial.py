"""Which training samples are labeled before the first query."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dal.data.draw import draw, draw_by_class
from dal.data.source import UNKNOWN
from dal.utils.seeding import generator


def initial_labels(
    targets: Tensor,
    *,
    seed: int,
    count: int | None = None,
    fraction: float | None = None,
    per_class: int | None = None,
    stratified: bool = False,
) -> Tensor:
    """Draw the samples whose labels are known from the start.

    Exactly one of ``count``, ``fraction`` and ``per_class`` says how many. At one seed, a larger
    random draw contains the smaller one, and so does a larger ``per_class``.

    Args:
        targets: int64 (N,), targets of the training part; only samples with a known target
            (not `UNKNOWN`) are drawn.
        seed: Seed of the run.
        count: Number of samples, at least 1.
        fraction: Share of the samples with a known target, in (0, 1]; rounded to the nearest
            number of samples.
        per_class: Number of samples of every class up to the highest class number there is.
        stratified: Draw ``count`` or ``fraction`` in class proportions (largest remainder) rather
            than at random; ``per_class`` is balanced anyway.

    Returns:
        int64, sorted indices into the training part.

    Raises:
        ValueError: If not exactly one amount is given, it is below 1 sample or more than there
            are, or there are no labeled samples at all.
    """
    amounts = {"count": count, "fraction": fraction, "per_class": per_class}
    given = [name for name, amount in amounts.items() if amount is not None]
    if len(given) != 1:
        raise ValueError(
            f"initial labels: {', '.join(given) or 'nothing'} given; "
            "give exactly one of initial.count, initial.fraction, initial.per_class"
        )
    if targets.ndim != 1:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)}; initial labels are drawn by class "
            "and need one class number a sample, shape (N,)"
        )
    known = torch.nonzero(targets != UNKNOWN).flatten()
    if len(known) == 0:
        raise ValueError("no training sample has a known label to start from; label a few first")
    rng = generator(seed, "initial")
    if per_class is not None:
        return _draw_per_class(targets, known, per_class, rng)
    wanted = _whole_count(count, fraction, len(known))
    return draw(targets, known, wanted, rng, stratified)


def _whole_count(count: int | None, fraction: float | None, available: int) -> int:
    if count is not None:
        setting, wanted = f"initial.count={count}", count
    else:
        setting = f"initial.fraction={fraction}"
        wanted = math.floor((fraction or 0) * available + 0.5)
    if wanted < 1:
        raise ValueError(f"{setting} makes no sample of {available}; it must make at least 1")
    if wanted > available:
        raise ValueError(
            f"{setting} but only {available} labeled samples are in the training part; lower it"
        )
    return wanted


def _draw_per_class(targets: Tensor, known: Tensor, per_class: int, rng: torch.Generator) -> Tensor:
    if per_class < 1:
        raise ValueError(f"initial.per_class={per_class} must be at least 1")
    counts = torch.bincount(targets[known])
    scarce = int(counts.argmin())
    if counts[scarce] < per_class:
        raise ValueError(
            f"initial.per_class={per_class} but class {scarce} has only {int(counts[scarce])} "
            "labeled samples in the training part; lower it or use initial.count"
        )
    return draw_by_class(targets, known, torch.full_like(counts, per_class), rng)
