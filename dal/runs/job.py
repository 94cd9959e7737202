"""A run in progress: what it is made of, where it stands, who answers, sees and keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dal.data.source import Source
from dal.learners import Learner
from dal.oracles import Oracle
from dal.pool import Pool
from dal.query import PredictionHistory
from dal.recording.recorder import Recorder
from dal.runs.keeper import DiskKeeper, Keeper, restore, settle_numerics
from dal.runs.parts import Parts, Standing, added, check_alike, digests
from dal.runs.setting import Setting
from dal.settings import Settings
from dal.state import State
from dal.task import Task
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.signals import Interrupts


@dataclass(frozen=True)
class Job:
    """A run, with all that the steps of a round work with.

    Attributes:
        parts: What it is made of.
        standing: Where it stands.
        oracle: Who gives labels.
        recorder: Shows people what happens.
        keeper: Keeps where the run stands.
        interrupts: Knows whether a signal has come.
        setting: Asks the questions.
        earlier: Oracles that were asked before this one, and may hold answers.
    """

    parts: Parts
    standing: Standing
    oracle: Oracle
    recorder: Recorder
    keeper: Keeper
    interrupts: Interrupts
    setting: Setting
    earlier: Sequence[Oracle] = ()

    @property
    def source(self) -> Source:
        """The data."""
        return self.parts.source

    @property
    def task(self) -> Task:
        """What is predicted, as the model that was fitted last decides it."""
        return self.learner.task

    @property
    def learner(self) -> Learner:
        """The model."""
        return self.parts.learner

    @property
    def settings(self) -> Settings:
        """Seed, query size, budget, what is kept."""
        return self.parts.settings

    @property
    def pool(self) -> Pool:
        """Who is labeled."""
        return self.standing.pool

    @property
    def history(self) -> PredictionHistory:
        """What the last models predicted."""
        return self.standing.history

    @property
    def state(self) -> State:
        """Where the run stands in its rounds."""
        return self.standing.state

    @property
    def candidates(self) -> Tensor:
        """int64, (N,), ascending: the unlabeled samples that the strategy may choose."""
        return self.standing.candidates

    def commit(self, following: Literal["fit", "query", "answers"]) -> None:
        """Save the whole state: a killed run goes on from here."""
        self.state.next = following
        with clock(self.state.row, "save_s"):
            self.keeper.save(self.standing)
        self.recorder.write(self.state, self.pool)


def begin(
    parts: Parts,
    oracle: Oracle,
    recorder: Recorder,
    interrupts: Interrupts,
    device: torch.device,
    earlier: Sequence[Oracle],
    setting: Setting,
) -> Job:
    """A job that goes on from where the recorder's run directory says it stands.

    Without a directory it stands at its start, and nothing is kept.

    Args:
        parts: What the run is made of.
        oracle: Who gives labels.
        recorder: Shows people what happens.
        interrupts: Knows whether a signal has come.
        device: Where the run works.
        earlier: Oracles that were asked before this one, and may hold answers.
        setting: Asks the questions.

    Raises:
        ValueError: Data and settings do not fit each other, or the run that was left.
        DamagedError: Nothing is left to go on from in a directory that holds a run.
        RuntimeError: Processes that share the run do not begin alike.
    """
    folder = None if recorder.directory is None else recorder.directory.path
    standing = Standing.at_start(parts, parts.history(folder and folder / "history"))
    looked_at = folder is not None or current().world_size > 1  # hashing large data takes seconds
    start = digests(parts, standing) if looked_at else {}
    check_alike(start | added(parts.source))
    keeper = Keeper() if folder is None else DiskKeeper(folder, parts, start["data"])
    restore(parts, standing, keeper)
    settle_numerics(parts, standing, device)
    state, begun = standing.state, standing.begun
    recorder.start(state, standing.pool, standing.numerics, device, begun, start)
    if begun and state.next != "fit":  # the learner is that of the last fit
        keeper.export(if_missing=True)
    job = Job(parts, standing, oracle, recorder, keeper, interrupts, setting, earlier)
    setting.begin(job)
    recorder.rewrite(state, standing.pool)
    return job
