"""How the standing of a run is kept on the disk, and taken back from there.

A keeper reads a `Saved`: plain values that say where the run stood. `restore` makes them the
standing of the run, in every process that shares it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dal.checkpoint import Checkpoints, save
from dal.journals import LEDGER, Journals, remedy_for_other_data
from dal.query import PredictionHistory
from dal.recording.run_directory import MODEL
from dal.runs.parts import Parts, Standing
from dal.state import FORMAT, State, check_format
from dal.utils.numerics import differences, signature
from dal.utils.ranks import current
from dal.utils.safe_files import DamagedError

log = logging.getLogger(__name__)

MODELS = "models"
EARLIER_ROWS = "the metrics of the rounds before"


@dataclass(frozen=True)
class Saved:
    """Where a run stood, but for its predictions.

    Attributes:
        events: Those of the ledger, as `Pool.events` gives them.
        state: The state.
        learner: What `Learner.state_dict` gave; None where all checkpoints are lost.
        strategy: What `Strategy.state_dict` gave.
        numerics: What decided the bits of the results; empty where all checkpoints are lost.
    """

    events: Sequence[dict[str, Any]]
    state: State
    learner: dict[str, Any] | None = None
    strategy: dict[str, Any] = field(default_factory=dict)
    numerics: dict[str, Any] = field(default_factory=dict)


class Keeper:
    """Keeps nothing, for a run without a directory; `DiskKeeper` is for one that has one."""

    def load(self, history: PredictionHistory) -> Saved | None:
        """Read where the run stands; None where it has not begun.

        Args:
            history: Takes back the predictions of the last models.
        """
        return None

    def go_on(self, standing: Standing) -> None:
        """Go on from a standing: what a killed process had kept beyond it is taken back."""

    def save(self, standing: Standing) -> None:
        """Keep a standing; a killed run goes on from the last one that was kept."""

    def keep_question(self, state: State) -> None:
        """Keep what people are asked, so that answers find their question without a checkpoint."""

    def keep_model(self, state: State) -> None:
        """Keep the model of a round for replays, where the settings ask for it."""

    def export(self, if_missing: bool = False) -> None:
        """Write the model for `dal.load`."""


class DiskKeeper(Keeper):
    """Keeps a run in its directory: checkpoints, journals, models.

    Args:
        folder: The run directory.
        parts: What the run is made of.
        data: Digest of its data.
    """

    def __init__(self, folder: Path, parts: Parts, data: str) -> None:
        self._folder, self._parts, self._data = folder, parts, data
        self._checkpoints = Checkpoints(folder / "checkpoints")
        self._journals = Journals(folder, data)

    def load(self, history: PredictionHistory) -> Saved | None:
        """Read the newest checkpoint that is whole; without one, the ledger.

        Damaged files are done without where that is possible, with a warning.

        Raises:
            DamagedError: Nothing is left to go on from.
            ValueError: The run is of another version or other data, or has results and no ledger.
        """
        take = partial(self._saved, history=history)
        try:
            saved = self._checkpoints.read(take, partial(take, in_part=True))
            saved = saved or self._rebuilt(history, "there is no checkpoint")
        except DamagedError as error:
            saved = self._rebuilt(history, str(error))
            if saved is None:
                raise DamagedError(f"{error}; {self._journals.remedy}") from error
        if saved is None:
            self._journals.check_absence()
        return saved

    def go_on(self, standing: Standing) -> None:
        """See `Keeper.go_on`."""
        self._journals.take(standing.pool, standing.state.rows)

    def save(self, standing: Standing) -> None:
        """Append to the journals what is new, then write a checkpoint: it is the commit.

        Raises:
            OSError: The disk is full or not writable; the checkpoint before is intact.
        """
        learner = self._parts.learner
        marks = self._journals.extend(standing.pool, standing.state.rows)
        self._checkpoints.save(
            {
                "format": FORMAT,
                "data": self._data,
                "numerics": {**standing.numerics, **learner.numerics()},
                "state": standing.state.state_dict(),
                "learner": learner.state_dict(),
                "history": standing.history.state_dict(),
                "strategy": self._parts.strategy.state_dict(),
                "journals": marks,
            }
        )

    def keep_question(self, state: State) -> None:
        """See `Keeper.keep_question`."""
        number = (state.pending or {}).get("round", state.round)
        self._journals.keep_question(number, state.pending, state.tickets)

    def keep_model(self, state: State) -> None:
        """See `Keeper.keep_model`."""
        if self._parts.settings.keep_models:
            folder = self._folder / MODELS
            folder.mkdir(exist_ok=True)
            content = {"format": FORMAT, "learner": self._parts.learner.state_dict()}
            save(folder / f"round_{state.round:04d}.pt", content)

    def export(self, if_missing: bool = False) -> None:
        """See `Keeper.export`."""
        if not (if_missing and (self._folder / MODEL).is_file()):
            self._parts.learner.export(self._folder)

    def _saved(
        self, content: dict[str, Any], history: PredictionHistory, in_part: bool = False
    ) -> Saved:
        """What a checkpoint says; in part: without the files it refers to that are damaged.

        Raises:
            DamagedError: Such a file is damaged, and the whole is wanted.
            ValueError: The checkpoint is of another version or of other data.
        """
        check_format(content)
        if content["data"] != self._data:
            source = self._parts.source
            remedy = remedy_for_other_data(source.listing is not None)
            raise ValueError(
                f"the data of {source.name} have changed since this run began; {remedy}"
            )
        events = self._journals.events(content["journals"])
        rows, lost = self._rows(content, in_part)
        lost += _predictions(history.load_state_dict(content["history"], in_part))
        state = State(**content["state"], rows=rows)
        _note_losses(state, lost)
        return Saved(events, state, content["learner"], content["strategy"], content["numerics"])

    def _rows(
        self, content: dict[str, Any], in_part: bool
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Metrics of the rounds before, and what of them is lost."""
        try:
            return self._journals.rows_of(content["journals"]), []
        except DamagedError:
            if not in_part:
                raise
        rows = self._journals.rows_shown(content["state"]["round"])
        return rows or [], [EARLIER_ROWS] if rows is None else []

    def _rebuilt(self, history: PredictionHistory, cause: str) -> Saved | None:
        """What the ledger says, where no checkpoint is whole; None where nothing was answered."""
        events = self._journals.all_events() or []
        pool = self._parts.pool(events)
        asked, (questions, answers) = pool.queries(), pool.asked_before
        if not asked and not questions:
            return None
        answers += len(asked)
        log.warning("%s; this run goes on from its %d answers in %s", cause, answers, LEDGER)
        number = asked[-1][0] + 1 if asked else 0
        rows = self._journals.rows_shown(number) if number else []
        lost = ["all checkpoints", *([EARLIER_ROWS] if rows is None else [])]
        if self._parts.remembered != 0:
            lost += _predictions(history.load_files(number))
        steps = sum(row.get("fit/steps", 0) for row in rows or ())
        question = self._journals.question(number)
        if not asked:
            question = question or self._journals.question(-1 - questions)
        state = State(number, rows=rows or [], steps=steps, **question or {})
        _note_losses(state, lost)
        return Saved(events, state)


def restore(parts: Parts, standing: Standing, keeper: Keeper) -> None:
    """Go on from where a run was left, in every process that shares it; else from its start.

    Args:
        parts: What the run is made of; learner and strategy take back their states.
        standing: That of its start.
        keeper: Knows where the run was left; one that keeps nothing in all processes but the first.

    Raises:
        DamagedError: Nothing is left to go on from.
        ValueError: The run is of another version or other data, or has results and no ledger.
    """
    saved = current().broadcast(lambda: keeper.load(standing.history))
    if saved is not None:
        standing.pool, standing.state = parts.pool(saved.events), saved.state
        standing.numerics = saved.numerics
        if saved.learner is not None:
            parts.learner.load_state_dict(saved.learner)
            parts.strategy.load_state_dict(saved.strategy)
    keeper.go_on(standing)


def settle_numerics(parts: Parts, standing: Standing, device: torch.device) -> None:
    """Set the number of threads, that of a run before unless the settings name one.

    Where other bits must be expected than in the run before, a warning says so, and the metrics.

    Args:
        parts: What the run is made of.
        standing: Where it stands; its numerics become those of this process.
        device: Where it works.
    """
    before = standing.numerics
    threads = parts.settings.threads or before.get("threads") or torch.get_num_threads()
    torch.set_num_threads(threads)
    standing.numerics = signature(device, threads=threads, **parts.learner.numerics())
    if before and (changes := differences(before, standing.numerics)):
        log.warning(
            "this run goes on under other numerics (%s), so its results may differ in their "
            "last bits from an uninterrupted one",
            changes,
        )
        changed: list[str] = standing.state.row.setdefault("numerics_changed", [])
        changed.append(changes)


def _note_losses(state: State, lost: Sequence[str]) -> None:
    """Warn, and record, that the run goes on without something."""
    if lost:
        log.warning(
            "lost: %s; the run goes on without, and its results may differ from those of an "
            "uninterrupted one",
            ", ".join(lost),
        )
        state.row.setdefault("lost", []).extend(lost)


def _predictions(rounds: Sequence[int]) -> list[str]:
    """What is lost with the predictions of some rounds, in words."""
    return [f"the predictions of round {number}" for number in rounds]
