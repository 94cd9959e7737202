"""A round's fit and test, as the loop asks for them: what is recorded and saved on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from dal.learners import RoundContext
from dal.runs.job import Job
from dal.train_set import TrainSet
from dal.training.context import FitState, Save
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.signals import PreemptedError


class Fitted(NamedTuple):
    """What a fit came to.

    Attributes:
        state: Its final state.
        tested: Logits of the test part: float32, (N, C), on the CPU; None without one.
        stop_set: The same of the stop set.
    """

    state: FitState
    tested: Tensor | None
    stop_set: Tensor | None


def fit_and_test(job: Job, train_set: TrainSet, held_out: TrainSet | None = None) -> Fitted:
    """Fit on the labels there are, from where a saved fit stands; predict test part and stop set.

    After a signal the fit is saved between two batches, of these predictions as well, and the
    process ends. How the model decides is fitted (again) after a fit that was saved as done.

    Args:
        job: The run.
        train_set: What is trained on.
        held_out: Labels to validate on, none of those; None for the validation part of the data.

    Raises:
        PreemptedError: A signal came; the state is saved.
    """
    row, saved, source = job.state.row, job.state.fit or {}, job.source
    stop_set = source.train.part(job.parts.stop_set) if job.settings.stop_set else None
    context = replace(_fitting(job, train_set), validation=held_out)
    with clock(row, "fit_s"):
        done = saved.get("done")
        fitted = FitState(**done) if done else job.learner.fit(train_set, context)
    predicted = []
    try:
        with clock(row, "fit_s"):
            job.learner.decide(train_set, context)
        for part, seconds in ((source.test, "test_s"), (stop_set, "stop_s")):
            with clock(row, seconds):
                predicted.append(None if part is None else job.learner.predict(part, context))
    except PreemptedError:
        done = vars(replace(fitted, best={}))  # the learner has the best weights now
        _save(job, lambda: {"done": done})
        raise
    return Fitted(fitted, *predicted)


def context_of(job: Job) -> RoundContext:
    """What the work of a round takes from the job."""
    return RoundContext(
        job.state.round,
        job.interrupts.check,
        resume=job.state.fit,
        rejected=job.pool.rejected_idx,
    )


def _fitting(job: Job, train_set: TrainSet) -> RoundContext:
    sizes = len(train_set), job.pool.num_unlabeled
    return replace(
        context_of(job),
        unlabeled=job.candidates,
        on_epoch=lambda fitted, save: _after_epoch(job, sizes, fitted, save),
        on_save=lambda fitted, save: _save_in_time(job, fitted, save),
        pending=lambda: job.interrupts.pending,
        on_signal=lambda save: _end(job, save),
    )


def _after_epoch(job: Job, sizes: tuple[int, int], fitted: FitState, save: Save) -> None:
    """Record an epoch, then save if it is time to."""
    number, values = fitted.epoch - 1, fitted.history[-1]
    tell(job, epoch=number, values=values)
    if job.settings.record_epochs:
        step = job.state.steps + fitted.steps
        job.recorder.epoch(job.state.round, number, step, values, *sizes)
    _save_in_time(job, fitted, save)


def _save_in_time(job: Job, fitted: FitState, save: Save) -> None:
    """Save after an epoch when it is time, or a signal has come."""
    every = job.settings.save_every
    if job.interrupts.pending:
        _end(job, save)
    elif every is not None and fitted.epoch % every == 0:
        _save(job, save)


def _end(job: Job, save: Save) -> None:
    """Save inside a fit and end."""
    _save(job, save)
    job.interrupts.check()


def _save(job: Job, save: Save) -> None:
    saved: dict[str, Any] = save()
    job.state.fit = saved
    job.recorder.flush()  # a resumed run does not record these epochs again
    job.keeper.save(job.standing)


def tell(job: Job, **news: Any) -> None:
    """Tell those who wait for the next question what happens; see `Oracle.tell`."""
    if current().is_main:
        job.oracle.tell({"round": job.state.round, **news})
