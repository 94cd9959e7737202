"""Which learner trains a model."""

from __future__ import annotations

import torch

from dal.data.source import Source
from dal.learners.base import Learner
from dal.learners.committees import Committee
from dal.learners.network import TorchLearner
from dal.models.base import MakeModel
from dal.task import Task
from dal.trainer import Trainer


def make_learner(
    model: MakeModel,
    trainer: Trainer,
    source: Source,
    task: Task,
    committee: Committee,
    *,
    seed: int,
    device: torch.device,
    batch_size: int | None = None,
) -> Learner:
    """The learner for what a model function builds.

    Args:
        model: Builds a network.
        trainer: How networks are trained.
        source: The data.
        task: Loss, probabilities, metrics.
        committee: Who the members of a committee are, if a strategy asks for one.
        seed: Seed of the run.
        device: Where networks live.
        batch_size: Batch size of the pool pass; None for automatic.
    """
    return TorchLearner(
        model, trainer, source, task, committee, seed=seed, device=device, batch_size=batch_size
    )
