"""What a round of a run in the plane looks like: predictions and scores on a grid.

Nothing here changes a bit of a run: the grid is asked of a copy of the learner that shares its
weights, and no random number of the run is drawn.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dal.data.made import MadeSplit
from dal.learners import RoundContext
from dal.learners.base import Learner
from dal.query import Members, PoolView, Probs, ScoreStrategy, Strategy
from dal.query.needs import Decision, GradNorms, Need, Needs
from dal.recording.plane import SIDE, Frame, Window, of_nearest
from dal.runs.job import Job
from dal.train_set import TrainSet
from dal.utils.clock import clock
from dal.utils.ranks import current

AT_A_POINT = (Probs, GradNorms, Decision, Members)
"""Needs that a model answers for a point by itself."""


def look(job: Job, last: bool = False) -> None:
    """Record what the plane looks like; does nothing for other data, nor where no figures are.

    Args:
        job: The run; the question of the round is pending, unless it was the last.
        last: Whether nothing more is asked.
    """
    rounds, state = job.recorder.plane, job.state
    if rounds is None or not state.fitted or current().world_size > 1:
        return
    with clock(state.row, "record_s"):
        if last or rounds.wants(state.round):
            rounds.add(frame_of(job, rounds.window))
        job.recorder.show_plane(state, last)


def frame_of(job: Job, window: Window) -> Frame:
    """What the model and the strategy say of the plane in this round."""
    state, source, grid = job.state, job.source, window.grid()
    labels = job.pool.train_set()
    train_set, guesses = labels.answers(), labels.guesses()
    strategy = job.parts.strategy.current(len(train_set))
    context = RoundContext(state.round, rejected=job.pool.rejected_idx)
    own = job.parts.from_history(strategy)
    field, pending = is_field(strategy) and not own, state.pending
    needs = strategy.needs if field and pending is not None else frozenset[Need]()
    view = scan_points(job.learner, grid, needs, context, train_set)
    scores, scored = None, "nothing is asked any more"
    if pending is not None:
        scored = type(strategy).__name__
        pooled = pending.get("pool_scores")
        if field and isinstance(strategy, ScoreStrategy) and strategy.ready(view):
            scores = strategy.score(view).float().cpu()
        elif pooled is not None and job.setting.cooperates and len(pooled) == len(job.candidates):
            scores = of_nearest(grid, points_of(job, job.candidates), pooled.float())
            scored += ", of the nearest sample"
    value = state.row.get(source.headline)
    title = f"round {state.round}, {state.row['labels']} labels"
    title += "" if value is None else f", {source.task.headline_name} {value:.3f}"
    picked = torch.tensor([] if pending is None else pending["indices"], dtype=torch.int64)
    return Frame(
        state.round,
        title,
        view[Probs()].float().cpu().view(SIDE, SIDE, -1),
        points_of(job, train_set.indices),
        train_set.targets.cpu(),
        points_of(job, picked),
        None if scores is None else scores.view(SIDE, SIDE),
        scored,
        points_of(job, guesses.indices),
        guesses.targets.cpu(),
    )


def is_field(strategy: Strategy) -> bool:
    """Whether a strategy scores any point by itself, whatever the candidates are."""
    return (
        isinstance(strategy, ScoreStrategy)
        and strategy.independent
        and bool(strategy.needs)
        and all(isinstance(n, AT_A_POINT) and n != Probs("labeled") for n in strategy.needs)
    )


def scan_points(
    learner: Learner,
    points: Tensor,
    needs: Needs,
    context: RoundContext,
    train_set: TrainSet,
) -> PoolView:
    """What a fitted model says of points that are no samples.

    Args:
        learner: The model; it stays as it is.
        points: float, (n, ...), as the store of the training part keeps its samples.
        needs: What is asked, besides `Probs`.
        context: The round.
        train_set: The labeled samples, without guesses.
    """
    train = learner.source.train
    made = MadeSplit(train)
    if isinstance(train, MadeSplit) and train.made is not None:
        made.add(train.made)
    indices = made.add(points)
    aside = learner.aside(replace(learner.source, train=made))
    return aside.scan(indices, needs | {Probs()}, context, train_set)


def points_of(job: Job, indices: Tensor) -> Tensor:
    """float, (n, 2): where some samples are."""
    if not len(indices):
        return torch.empty(0, 2)
    raw = job.source.train.raw(indices)
    assert isinstance(raw, Tensor)
    return raw.float().cpu()
