"""Which learner trains a model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from dal.data.source import Source
from dal.learners.base import Learner
from dal.learners.building import first_model
from dal.learners.committees import Committee, Ensemble, Rounds
from dal.learners.deciding import check_fittable
from dal.learners.ensemble import EnsembleLearner
from dal.learners.estimator import EstimatorLearner
from dal.learners.network import TorchLearner
from dal.learners.propagation import PropagationLearner
from dal.models.base import MakeModel
from dal.models.label_propagation import LabelPropagation
from dal.query.needs import Members, Needs
from dal.task import Task
from dal.training.full_batch import FullBatch
from dal.training.trainer import Trainer
from dal.utils.memory import check_memory

log = logging.getLogger(__name__)


def make_learner(
    model: MakeModel,
    trainer: Trainer,
    source: Source,
    task: Task,
    committee: Committee,
    *,
    needs: Needs = frozenset(),
    seed: int,
    device: torch.device,
    batch_size: int | None = None,
    thresholds: str = "half",
) -> Learner:
    """The learner for what a model function builds.

    Args:
        model: Builds the network, the unfitted estimator, or a `LabelPropagation`.
        trainer: How networks are trained.
        source: The data.
        task: Loss, probabilities, metrics.
        committee: Who the members of a committee are, if a strategy asks for one.
        needs: Those of the strategy: an ensemble is fitted only where `Members` are among them.
        seed: Seed of the run.
        device: Where networks live.
        batch_size: Batch size of the pool pass; None for automatic.
        thresholds: Above which probability each of several labels is predicted: ``half``, or
            ``fitted``, see `dal.learners.deciding`.

    Raises:
        ValueError: The predictions of so many members do not fit into memory, labels would be held
            out for a fit that nothing stops early, or there is nothing to fit thresholds on.
        TypeError: There are no thresholds, as a sample has one class.
    """
    fits_thresholds = thresholds == "fitted"
    if fits_thresholds:
        check_fittable(task, trainer, source)
    built = first_model(model, source, seed)
    exact = isinstance(trainer, FullBatch) and not fits_thresholds
    trained = isinstance(built, nn.Module) and not isinstance(built, LabelPropagation)
    if source.validation_of_labels and (exact or not trained):
        name = "trainer=lbfgs" if trained else type(built).__name__
        raise ValueError(
            f"split.validation_of_labels={source.validation_of_labels} holds labels out to stop "
            f"early by, and {name} fits to the end; set it to 0"
        )
    rule = trainer.early_stopping
    if (
        not fits_thresholds
        and source.validation_of_labels
        and not (rule and rule.monitor.startswith("val/"))
    ):
        log.warning(
            "split.validation_of_labels=%g holds labels out, and no fit stops by them; set "
            "trainer.early_stopping.monitor=val/loss",
            source.validation_of_labels,
        )
    if isinstance(built, LabelPropagation):
        _say_unused(trainer, "label_propagation has no weights")
        return PropagationLearner(
            model, source, task, device=device, batch_size=batch_size, built=built
        )
    if not isinstance(built, nn.Module):
        _say_unused(trainer, f"{type(built).__name__} is a model of scikit-learn")
        return EstimatorLearner(model, source, task, seed=seed, batch_size=batch_size, built=built)
    if Members() in needs and not isinstance(committee, Rounds):  # kept at one time, as float32
        size = 4 * committee.size * len(source.train) * source.num_classes
        check_memory(size, f"committee.size={committee.size}")
    where: dict[str, Any] = {"seed": seed, "device": device, "batch_size": batch_size}
    where["thresholds"] = thresholds
    if isinstance(committee, Ensemble) and Members() in needs:
        return EnsembleLearner(model, trainer, source, task, committee, built=built, **where)
    return TorchLearner(model, trainer, source, task, committee, built=built, **where)


def _say_unused(trainer: Trainer, fact: str) -> None:
    """Warn of settings that somebody chose and that mean nothing for a model without steps.

    Not of those of which the configuration has other defaults than the class.
    """
    usual = vars(Trainer())
    silent = "epochs", "batch_size", "optimizer", "scheduler", "early_stopping"
    chosen = [
        f"trainer.{'precision' if key == 'dtype' else key}"
        for key, value in vars(trainer).items()
        if key in usual and key not in silent and value != usual[key]
    ]
    if chosen:
        log.warning("%s: %s plays no part", fact, ", ".join(chosen))
