"""What small runs are made of, without a run."""

from __future__ import annotations

from typing import Any

import torch
from resume_job import dataset

import dal
from dal.data import Source, initial_labels, make_source
from dal.learners import Rounds, make_learner
from dal.models import MLP
from dal.query import Strategy
from dal.runs.parts import Parts
from dal.training.trainer import Trainer

SOURCE = make_source(dataset(), seed=0)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)


def parts(strategy: Strategy, source: Source = SOURCE, **options: Any) -> Parts:
    """Three overlapping Gaussians, nine initial labels, a network that learns for two epochs."""
    settings = dal.Settings(query_size=6, **options.pop("settings", {}))
    learner = make_learner(
        MLP,
        Trainer(epochs=2),
        source,
        source.task,
        Rounds(2),
        needs=strategy.needs,
        seed=0,
        device=torch.device("cpu"),
        batch_size=64,
    )
    return Parts(source, learner, strategy, INITIAL, settings=settings, **options)
