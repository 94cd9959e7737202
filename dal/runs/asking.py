"""Questions and answers: what is asked before the first round, and how answers become labels."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from dal.data.draw import draw
from dal.data.initial import MOST
from dal.events import Origin
from dal.oracles import Answers
from dal.oracles.base import check_answers
from dal.query import Query
from dal.runs.job import Job
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)


def ask_initial(job: Job) -> bool:
    """Ask about samples before the first round, where there are no labels to learn from.

    Nothing is fitted before, so the questions are drawn at random: those of `Parts.initial` whose
    labels are not known, then as many others, as long as there is no label at all or, with
    `Parts.per_class`, too few of a class. They are numbered -1, -2, ... in place of a round.

    Returns:
        Whether the first round can begin; False while answers are missing.

    Raises:
        ValueError: All samples were asked about, and nobody could label any of them.
    """
    state = job.state
    if job.standing.begun or (state.pending is not None and "round" not in state.pending):
        return True
    while state.pending is not None or len(wanted := _wanted(job)):
        if state.pending is None:
            state.pending = _asked(job, wanted)
            job.commit("fit")
        if (answers := collect(job)) is None:
            job.keeper.keep_question(state)
            return False
        enter(job, answers, state.pending["round"], "initial")
        state.pending = None
        job.commit("fit")
    return True


def collect(job: Job) -> Answers | None:
    """The answers to the open question, checked; None while they are missing."""
    state = job.state
    assert state.pending is not None
    with clock(state.row, "oracle_s"):
        ticket = state.pending["ticket"]
        answers = current().broadcast(lambda: job.oracle.collect(ticket))
    if answers is None:
        return None
    check_answers(answers, state.pending["indices"], type(job.oracle).__name__)
    job.task.check_targets(answers.targets[~answers.abstained])
    return answers


def enter(
    job: Job, answers: Answers, round_number: int, origin: Origin, score: Tensor | None = None
) -> None:
    """Write answers into the ledger."""
    job.pool.label(
        round_number,
        answers.indices,
        answers.targets,
        origin=origin,
        abstained=answers.abstained,
        cost=answers.cost,
        score=score,
        seconds=answers.seconds,
        annotator=answers.annotators or job.oracle.name,
    )


def _asked(job: Job, indices: Tensor) -> dict[str, Any]:
    """The next question before the first round, which is sent to the oracle."""
    number = -1 - job.pool.asked_before[0]
    query = Query(indices, torch.full((len(indices),), torch.nan))
    with clock(job.state.row, "oracle_s"):
        ticket = current().broadcast(lambda: job.oracle.submit(query, number))
    return {"round": number, "indices": indices.tolist(), "ticket": ticket}


def _wanted(job: Job) -> Tensor:
    """int64: the samples to ask about next before the first round; none where it can begin."""
    parts, pool = job.parts, job.pool
    first = parts.initial[~pool.asked_mask[parts.initial]]
    missing = {} if len(first) else _missing(job)
    if not missing:
        return first
    questions, answers = pool.asked_before
    size = min(len(parts.initial), pool.num_unlabeled)
    if parts.per_class is not None:
        size = min(size, MOST * parts.per_class * job.source.num_classes - answers)
    if size > 0:
        rng = generator(parts.settings.seed, "initial", questions)
        return draw(job.source.train.targets, pool.unlabeled_idx, size, rng, False)
    if len(pool.train_set()) == 0:
        raise ValueError(
            f"none of the {answers} samples asked about got a label, so there is nothing to learn "
            "from; correct the answers, move all but queries/ out of the run directory and run the "
            "same command again"
        )
    listed = ", ".join(f"{name!r} ({count})" for name, count in missing.items())
    log.warning(
        "after %d answers there are still fewer than %d labels of %s; the run goes on without",
        answers,
        parts.per_class,
        listed,
    )
    return first


def _missing(job: Job) -> dict[str, int]:
    """How many labels the classes have that have too few, by name."""
    train_set, names = job.pool.train_set(), job.source.class_names
    needed = job.parts.per_class
    if needed is None:
        needed = 0 if len(train_set) or not len(job.parts.initial) else 1
    counts = job.task.class_counts(train_set.targets).tolist()
    return {name: n for name, n in zip(names, counts, strict=True) if n < needed}
