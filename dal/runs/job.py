"""A run in progress: its settings, its parts, its state, and how they are saved and restored."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dal.checkpoint import Checkpoints, save
from dal.data.source import Source
from dal.journals import LEDGER, Journals
from dal.learners import Committee, Learner, Rounds
from dal.oracles import Oracle
from dal.pool import Pool
from dal.query import History, Members, Need, Needs, PredictionHistory, Probs, Strategy
from dal.query.selection import random_keys
from dal.recording.recorder import Recorder
from dal.recording.run_directory import MODEL
from dal.settings import Settings
from dal.state import FORMAT, State, check_format
from dal.task import Task
from dal.utils.clock import clock
from dal.utils.digest import digest_tensors
from dal.utils.numerics import differences, signature
from dal.utils.ranks import ALONE, Ranks
from dal.utils.safe_files import DamagedError
from dal.utils.seeding import generator
from dal.utils.signals import Interrupts

log = logging.getLogger(__name__)

MODELS = "models"
EARLIER_ROWS = "the metrics of the rounds before"


@dataclass
class Job:
    """Everything the steps of a round work with."""

    settings: Settings
    source: Source
    task: Task
    learner: Learner
    committee: Committee
    strategy: Strategy
    oracle: Oracle
    initial: Tensor
    recorder: Recorder
    interrupts: Interrupts
    checkpoints: Checkpoints | None
    device: torch.device
    ranks: Ranks = ALONE
    pool: Pool = field(init=False)
    history: PredictionHistory = field(init=False)
    state: State = field(init=False)
    journals: Journals | None = field(init=False)
    numerics: dict[str, Any] = field(init=False)
    fingerprint: str = field(init=False)
    start: dict[str, str] = field(init=False)
    _subset: Tensor | None = field(init=False)
    resumed: bool = field(init=False)

    def __post_init__(self) -> None:
        name = type(self.strategy).__name__
        self.task.check_kind(self.strategy.tasks, name, self.source.name)
        self.learner.check_needs(self.strategy.needs - set(self.from_history), name)
        folder = self.checkpoints.folder.parent / "history" if self.checkpoints else None
        self.history = PredictionHistory(
            len(self.source.train),
            self.source.num_classes,
            keep=None if self.settings.keep_history else max(self.from_history.values(), default=0),
            folder=folder,
        )
        shared = self.ranks.world_size > 1
        self.fingerprint = self.source.fingerprint() if self.checkpoints or shared else ""
        self._start()
        self.start = self._digests() if self.checkpoints or shared else {}
        self._compare()
        self.journals = (
            Journals(self.checkpoints.folder.parent, self.fingerprint) if self.checkpoints else None
        )
        saved = self._load()
        if shared:
            saved = self._share(saved)
        self._apply_numerics(saved["numerics"] if saved else None)

    def _load(self) -> dict[str, Any] | None:
        """Go on where the run stands; gives its checkpoint, if there is a whole one."""
        self.resumed = False
        if self.checkpoints is None or self.journals is None:
            return None
        try:
            saved = self.checkpoints.load(self._restore, self._restore_in_part)
            self.resumed = saved is not None or self._rebuild("there is no checkpoint")
        except DamagedError as error:
            saved, self.resumed = None, self._rebuild(str(error))
            if not self.resumed:
                raise DamagedError(f"{error}; {self.journals.remedy}") from error
        if not self.resumed:
            self.journals.check_absence()
        self.journals.take(self.pool, self.state.rows)
        return saved

    def _start(self) -> None:
        """The state before the first round: the initial labels are known."""
        self.state = State()
        targets = self.source.train.targets[self.initial]
        self.pool = self.new_pool()
        self.task.check_targets(targets)
        self.pool.label(0, self.initial, targets, origin="initial")
        self._subset = self._draw_subset()
        left, settings = len(self.candidates), self.settings
        if 0 < left < settings.query_size:
            raise ValueError(
                f"query_size={settings.query_size} but only {left} sample{'s' * (left > 1)} can be "
                "chosen; lower it"
            )
        if left < settings.budget:
            log.info("budget=%d: all %d unlabeled samples get a label", settings.budget, left)

    def new_pool(self, events: Sequence[Mapping[str, Any]] = ()) -> Pool:
        """A ledger for the training part, with these events."""
        targets = self.source.train.targets
        pool = Pool(len(targets), targets.shape[1] if targets.ndim == 2 else None)
        pool.extend(events)
        return pool

    def _compare(self) -> None:
        """Several processes must begin alike."""
        if (first := self.ranks.broadcast(lambda: self.start)) != self.start:
            names = ", ".join(name for name in first if first[name] != self.start[name])
            raise RuntimeError(
                f"process {self.ranks.rank} has other {names} than the first; give all of them the "
                "same data and versions"
            )

    def _share(self, saved: dict[str, Any] | None) -> dict[str, Any] | None:
        """Give what the first process restored to the others, but for what it alone looks at."""
        known = saved and {name: saved[name] for name in ("numerics", "learner")}
        self.resumed, saved, events, state = self.ranks.broadcast(
            lambda: (self.resumed, known, self.pool.events(), vars(self.state))
        )
        if self.resumed and not self.ranks.is_main:
            self.pool, self.state = self.new_pool(events), State(**state)
            if saved is not None:
                self.learner.load_state_dict(saved["learner"])
        return saved

    def _digests(self) -> dict[str, str]:
        """What strategies compared at one seed must have in common, by name."""
        return {
            "data": self.fingerprint,
            "initial": digest_tensors({"initial": self.initial}),
            "candidates": digest_tensors({"candidates": self.candidates}),
            "weights": self.learner.fingerprint(),
        }

    def _draw_subset(self) -> Tensor | None:
        """bool, (num_total,): the samples among which strategies choose; None for all."""
        count, total = self.settings.candidates, len(self.source.train)
        if count is None:
            return None
        unlabeled = self.pool.unlabeled_idx
        if count >= len(unlabeled):
            log.info("candidates=%d: all %d unlabeled samples are", count, len(unlabeled))
            return None
        keys = random_keys(total, generator(self.settings.seed, 0, "candidates"))
        subset = torch.zeros(total, dtype=torch.bool)
        subset[unlabeled[keys[unlabeled].argsort()[:count]]] = True
        return subset

    @property
    def remembers(self) -> bool:
        """Whether predictions are kept from round to round."""
        return self.history.keep != 0

    @property
    def from_history(self) -> dict[Need, int]:
        """The strategy's needs that remembered predictions answer, each with its rounds."""
        return from_history(self.strategy, self.committee)

    @property
    def scan_needs(self) -> Needs:
        """What the pass must compute: the strategy's needs, the history's fed by probabilities."""
        needs = self.strategy.needs - set(self.from_history)
        return needs | {Probs()} if self.remembers else needs

    @property
    def candidates(self) -> Tensor:
        """int64, (N,), ascending: the unlabeled samples that the strategy may choose."""
        unlabeled = self.pool.unlabeled_idx
        return unlabeled if self._subset is None else unlabeled[self._subset[unlabeled]]

    def commit(self, following: Literal["fit", "query", "answers"]) -> None:
        """Save the whole state: a killed run goes on from here."""
        self.state.next = following
        with clock(self.state.row, "save_s"):
            self.save()
        self.recorder.write(self.state, self.pool)

    def save(self) -> None:
        """Write a checkpoint, where the run keeps any."""
        if self.checkpoints is not None and self.journals is not None:
            marks = self.journals.extend(self.pool, self.state.rows)
            self.checkpoints.save(self._snapshot() | {"journals": marks})

    def keep_question(self) -> None:
        """Keep what people are asked, so that their answers find it without a checkpoint too."""
        if self.journals is not None:
            self.journals.keep_question(self.state.round, self.state.pending)

    def export(self, if_missing: bool = False) -> None:
        """Write the model for `dal.load`, where the run keeps files."""
        directory = self.recorder.directory
        if directory is not None and not (if_missing and (directory.path / MODEL).is_file()):
            self.learner.export(directory.path)

    def keep_model(self) -> None:
        """Keep the model of this round, where the settings ask for it."""
        if self.settings.keep_models and self.checkpoints is not None:
            folder = self.checkpoints.folder.parent / MODELS
            folder.mkdir(exist_ok=True)
            path = folder / f"round_{self.state.round:04d}.pt"
            save(path, {"format": FORMAT, "learner": self.learner.state_dict()})

    def _snapshot(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "data": self.fingerprint,
            "numerics": {**self.numerics, **self.learner.numerics()},
            "state": self.state.state_dict(),
            "learner": self.learner.state_dict(),
            "history": self.history.state_dict(),
            "strategy": self.strategy.state_dict(),
        }

    def _restore_in_part(self, saved: dict[str, Any]) -> None:
        """Do without what is damaged of the files that a state refers to, and say so."""
        self._restore(saved, in_part=True)

    def _restore(self, saved: dict[str, Any], in_part: bool = False) -> None:
        check_format(saved)
        if saved["data"] != self.fingerprint:
            raise ValueError(
                f"the data of {self.source.name} have changed since this run began; restore them, "
                "or choose another saved_dir to start anew"
            )
        assert self.journals is not None
        events = self.journals.events(saved["journals"])
        rows, lost = self._rows(saved, in_part)
        lost += _predictions(self.history.load_state_dict(saved["history"], in_part))
        self.pool = self.new_pool(events)
        self.learner.load_state_dict(saved["learner"])
        self.strategy.load_state_dict(saved["strategy"])
        self.state = State(**saved["state"], rows=rows)
        self._note_losses(lost)

    def _rows(self, saved: dict[str, Any], in_part: bool) -> tuple[list[dict[str, Any]], list[str]]:
        """Metrics of the rounds before, and what of them is lost."""
        assert self.journals is not None
        try:
            return self.journals.rows_of(saved["journals"]), []
        except DamagedError:
            if not in_part:
                raise
        rows = self.journals.rows_shown(saved["state"]["round"])
        return rows or [], [EARLIER_ROWS] if rows is None else []

    def _rebuild(self, cause: str) -> bool:
        """Go on from the ledger where no checkpoint is whole; False where nothing was answered."""
        assert self.journals is not None
        events = self.journals.all_events()
        pool = self.new_pool(events or ())
        if not (asked := pool.queries()):
            return False
        log.warning("%s; this run goes on from its %d answers in %s", cause, len(asked), LEDGER)
        number = asked[-1][0] + 1
        rows = self.journals.rows_shown(number)
        lost = ["all checkpoints", *([EARLIER_ROWS] if rows is None else [])]
        if self.remembers:
            lost += _predictions(self.history.load_files(number))
        steps = sum(row.get("fit/steps", 0) for row in rows or ())
        self.pool = pool
        question = self.journals.question(number)
        self.state = State(number, pending=question, rows=rows or [], steps=steps)
        self._note_losses(lost)
        return True

    def _note_losses(self, lost: Sequence[str]) -> None:
        """Warn, and record, that the run goes on without something."""
        if lost:
            log.warning(
                "lost: %s; the run goes on without, and its results may differ from those of an "
                "uninterrupted one",
                ", ".join(lost),
            )
            self.state.row.setdefault("lost", []).extend(lost)

    def _apply_numerics(self, saved: dict[str, Any] | None) -> None:
        """Take back threads from a resumed run; warn where other bits must be expected."""
        threads = self.settings.threads or (saved or {}).get("threads") or torch.get_num_threads()
        torch.set_num_threads(threads)
        self.numerics = signature(self.device, threads=threads, **self.learner.numerics())
        if saved and (changes := differences(saved, self.numerics)):
            log.warning(
                "this run goes on under other numerics (%s), so its results may differ in their "
                "last bits from an uninterrupted one",
                changes,
            )
            changed: list[str] = self.state.row.setdefault("numerics_changed", [])
            changed.append(changes)


def _predictions(rounds: Sequence[int]) -> list[str]:
    """What is lost with the predictions of some rounds, in words."""
    return [f"the predictions of round {number}" for number in rounds]


def from_history(strategy: Strategy, committee: Committee) -> dict[Need, int]:
    """The needs of a strategy that remembered predictions answer, each with its rounds."""
    found: dict[Need, int] = {}
    for need in strategy.needs:
        if isinstance(need, History):
            found[need] = need.rounds
        if isinstance(need, Members) and isinstance(committee, Rounds):
            found[need] = committee.size
    return found


@contextmanager
def own_threads() -> Iterator[None]:
    """Give back torch's number of threads after a block."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
