"""The round loop.

    fit       train on the labels there are, restore the best weights, evaluate on the test part
    stop?     budget, rounds, an emptied pool, or a stopping criterion
    predict   one pass over the pool computes everything the strategy needs
    remember  the prediction history keeps the class probabilities
    select    the strategy chooses
    annotate  the oracle gives labels
    record    metrics, queries, curves

After the fit, the query and the answers the whole state is saved; a killed run resumes exactly.
Where no label is known, people are asked about some samples before the first round.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal import metrics
from dal.data.initial import ColdStart
from dal.data.source import Source
from dal.learners import Committee, Dropout, make_learner
from dal.models.base import MakeModel
from dal.oracles import Oracle, SimulatedOracle
from dal.pool import TrainSet
from dal.query import PoolView, Probs, Query, Strategy
from dal.query.base import in_blocks
from dal.query.needs import Scores
from dal.query.selection import check_query
from dal.recording.recorder import Recorder
from dal.recording.run_directory import RunDirectory
from dal.runs.asking import ask_initial, collect, enter
from dal.runs.auditing import audited, with_audits
from dal.runs.ending import checked, stop_reason, watched
from dal.runs.fitting import context_of, fit_and_test
from dal.runs.host import current_host
from dal.runs.job import Job, begin
from dal.runs.parts import Parts
from dal.settings import Settings
from dal.stopping import Criterion
from dal.training.trainer import Trainer
from dal.utils.arrays import as_tensor
from dal.utils.clock import clock
from dal.utils.numerics import own_threads, pick_device
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)

SHOWN = 2**20
"""Scores that a checkpoint holds at most, for the histogram of a round: 4 MB."""


@dataclass(frozen=True)
class Result:
    """What a run gives back.

    Attributes:
        status: ``complete``, or ``waiting`` for an oracle.
        reason: Why it ended: ``budget``, ``max_rounds``, ``pool_exhausted``, ``answers``, or the
            stopping criterion and the number that decided.
        rows: One dict of metrics a round, as in ``metrics.jsonl``.
        job: The parts: ``job.pool``, ``job.learner``, ``job.history``, ``job.state``.
    """

    status: Literal["complete", "waiting"]
    reason: str
    rows: list[dict[str, Any]]
    job: Job

    @property
    def aubc(self) -> float:
        """Area under the learning curve over labels paid for, divided by their range.

        The curve is that of test accuracy, or of the task's own ``headline`` metric; on the
        validation part where there is no test part, and NaN where there is neither.
        """
        labels, values = self.job.state.curve(self.job.source.headline)
        return metrics.aubc(labels, values) if labels else math.nan


def run(
    source: Source,
    model: MakeModel,
    strategy: Strategy,
    *,
    initial: Tensor | ColdStart,
    trainer: Trainer | None = None,
    oracle: Oracle | None = None,
    committee: Committee | None = None,
    stopping: Mapping[str, Criterion] | None = None,
    settings: Settings | None = None,
    run_dir: str | Path | RunDirectory | None = None,
    config: Mapping[str, Any] | None = None,
) -> Result:
    """Run active learning until the budget is spent, from where the run directory says it stands.

    Args:
        source: The data.
        model: Any class or function that builds a network whose ``forward`` returns logits (B, C),
            or a `dal.models.Output` of logits and features, which some strategies look at; called
            with the shape of an input and the number of classes, or with nothing where it needs
            nothing. Or such a module: a copy of it is trained, and with cold restarts every round
            starts from the weights it has.
        strategy: Chooses what to label.
        initial: int64, samples whose labels are known at the start, a tensor, array or list; see
            `dal.data.initial_labels`. The oracle is asked about those whose labels are not known,
            before the first round; `dal.data.initial.ColdStart` says more.
        trainer: How the network is trained; None for a `Trainer` with its defaults.
        oracle: Who answers; None for the data set's own labels.
        committee: Who the members are, where the strategy asks for a committee; None for dropout
            samples.
        stopping: Criteria that may end the run before its budget is spent, by any names, which the
            reason of the end gives.
        settings: Seed, query size, budget, device.
        run_dir: Where files and checkpoints go; None keeps nothing.
        config: The settings in a form to be written down, for the record.

    Returns:
        The result; at once where the run is complete already.

    Raises:
        ValueError: A number is out of range, or data and settings do not fit.
        TypeError: The model cannot give what the strategy needs.
        FloatingPointError: The training loss became infinite or NaN.
        PreemptedError: A signal asked to end; the state is saved.
        LockedError: Another process works in the run directory.
        OSError: A file could not be written; the state saved before is intact.
    """
    settings, committee = settings or Settings(), committee or Dropout()
    if not isinstance(initial, ColdStart):
        initial = ColdStart(as_tensor(initial, "initial").long())
    ranks, host = current(), current_host()
    directory = RunDirectory(run_dir) if isinstance(run_dir, str | Path) else run_dir
    directory = directory if ranks.is_main else None
    with (
        own_threads(),
        host.interrupts() as interrupts,
        directory or nullcontext(),
        Recorder(directory, source, config, host.count, settings.figures) as recorder,
    ):
        oracle = oracle or SimulatedOracle(source.train.targets, source.foreign)
        oracle.open(source)
        device = ranks.local_device(pick_device(settings.device))
        learner = make_learner(
            model,
            trainer or Trainer(),
            source,
            source.task,
            committee,
            needs=strategy.needs,
            seed=settings.seed,
            device=device,
            batch_size=settings.batch_size,
        )
        made_of = source, host.wrap(learner), strategy, initial.indices, committee, settings
        criteria = checked(stopping or {}, source, settings)
        parts = Parts(*made_of, per_class=initial.per_class, stopping=criteria)
        job = begin(parts, oracle, recorder, interrupts, device)
        status, reason = rounds(job)
        return Result(status, reason, job.state.all_rows, job)


def rounds(job: Job) -> tuple[Literal["complete", "waiting"], str]:
    """Go round until there is a reason to stop; each commit is a point to resume from."""
    if not ask_initial(job):
        return finish(job, "waiting", "answers")
    while True:
        if job.state.next == "fit":
            fit(job)
            job.commit("query")
        if reason := stop_reason(job):
            return finish(job, "complete", reason)
        if job.state.next == "query":
            if job.state.pending is None:  # or else it was asked before checkpoints were lost
                select(job, remember(job, predict(job)))
            job.commit("answers")
        if not annotate(job):
            job.keeper.keep_question(job.state)
            return finish(job, "waiting", "answers")
        job.commit("fit")


def fit(job: Job) -> None:
    """Train on the labels there are, restore the best weights, evaluate on the test part."""
    state, source = job.state, job.source
    train_set, held_out = job.parts.divided(job.pool.train_set(), state.round)
    if state.round == 0:
        _warn_of_absent_classes(job, train_set)
    fitted, logits, of_stop_set = fit_and_test(job, train_set, held_out)
    with clock(state.row, "test_s"):
        tested = {} if logits is None else _test(job, logits)
    state.row = {
        "round": state.round,
        **job.pool.counts(),
        "trained_on": len(train_set),
        "validation_labels": source.sizes["validation"] + len(held_out or ()),
        **_appended(source),
        **tested,
        **fitted.history[fitted.best_epoch],
        "fit/epochs": fitted.epoch,
        "fit/best_epoch": fitted.best_epoch,
        "fit/steps": fitted.steps,
        "fit/stopped": fitted.stopped,
        **audited(job),
        **state.row,
    }
    state.row |= watched(job, of_stop_set)
    state.steps += fitted.steps
    state.fit = None
    job.recorder.fitted(state)
    job.keeper.keep_model(state)
    job.keeper.export()


def _test(job: Job, logits: Tensor) -> dict[str, Any]:
    """The metrics of the test part, for the row of a round."""
    state, source = job.state, job.source
    assert source.test is not None
    values, state.confusion = job.task.evaluate(logits, source.test.targets)
    if not math.isfinite(values["loss"]):
        raise FloatingPointError(
            f"the model fitted in round {state.round} predicts infinite or NaN values; lower "
            "trainer.optimizer.lr"
        )
    recall = source.named(job.task.recall(state.confusion))
    return {**{f"test/{name}": value for name, value in values.items()}, "test/recall": recall}


def predict(job: Job) -> PoolView:
    """One pass over the candidates computes everything the strategy needs."""
    candidates, train_set = job.candidates, job.pool.train_set()
    needs = job.parts.scan_needs
    if Scores in job.learner.capabilities and job.parts.remembered == 0:
        numbers = len(candidates) * job.source.num_classes
        needs = in_blocks(job.parts.strategy, needs, numbers)
    with clock(job.state.row, "scan_s"):
        return job.learner.scan(candidates, needs, context_of(job), train_set)


def remember(job: Job, view: PoolView) -> PoolView:
    """Keep the class probabilities, and show the strategy those of the last rounds."""
    if job.parts.remembered == 0 or not current().is_main:
        return view
    with clock(job.state.row, "history_s"):
        job.history.append(job.state.round, view.indices, view[Probs()])
        return job.standing.with_history(view, job.parts.from_history(job.parts.strategy))


def select(job: Job, view: PoolView) -> None:
    """The strategy chooses; the query is sent to the oracle."""
    state, settings, source = job.state, job.settings, job.source
    size = min(settings.query_size, settings.budget - job.pool.num_queried, len(view))
    with clock(state.row, "select_s"):
        rng = generator(settings.seed, state.round, "query")
        query = current().broadcast(lambda: _choose(job, view, size, rng))
    scores = query.scores.double()
    state.row |= {
        "query/size": len(query.indices),
        "query/score_mean": float(scores.mean()),
        "query/score_min": float(scores.min()),
        **_appended(source),  # some may have come since the fit
        **{f"query/{name}": value for name, value in query.info.items()},
    }
    query = with_audits(job, view, query)
    with clock(state.row, "oracle_s"):
        query = shown(job, view, query)
    if source.train.has_copies:
        asked = job.pool.asked_mask.nonzero().squeeze(1)
        state.row["query/redundant"] = source.train.redundant(query.indices, asked)
    state.pending = {
        "indices": query.indices.tolist(),
        "scores": scores.tolist(),
        "pool_scores": None if query.pool_scores is None else _some(query.pool_scores),
        "guesses": [] if query.probs is None else job.task.guess(query.probs),
        "ticket": current().broadcast(lambda: job.oracle.submit(query, state.round)),
    }


def shown(job: Job, view: PoolView, query: Query) -> Query:
    """The query with the model's probabilities, where they are at hand or shown to people.

    They come from the pass where it computed them, else from a prediction of the picks: neither
    draws anything, nor changes what the run computes.
    """
    probs = view.rows(Probs(), query.indices)
    if probs is None and (job.oracle.wants_probs or Probs() in job.parts.strategy.needs):
        logits = job.learner.predict(job.source.train.part(query.indices), context_of(job))
        probs = job.task.probs(logits)
    return query if probs is None else replace(query, probs=probs.float().cpu())


def annotate(job: Job) -> bool:
    """Collect the answers, record the round and begin the next; False while answers are missing."""
    state = job.state
    assert state.pending is not None
    answers = collect(job)
    if answers is None:
        return False
    state.row["query/wasted"] = int(answers.abstained.sum())
    score_of = dict(zip(state.pending["indices"], state.pending["scores"], strict=True))
    scores = [score_of[index] for index in answers.indices.tolist()]
    enter(job, answers, state.round, "oracle", torch.tensor(scores, dtype=torch.float64))
    with clock(state.row, "record_s"):
        job.recorder.round(state, job.pool, answers.indices)
    state.rows.append(state.row)
    state.row, state.pending = {}, None
    state.round += 1
    return True


def finish(
    job: Job, status: Literal["complete", "waiting"], reason: str
) -> tuple[Literal["complete", "waiting"], str]:
    """Record the last model's results and how the run ended."""
    job.recorder.round(job.state, job.pool)
    job.recorder.finish(status, reason)
    return status, reason


def _appended(source: Source) -> dict[str, int]:
    """How many candidates came after the run had begun, for a row; nothing where none did."""
    return {"appended": source.appended} if source.appended else {}


def _some(scores: Tensor) -> Tensor:
    """Scores for a histogram; of very many, evenly spread ones, since they are saved."""
    return scores[:: -(-len(scores) // SHOWN)].clone()


def _choose(job: Job, view: PoolView, size: int, rng: torch.Generator) -> Query:
    """What the strategy chooses, on the CPU."""
    view = job.standing.with_labels(view, job.parts.strategy.needs)
    query = job.parts.strategy.select(view, size, rng)
    check_query(query, view, size, type(job.parts.strategy).__name__)
    scores = None if query.pool_scores is None else query.pool_scores.float().cpu()
    return replace(
        query, indices=query.indices.cpu(), scores=query.scores.cpu(), pool_scores=scores
    )


def _warn_of_absent_classes(job: Job, train_set: TrainSet) -> None:
    """Twenty random labels miss one of ten classes four times in five: no error."""
    absent = (job.task.class_counts(train_set.targets) == 0).nonzero().squeeze(1)
    if len(absent):
        names = job.source.class_names
        listed = ", ".join(repr(names[c]) for c in absent[:10])
        log.warning("no label yet for %d of %d classes: %s", len(absent), len(names), listed)
