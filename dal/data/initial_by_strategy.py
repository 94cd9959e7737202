"""The first samples, chosen by where the features of the pool lie, before there is any model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from dal.data.feature_rows import feature_rows
from dal.data.source import Source, is_known
from dal.query.base import PoolView, Query, Strategy
from dal.query.needs import Features
from dal.utils.ranges import check_whole
from dal.utils.seeding import generator

__all__ = ["initial_by_strategy"]

log = logging.getLogger(__name__)


def initial_by_strategy(
    targets: Tensor,
    features: Tensor,
    num_classes: int,
    *,
    seed: int,
    strategy: Any,
    count: int,
) -> Tensor:
    """Choose the samples that are labeled before the first query by a strategy.

    It covers the pool, where random draws miss classes: with few labels the choice of the first
    ones decides most, if neighbors in the space of the features are alike. No label is looked at,
    but only samples whose label is known are chosen, where there are such; where there are none,
    people are asked about the chosen ones.

    Args:
        targets: See `dal.data.initial_labels`.
        features: float32, (N, D).
        num_classes: C.
        seed: Seed of the run.
        strategy: One that needs features and nothing else, such as `dal.query.TypiClust`.
        count: How many, at least 1.

    Returns:
        int64, sorted indices into the training part.

    Raises:
        ValueError: There are fewer samples, or the strategy needs more than features.
        TypeError: It is no strategy.
    """
    check_by_strategy(strategy=strategy, count=count)
    known = is_known(targets)
    candidates = (known if known.any() else torch.ones_like(known)).nonzero().squeeze(1)
    if count > len(candidates):
        whose = " whose label is known" if known.any() else ""
        raise ValueError(
            f"initial.count={count} but there are {len(candidates)} samples{whose}; lower it"
        )
    view = PoolView(
        candidates,
        {Features(): features[candidates], Features("labeled"): features[:0]},
        num_total=len(targets),
        num_classes=num_classes,
        multilabel=targets.ndim == 2,
    )
    query: Query = strategy.select(view, count, generator(seed, "initial"))
    chosen: Tensor = query.indices.sort().values
    return chosen


def check_by_strategy(*, strategy: Any, count: Any) -> None:
    """Refuse settings of `initial_by_strategy` that choose nothing from any data set.

    Raises:
        ValueError, TypeError: Naming the setting.
    """
    check_whole("initial.count", count, 1)
    name = type(strategy).__name__
    if not isinstance(strategy, Strategy):
        raise TypeError(
            f"initial.strategy is a {name}, no strategy; give one, such as initial=typiclust"
        )
    more = sorted(map(repr, strategy.needs - {Features(), Features("labeled")}))
    if more:
        raise ValueError(
            f"initial.strategy={name} needs {', '.join(more)}, and before the first label there is "
            "no model; choose initial=typiclust, centroids, herding, probcover or random"
        )


def start_features(source: Source) -> Tensor:
    """Where the samples that were there when the run began lie: float32, (N, D), on the CPU.

    Raises:
        TypeError: Samples are tensors by name of which nothing makes features.
    """
    begun = source.begun
    if source.embed is not None:
        return source.embedding[:begun]
    if len(source.input_shape) == 3:
        log.warning(
            "the first samples are chosen by pixels, which tell little of what pictures show; "
            "choose features=... first"
        )
    split = source.train.part(torch.arange(begun)) if source.appended else source.train
    return feature_rows(split, "an initial choice by features")
