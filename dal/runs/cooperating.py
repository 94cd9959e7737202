"""Guesses that are learned from beside the answers: how they enter the ledger, and leave it.

In every round the candidates are guessed anew. A guess that stands stays one event; the ledger gets
what is new, what is guessed otherwise, and, as a guess that abstains, what is no longer sure.
Guesses are no labels: nothing counts them, pays for them, validates on them or shows them to a
strategy, and an answer replaces one.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from dal.cooperation import ModelItself
from dal.cooperation.base import Guesses
from dal.data.source import Source, is_known
from dal.events import NONE
from dal.query import PoolView
from dal.query.needs import LookAhead
from dal.query.selection import random_keys
from dal.runs.job import Job
from dal.runs.parts import Parts
from dal.runs.setting import Setting
from dal.train_set import TrainSet
from dal.training.trainer import Trainer
from dal.utils.clock import clock
from dal.utils.ranks import current, leaving_together
from dal.utils.seeding import generator

log = logging.getLogger(__name__)

MODEL = "model"
"""The annotator of a guess."""


def check_cooperation(parts: Parts, setting: Setting, trainer: Trainer) -> None:
    """Refuse to learn from guesses, or without labels, where a part of the run cannot.

    Raises:
        TypeError: Naming it, and the remedy.
    """
    cooperative, strategy = parts.cooperative, parts.strategy
    if trainer.learns_unlabeled and not setting.cooperates:
        raise TypeError(
            f"{type(trainer).__name__} learns from the candidates of every round, and with "
            f"{type(setting).__name__} they are not at hand; set setting=pool, or choose "
            "trainer=default"
        )
    if not cooperative.active:
        return
    name = type(cooperative).__name__
    if not setting.cooperates:
        raise TypeError(
            f"{name} guesses the candidates of every round, and {type(setting).__name__} does not "
            "predict them; set cooperative=none, or setting=pool"
        )
    if parts.task.kind not in cooperative.tasks:
        raise TypeError(
            f"{name} is meant for {' and '.join(sorted(cooperative.tasks))} targets, and those of "
            f"{parts.source.name} are {parts.task.kind}; choose cooperative=fixed or agreement"
        )
    if any(isinstance(need, LookAhead) for need in strategy.needs):
        raise TypeError(
            f"{type(strategy).__name__} tries what one more answer would teach, and a guess about "
            "the same sample would be learned from beside it; set cooperative=none, or choose "
            "another strategy"
        )
    _check_teacher(parts)
    if cooperative.weighs:
        parts.learner.check_weights("set cooperative.weight=1, or choose another model")


def cooperate(job: Job, view: PoolView) -> None:
    """Enter the confident guesses of the teacher, for the next fit to learn from.

    Args:
        job: The run; guesses of before that it does not hold any more are withdrawn.
        view: The candidates, with what the teacher needs.
    """
    if not job.parts.cooperative.active:
        return
    with clock(job.state.row, "cooperate_s"):
        answers = job.pool.train_set().answers()
        with leaving_together():
            check = job.interrupts.check
            probs = job.parts.cooperative.teacher.probs(view, answers, check).cpu()
        wanted = current().broadcast(lambda: _wanted(job, view.indices.cpu(), probs, answers))
        changes = _entered(job, wanted)
    job.state.row |= {f"cooperative/{name}": count for name, count in changes.items()}
    _warn_of_one_class(job, wanted)


def cooperated(job: Job, train_set: TrainSet) -> dict[str, Any]:
    """What the row of a round says of the guesses that its model learned from.

    Returns:
        ``cooperative/used``, how many there are; where the data know what some of them are,
        ``cooperative/wrong``, the share of those that is wrong. Nothing where there are never any.
    """
    if not job.parts.cooperative.active:
        return {}
    guesses = train_set.guesses()
    wrong = wrong_guesses(job.source, guesses)
    share = {"cooperative/wrong": float(wrong.double().mean())} if len(wrong) else {}
    return {"cooperative/used": len(guesses), **share}


def wrong_guesses(source: Source, guesses: TrainSet) -> Tensor:
    """Which guesses are wrong, of those about which the data know: bool, (k,).

    Of several labels a guess is wrong where any of them is. Foreign samples have no class, so that
    every guess about one is wrong.
    """
    truth = source.train.targets[guesses.indices]
    known = is_known(truth) | source.is_foreign[guesses.indices]
    return (guesses.targets != truth).unsqueeze(1).flatten(1).any(1)[known]


def changed(held: TrainSet, wanted: TrainSet) -> tuple[Tensor, Tensor]:
    """What has to be entered so that guesses become others.

    Args:
        held: M guesses that stand.
        wanted: n guesses that shall stand.

    Returns:
        bool, (n,), which of those wanted are new, or differ in target or weight; bool, (M,), which
        of those held are not wanted.
    """
    order = held.indices.argsort()
    known = held.indices[order].contiguous()
    place = torch.searchsorted(known, wanted.indices).clamp(max=max(len(known) - 1, 0))
    new = ~torch.isin(wanted.indices, known)
    if len(known):
        same = held.part(order[place])
        new |= (same.targets != wanted.targets).unsqueeze(1).flatten(1).any(1)
        new |= same.weights != wanted.weights
    return new, ~torch.isin(held.indices, wanted.indices)


def _check_teacher(parts: Parts) -> None:
    """Refuse a teacher that cannot predict the candidates of a run.

    Raises:
        TypeError: Naming it, and the remedy.
    """
    cooperative, teacher = parts.cooperative, parts.cooperative.teacher
    name, own = type(teacher).__name__, "set cooperative/teacher=none"
    if parts.task.kind not in teacher.tasks:
        raise TypeError(
            f"{name} teaches {' and '.join(sorted(teacher.tasks))} targets, and those of "
            f"{parts.source.name} are {parts.task.kind}; {own}"
        )
    if cooperative.rounds > 1 and not isinstance(teacher, ModelItself):
        raise TypeError(
            f"{type(cooperative).__name__} compares what the models of two rounds predict, and "
            f"with {name} it is not the model that does; {own}, or choose cooperative=fixed"
        )
    for need in sorted(teacher.needs, key=repr):
        if type(need) not in parts.learner.capabilities:
            raise TypeError(
                f"{name} needs {need}, which this model cannot give; {own}, or choose another model"
            )


def _wanted(job: Job, indices: Tensor, probs: Tensor, answers: TrainSet) -> TrainSet:
    """The guesses that the teacher makes, as labels, in ascending order of samples.

    Candidates are handed in in one random order throughout the run, so that of equally sure ones
    not those are taken that stand first in the data, which may be sorted by class.
    """
    parts = job.parts
    keys = random_keys(len(job.source.train), generator(parts.settings.seed, 0, "cooperative"))
    order = keys[indices].argsort()
    labeled = job.task.class_counts(answers.targets)
    before = _before(job, indices[order])
    found: Guesses = parts.cooperative.choose(probs[order], before, labeled, job.task.exclusive)
    places = order[found.places]
    ascending = indices[places].argsort()
    return TrainSet(
        indices[places][ascending], found.targets[ascending], found.weights[ascending].float()
    )


def _before(job: Job, indices: Tensor) -> Tensor | None:
    """What the model of the round before predicted: float, (N, C); None where nothing is known."""
    if job.parts.cooperative.rounds < 2:
        return None
    rounds = job.history.last(2, indices)
    if len(rounds) < 2 or job.history.rounds[-2] != job.state.round - 1:
        return None
    # What came since has no prediction of that model: the history shows it that of this one.
    there = job.source.begun + job.state.rows[-1].get("appended", 0)
    return rounds[0].masked_fill((indices >= there).unsqueeze(1), torch.nan)


def _entered(job: Job, wanted: TrainSet) -> dict[str, int]:
    """Bring the ledger up to the guesses that are wanted; gives what changed."""
    pool, number = job.pool, job.state.round
    held = pool.train_set().guesses()
    new, gone = changed(held, wanted)
    entering, leaving = wanted.part(new.nonzero().squeeze(1)), held.part(gone.nonzero().squeeze(1))
    if len(leaving):
        nothing = torch.full_like(leaving.targets, NONE)
        withdrawn = torch.ones(len(leaving), dtype=torch.bool)
        pool.label(
            number, leaving.indices, nothing, origin="pseudo", abstained=withdrawn, annotator=MODEL
        )
    if len(entering):
        pool.label(
            number,
            entering.indices,
            entering.targets,
            origin="pseudo",
            weight=entering.weights,
            annotator=MODEL,
        )
    return {"guesses": len(wanted), "entered": len(entering), "withdrawn": len(leaving)}


def _warn_of_one_class(job: Job, wanted: TrainSet) -> None:
    """Say so where all guesses begin to be of one class: the model may collapse on it."""
    state = job.state.cooperative
    classes = torch.unique(wanted.targets, dim=0)
    alone = classes[0].tolist() if len(classes) == 1 and len(wanted) > 1 else None
    if alone is not None and alone != state.get("alone"):
        log.warning(
            "round %d: all %d guesses are %r; a model that learns from them may predict it for "
            "everything; raise cooperative.threshold, or lower cooperative.per_answer",
            job.state.round,
            len(wanted),
            job.source.target_name(alone),
        )
    state["alone"] = alone
