"""The round loop.

    fit       train on the labels there are, restore the best weights, evaluate on the test part
    stop?     budget, rounds, an emptied pool, or a stopping criterion
    predict   one pass over the pool computes everything the strategy needs
    remember  the prediction history keeps the class probabilities
    select    the strategy chooses
    annotate  the oracle gives labels, and corrects or adds to earlier ones
    record    metrics, queries, curves

After the fit, the query and the answers the whole state is saved; a killed run resumes exactly.
Where no label is known, people are asked about some samples before the first round. Answers that
come late, or change, are learned from in the round after.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal import metrics
from dal.cooperation import AnswersAlone, Cooperative
from dal.data.initial import ColdStart
from dal.data.source import Source
from dal.learners import Committee, Dropout, make_learner
from dal.models.base import MakeModel
from dal.oracles import Oracle, SimulatedOracle
from dal.pool import REJECTED
from dal.query import Strategy
from dal.recording.recorder import Recorder
from dal.recording.run_directory import RunDirectory
from dal.runs.asking import ask_initial
from dal.runs.auditing import audited
from dal.runs.choosing import PoolSetting, appended
from dal.runs.collecting import (
    as_earlier,
    await_open,
    check_questions,
    collect,
    opened,
    revisit,
)
from dal.runs.cooperating import check_cooperation, cooperated
from dal.runs.ending import checked, stop_reason, watched
from dal.runs.fitting import fit_and_test, tell
from dal.runs.host import current_host
from dal.runs.job import Job, begin
from dal.runs.looking import look
from dal.runs.parts import Parts
from dal.runs.setting import Setting
from dal.settings import Settings
from dal.stopping import Criterion
from dal.train_set import TrainSet
from dal.training.trainer import Trainer
from dal.utils.arrays import as_tensor
from dal.utils.clock import clock
from dal.utils.numerics import own_threads, pick_device
from dal.utils.ranks import current

log = logging.getLogger(__name__)

NOTHING_LEFT = ("budget", "max_rounds", "pool_exhausted", "stream_ended")
"""Reasons to end that wait for answers which are still missing: nothing more is asked."""


@dataclass(frozen=True)
class Result:
    """What a run gives back.

    Attributes:
        status: ``complete``, or ``waiting`` for an oracle.
        reason: Why it ended: ``budget``, ``max_rounds``, ``pool_exhausted``,
            ``stream_ended``, ``answers``, or the stopping criterion and the number that decided.
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
    earlier: Sequence[Oracle] = (),
    committee: Committee | None = None,
    stopping: Mapping[str, Criterion] | None = None,
    settings: Settings | None = None,
    setting: Setting | None = None,
    cooperative: Cooperative | None = None,
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
        earlier: Oracles that the run asked before this one: what they were answered counts, and
            what they were not is asked anew.
        committee: Who the members are, where the strategy asks for a committee; None for dropout
            samples.
        stopping: Criteria that may end the run before its budget is spent, by any names, which the
            reason of the end gives.
        settings: Seed, query size, budget, device.
        setting: Where the samples come from that are asked about; None for the pool.
        cooperative: Learns from confident guesses as well; None for answers alone.
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
    if settings.budget_in == "minutes" and (oracle is None or type(oracle) is SimulatedOracle):
        raise ValueError(
            "budget_in=minutes, and oracle=simulated says of no answer how long it took: the whole "
            "pool would be labeled; give oracle=costly and oracle.seconds, or another budget_in"
        )
    if not isinstance(initial, ColdStart):
        initial = ColdStart(as_tensor(initial, "initial").long())
    setting = setting or PoolSetting()
    source = setting.prepared(replace(source, metric=settings.headline))
    ranks, host = current(), current_host()
    directory = RunDirectory(run_dir) if isinstance(run_dir, str | Path) else run_dir
    directory = directory if ranks.is_main else None
    with (
        own_threads(),
        host.interrupts() as interrupts,
        setting,
        directory or nullcontext(),
        Recorder(directory, source, config, host.count, settings.figures) as recorder,
    ):
        oracle = oracle or SimulatedOracle(source.train.targets, source.foreign)
        with opened([oracle, *earlier], source):
            device = ranks.local_device(pick_device(settings.device))
            trainer = trainer or Trainer()
            learner = make_learner(
                model,
                trainer,
                source,
                source.task,
                committee,
                needs=strategy.needs,
                seed=settings.seed,
                device=device,
                batch_size=settings.batch_size,
                thresholds=settings.thresholds,
            )
            made_of = source, host.wrap(learner), strategy, initial.indices, committee, settings
            criteria = checked(stopping or {}, source, settings)
            parts = Parts(
                *made_of,
                per_class=initial.per_class,
                stopping=criteria,
                cooperative=cooperative or AnswersAlone(),
            )
            check_cooperation(parts, setting, trainer)
            job = begin(parts, oracle, recorder, interrupts, device, earlier, setting)
            check_questions(job)
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
            late = learn_late(job, wait=reason in NOTHING_LEFT)
            if late is None:
                return finish(job, "waiting", "answers")
            if not late:
                return finish(job, "complete", reason)
        else:
            if job.state.next == "query":
                if job.state.pending is None:  # or else it was asked before checkpoints were lost
                    job.setting.ask(job)
                if job.state.pending is None:  # nothing is left to ask about
                    continue
                look(job)
                job.commit("answers")
            if not annotate(job):
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
        **appended(source),
        **job.setting.columns(job),
        **tested,
        **fitted.history[fitted.best_epoch],
        "fit/epochs": fitted.epoch,
        "fit/best_epoch": fitted.best_epoch,
        "fit/steps": fitted.steps,
        "fit/stopped": fitted.stopped,
        **_decided(job),
        **audited(job),
        **cooperated(job, train_set),
        **state.row,
    }
    state.row |= watched(job, of_stop_set)
    state.steps += fitted.steps
    state.fit = None
    job.recorder.fitted(state, job.pool)
    job.keeper.keep_model(state)
    job.keeper.export()
    tell(job, row=dict(state.row))


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
    state.by_label = job.task.by_label(logits, source.test.targets)
    recall = source.named(job.task.recall(state.confusion))
    return {**{f"test/{name}": value for name, value in values.items()}, "test/recall": recall}


def _decided(job: Job) -> dict[str, dict[str, float]]:
    """The thresholds that were fitted, by label, for the row of a round; nothing without any."""
    found = torch.tensor(job.task.thresholds)
    return {"thresholds": job.source.named(found)} if len(found) else {}


def annotate(job: Job) -> bool:
    """Collect the answers, record the round and begin the next; False while answers are missing."""
    state, entry = job.state, job.state.pending
    assert entry is not None
    if not collect(job):
        return False
    asked, events = entry["indices"], job.pool.events(entry["since"])
    state.row["query/wasted"] = sum(e["abstained"] or e["target"] == REJECTED for e in events)
    answers = job.pool.num_answers(torch.tensor(asked, dtype=torch.int64)).tolist()
    if missing := [index for index, count in zip(asked, answers, strict=True) if not count]:
        state.row["query/open"] = missing
        log.info("round %d goes on without %d answers", state.round, len(missing))
    if (unit := job.settings.budget_in) != "labels" and not job.pool.spent(unit):
        fact = "cost anything" if unit == "cost" else "says how many seconds it took"
        log.warning("no answer %s: budget_in=%s ends nothing so far", fact, unit)
    with clock(state.row, "record_s"):
        told = {event["index"] for event in events}
        picked = [index for index in asked if index in told]
        job.recorder.round(state, job.pool, torch.tensor(picked))
    revisit(job)
    _next_round(job)
    return True


def learn_late(job: Job, wait: bool) -> bool | None:
    """Enter what came late once nothing more is asked; whether there is anything to learn from it.

    Args:
        job: The run.
        wait: Wait for answers that are still missing; None is given where nobody waits for them
            in the process.
    """
    before = job.pool.num_events
    revisit(job)
    if wait and not await_open(job):
        job.keeper.keep_question(job.state)
        return None
    if job.pool.num_events == before:
        return False
    job.recorder.round(job.state, job.pool)
    _next_round(job)
    return True


def _next_round(job: Job) -> None:
    state = job.state
    if state.pending is not None:
        state.tickets.append(as_earlier(state.pending))
    state.rows.append(state.row)
    state.row, state.pending = {}, None
    state.round += 1


def finish(
    job: Job, status: Literal["complete", "waiting"], reason: str
) -> tuple[Literal["complete", "waiting"], str]:
    """Record the last model's results and how the run ended."""
    look(job, last=True)
    job.recorder.round(job.state, job.pool)
    job.recorder.finish(status, reason)
    tell(job, status=status, reason=reason)
    return status, reason


def _warn_of_absent_classes(job: Job, train_set: TrainSet) -> None:
    """Twenty random labels miss one of ten classes four times in five: no error."""
    absent = (job.task.class_counts(train_set.targets) == 0).nonzero().squeeze(1)
    if len(absent):
        names = job.source.class_names
        listed = ", ".join(repr(names[c]) for c in absent[:10])
        log.warning("no label yet for %d of %d classes: %s", len(absent), len(names), listed)
