"""A round's fit and test, as the loop asks for them: what is recorded and saved on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from dal.learners import RoundContext
from dal.pool import TrainSet
from dal.runs.job import Job
from dal.training.context import FitState, Save
from dal.utils.clock import clock
from dal.utils.signals import PreemptedError


def fit_and_test(
    job: Job, train_set: TrainSet, held_out: TrainSet | None = None
) -> tuple[FitState, Tensor | None]:
    """Fit on the labels there are, from where a saved fit stands, and predict the test part.

    After a signal the fit is saved between two batches, of the test part as well, and the process
    ends.

    Args:
        job: The run.
        train_set: What is trained on.
        held_out: Labels to validate on, none of those; None for the validation part of the data.

    Returns:
        The fit's final state, and logits: float32, (N, C), on the CPU; None without a test part.

    Raises:
        PreemptedError: A signal came; the state is saved.
    """
    row, saved, test = job.state.row, job.state.fit or {}, job.source.test
    context = replace(_fitting(job, train_set), validation=held_out)
    with clock(row, "fit_s"):
        done = saved.get("done")
        fitted = FitState(**done) if done else job.learner.fit(train_set, context)
    with clock(row, "test_s"):
        try:
            return fitted, None if test is None else job.learner.predict(test, context)
        except PreemptedError:
            done = vars(replace(fitted, best={}))  # the learner has the best weights now
            _save(job, lambda: {"done": done})
            raise


def context_of(job: Job) -> RoundContext:
    """What the work of a round takes from the job."""
    return RoundContext(
        job.state.round,
        job.interrupts.check,
        resume=job.state.fit,
        rejected=job.pool.rejected_idx,
    )


def _fitting(job: Job, train_set: TrainSet) -> RoundContext:
    sizes = f"{len(train_set)} labeled, {job.pool.num_unlabeled} in the pool"
    return replace(
        context_of(job),
        on_epoch=lambda fitted, save: _after_epoch(job, sizes, fitted, save),
        on_save=lambda fitted, save: _save_in_time(job, fitted, save),
        pending=lambda: job.interrupts.pending,
        on_signal=lambda save: _end(job, save),
    )


def _after_epoch(job: Job, sizes: str, fitted: FitState, save: Save) -> None:
    """Record an epoch, then save if it is time to."""
    if job.settings.record_epochs:
        step = job.state.steps + fitted.steps
        number, values = fitted.epoch - 1, fitted.history[-1]
        job.recorder.epoch(job.state.round, number, step, values, sizes)
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
