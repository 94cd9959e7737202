"""What is asked before the first round, where there are no labels to learn from."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from dal.data.draw import draw
from dal.data.initial import MOST
from dal.query import Query
from dal.runs.collecting import as_earlier, ask, collect
from dal.runs.job import Job
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
    if job.standing.begun or (state.pending is not None and state.pending["round"] >= 0):
        return True
    while state.pending is not None or len(wanted := _wanted(job)):
        if state.pending is None:
            scores = torch.full((len(wanted),), torch.nan)
            state.pending = ask(job, Query(wanted, scores), -1 - job.pool.asked_before[0])
            job.commit("fit")
        if not collect(job):
            return False
        if missing := list(state.pending["open"]):
            state.row["initial/open"] = [*state.row.get("initial/open", ()), *missing]
        state.tickets.append(as_earlier(state.pending))
        state.pending = None
        job.commit("fit")
    return True


def _wanted(job: Job) -> Tensor:
    """int64: the samples to ask about next before the first round; none where it can begin."""
    parts, pool = job.parts, job.pool
    first = parts.initial[~(pool.asked_mask | job.standing.is_open)[parts.initial]]
    missing = {} if len(first) else _missing(job)
    if not missing:
        return first
    questions, answers = pool.asked_before
    others = pool.unlabeled_idx
    others = others[~job.standing.is_open[others] & ~torch.isin(others, job.standing.reserve)]
    size = min(len(parts.initial), len(others))
    if parts.per_class is not None:
        size = min(size, MOST * parts.per_class * job.source.num_classes - answers)
    if size > 0:
        rng = generator(parts.settings.seed, "initial", questions)
        return draw(job.source.train.targets, others, size, rng, False)
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
