"""Which training samples are labeled before the first query, or asked about."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dal.data.draw import draw, draw_by_class
from dal.data.initial_by_strategy import check_by_strategy, initial_by_strategy, start_features
from dal.data.source import Source, is_known
from dal.utils.arrays import as_tensor
from dal.utils.ranges import check_number, check_whole
from dal.utils.seeding import generator

__all__ = ["initial_labels"]


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
    random draw contains the smaller one, and so does a larger ``per_class`` where a sample has
    one class.

    Args:
        targets: int64 (N,), targets of the training part, a tensor or an array; only samples with
            a known target (not `UNKNOWN`) are drawn. Multi-label targets are int64 (N, C), 0 or 1.
        seed: Seed of the run.
        count: Number of samples, at least 1.
        fraction: Share of the samples with a known target, in (0, 1]; rounded to the nearest
            number of samples.
        per_class: Number of samples of every class up to the highest class number there is. Of
            multi-label sets, at least so many samples that have the label, for every label: the
            rarest label comes first, and a sample counts for all labels it has.
        stratified: Draw ``count`` or ``fraction`` in class proportions (largest remainder) rather
            than at random; ``per_class`` is balanced anyway. Not for multi-label sets.

    Returns:
        int64, sorted indices into the training part.

    Raises:
        ValueError: If not exactly one amount is given, it is below 1 sample or more than there
            are, there are no labeled samples at all, or multi-label sets are to be stratified.
    """
    check_amounts(count, fraction, per_class)
    targets = as_tensor(targets, "targets")
    if targets.ndim not in (1, 2):
        raise ValueError(
            f"targets of shape {tuple(targets.shape)}; give one class number a sample, shape (N,), "
            "or a row of 0 and 1 for each, shape (N, C)"
        )
    multilabel = targets.ndim == 2
    if multilabel and stratified:
        raise ValueError(
            "initial.stratified=true draws in class proportions, and multi-label samples have no "
            "one class; use initial.stratified=false, or initial=per_class"
        )
    known = torch.nonzero(is_known(targets)).flatten()
    if len(known) == 0:
        raise ValueError(
            "no training sample has a known label to start from; label a few first, or give "
            "dal.run a dal.data.initial.ColdStart of samples to ask people about"
        )
    rng = generator(seed, "initial")
    if per_class is not None:
        draw_each = _draw_per_label if multilabel else _draw_per_class
        return draw_each(targets, known, per_class, rng)
    wanted = _whole_count(count, fraction, len(known))
    return draw(targets, known, wanted, rng, stratified)


@dataclass(frozen=True)
class ColdStart:
    """What people are asked before the first round, where no label is known.

    Their answers are paid, and are no part of the budget.

    Attributes:
        indices: int64, the samples that are asked about first. Where they give no label at all, as
            many others are asked about.
        per_class: Ask about as many others, at random, until every class has so many labels; None
            to ask once. It ends where no sample is left, or `MOST` times as many answers as that
            takes at least are given: a class may have no sample at all.
    """

    indices: Tensor
    per_class: int | None = None


MOST = 10
"""A cold start with ``per_class`` asks for so many times the labels that it needs, at most."""


def start_of(
    initial: partial[Tensor] | Callable[..., Tensor], source: Source, seed: int
) -> Tensor | ColdStart:
    """The samples that a run begins with, or asks about where none of them has a known label.

    Args:
        initial: `initial_labels` or `initial_by_strategy` with its settings, or a function like the
            first.
        source: The data; samples that came after the run had begun are left out.
        seed: Seed of the run.

    Raises:
        ValueError: See `initial_labels`, `cold_start` and `initial_by_strategy`.
    """
    targets = source.train.targets[: source.begun]
    function = initial.func if isinstance(initial, partial) else None
    if function is initial_by_strategy:
        found = initial(targets, start_features(source), source.num_classes, seed=seed)
        return found if is_known(targets).any() else ColdStart(found)
    if isinstance(initial, partial) and function is initial_labels and not is_known(targets).any():
        return cold_start(len(targets), source.num_classes, seed=seed, **initial.keywords)
    return initial(targets=targets, seed=seed)


def check_initial(initial: partial[Tensor]) -> None:
    """Refuse settings that draw nothing from any data set.

    Raises:
        ValueError, TypeError: See `check_amounts` and `check_by_strategy`.
    """
    checks: dict[Callable[..., Tensor], Callable[..., None]] = {
        initial_labels: check_amounts,
        initial_by_strategy: check_by_strategy,
    }
    if initial.func in checks:
        checks[initial.func](**initial.keywords)


def cold_start(
    num_total: int,
    num_classes: int,
    *,
    seed: int,
    count: int | None = None,
    fraction: float | None = None,
    per_class: int | None = None,
    stratified: bool = False,
) -> ColdStart:
    """Draw the samples that people are asked about first.

    Args:
        num_total: Number of samples.
        num_classes: Number of classes.
        seed: Seed of the run.
        count: See `initial_labels`: so many are asked about.
        fraction: Refused: it is a share of the known labels.
        per_class: See `ColdStart`; so many times the number of classes are asked about first.
        stratified: Refused: classes are not known yet.

    Raises:
        ValueError: The setting means known labels, or there are fewer samples.
    """
    check_amounts(count, fraction, per_class)
    if fraction is not None or stratified:
        setting = "initial.stratified=true" if fraction is None else f"initial.fraction={fraction}"
        setting = "initial=all" if fraction == 1 else setting
        raise ValueError(
            f"{setting} goes by known labels, and no training sample has one; ask people first: "
            "initial=random initial.count=20, or initial=per_class"
        )
    size = count if count is not None else min((per_class or 0) * num_classes, num_total)
    if size > num_total:
        raise ValueError(f"initial.count={count} but there are {num_total} samples; lower it")
    everyone = torch.arange(num_total)
    return ColdStart(draw(everyone, everyone, size, generator(seed, "initial"), False), per_class)


def check_amounts(
    count: int | None = None,
    fraction: float | None = None,
    per_class: int | None = None,
    stratified: bool = False,
) -> None:
    """Refuse settings of `initial_labels` that draw nothing from any data set.

    Raises:
        ValueError: Naming the setting.
    """
    amounts = {"count": count, "fraction": fraction, "per_class": per_class}
    _check_one_given(**amounts)
    for name, amount in amounts.items():
        if amount is not None and name == "fraction":
            check_number("initial.fraction", amount, positive=True)
        elif amount is not None:
            check_whole(f"initial.{name}", amount, 1)


def _check_one_given(**amounts: float | None) -> None:
    given = [name for name, amount in amounts.items() if amount is not None]
    if len(given) != 1:
        raise ValueError(
            f"initial labels: {', '.join(given) or 'nothing'} given; "
            "give exactly one of initial.count, initial.fraction, initial.per_class, and set the "
            "others to null"
        )


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
            f"{setting} but only {available} labeled samples are in the training part; lower it, "
            "or take all of them (initial=all)"
        )
    return wanted


def _draw_per_class(targets: Tensor, known: Tensor, per_class: int, rng: torch.Generator) -> Tensor:
    counts = torch.bincount(targets[known])
    _check_per_class(per_class, counts)
    return draw_by_class(targets, known, torch.full_like(counts, per_class), rng)


def _draw_per_label(targets: Tensor, known: Tensor, per_class: int, rng: torch.Generator) -> Tensor:
    counts = targets[known].sum(0)
    _check_per_class(per_class, counts)
    ranks = torch.randperm(len(targets), generator=rng)
    shuffled = known[ranks[known].argsort()]
    picked = torch.zeros(len(targets), dtype=torch.bool)
    for label in counts.argsort(stable=True).tolist():
        having = shuffled[targets[shuffled, label] == 1]
        missing = max(per_class - int(picked[having].sum()), 0)
        picked[having[~picked[having]][:missing]] = True
    return picked.nonzero().squeeze(1)


def _check_per_class(per_class: int, counts: Tensor) -> None:
    scarce = int(counts.argmin())
    if counts[scarce] < per_class:
        raise ValueError(
            f"initial.per_class={per_class} but class {scarce} has only {int(counts[scarce])} "
            "labeled samples in the training part; lower it or use initial.count"
        )
