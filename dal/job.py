"""A run in progress: its settings, its parts, its state, and how they are saved and restored."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from dal.checkpoint import Checkpoints, save
from dal.data.source import Source
from dal.learners import Committee, Learner, Rounds
from dal.oracles import Oracle
from dal.pool import Pool
from dal.query import History, Members, Need, Needs, PredictionHistory, Probs, Strategy
from dal.query.selection import random_keys
from dal.recording.recorder import Recorder
from dal.recording.run_directory import MODEL
from dal.task import Task
from dal.utils.clock import clock
from dal.utils.digest import digest_tensors
from dal.utils.json_lines import JsonLines, parse_json_lines
from dal.utils.numerics import differences, signature
from dal.utils.ranks import ALONE, Ranks
from dal.utils.seeding import generator
from dal.utils.signals import Interrupts

log = logging.getLogger(__name__)

FORMAT = 3
MODELS = "models"
GROWING = ("rows", "queries")
"""What of a run's state grows with its rounds."""
MOST_THREADS = 1024  # far beyond any machine's, OpenMP crashes the process


@dataclass(frozen=True)
class Settings:
    """How a run goes; all but ``seed``, ``query_size``, ``candidates`` may change as a run goes on.

    Attributes:
        seed: Decides weights, training order and ties.
        query_size: Labels asked in a round.
        budget: Labels asked in all, the initial ones not counted.
        max_rounds: At most so many queries; None for no limit.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        threads: CPU threads; None for what the run used before, or torch's default.
        batch_size: Batch size of the pool pass; None for what the run used before, or automatic.
        keep_history: Keep the predictions of all rounds, for pictures of a sample over time.
        save_every: Save inside a fit as well, every so many epochs; None for never.
        candidates: Choose among so many samples only, drawn at the start of the run by its seed
            and thus the same for every strategy; None for the whole pool.
        keep_models: Keep the model of every round, for `dal.replay`.
        record_epochs: Record the metrics of every epoch in TensorBoard and ``train.log``; with
            networks whose epochs take a millisecond that costs more than the epochs.

    Raises:
        ValueError: A number is out of range.
    """

    seed: int = 0
    query_size: int = 10
    budget: int = 100
    max_rounds: int | None = None
    device: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    keep_history: bool = False
    save_every: int | None = None
    candidates: int | None = None
    keep_models: bool = False
    record_epochs: bool = True

    def __post_init__(self) -> None:
        for name in ("query_size", "budget", "threads", "batch_size", "save_every", "candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}; give at least 1")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ValueError(f"threads={self.threads}; give at most {MOST_THREADS}")
        if self.max_rounds is not None and self.max_rounds < 0:
            raise ValueError(f"max_rounds={self.max_rounds}; give 0 (fit once) or more")


@dataclass
class State:
    """Where a run stands; with the parts' own states, all that continuing exactly takes.

    Attributes:
        round: The round in progress.
        next: What comes next in it: the commit points lie before ``fit``, ``query``, ``answers``.
        fit: A fit saved between two batches or epochs, or ``done`` and not yet tested; or None.
        pending: The query that waits for answers, or None.
        row: Metrics of the round in progress.
        rows: Metrics of the rounds before it.
        queries: [round, index, score, label] of every queried sample; label -1: abstained. A
            multi-label one is a list of C numbers 0 and 1, or -1 everywhere.
        confusion: Counts of the last model on the test part, as `Task.evaluate` gives them: int64,
            (C, C), or multi-label (C, 2, 2); None before the first.
        steps: Optimizer steps in the rounds before this fit.
    """

    round: int = 0
    next: Literal["fit", "query", "answers"] = "fit"
    fit: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    queries: list[list[Any]] = field(default_factory=list)
    confusion: Tensor | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        self._lines = {name: JsonLines() for name in GROWING}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers, what grows from round to round as text."""
        saved = {f.name: getattr(self, f.name) for f in fields(self)}
        return saved | {name: lines.text(saved[name]) for name, lines in self._lines.items()}

    @classmethod
    def load(cls, saved: dict[str, Any]) -> State:
        """The state that `state_dict` was asked of."""
        return cls(**saved | {name: parse_json_lines(saved[name]) for name in GROWING})

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        """Metrics of all rounds whose model has been evaluated."""
        return [*self.rows, self.row] if "test/accuracy" in self.row else self.rows


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
    numerics: dict[str, Any] = field(init=False)
    fingerprint: str = field(init=False)
    start: dict[str, str] = field(init=False)
    _subset: Tensor | None = field(init=False)
    resumed: bool = field(init=False)

    def __post_init__(self) -> None:
        name = type(self.strategy).__name__
        if self.task.kind not in self.strategy.tasks:
            raise TypeError(
                f"{name} is meant for {' and '.join(sorted(self.strategy.tasks))} targets, and "
                f"those of {self.source.name} are {self.task.kind}; choose another strategy"
            )
        self.learner.check_needs(self.strategy.needs - set(self.from_history), name)
        folder = self.checkpoints.folder.parent / "history" if self.checkpoints else None
        self.history = PredictionHistory(
            len(self.source.train),
            self.source.num_classes,
            keep=None if self.settings.keep_history else max(self.from_history.values(), default=0),
            folder=folder,
        )
        shared = self.ranks.count > 1
        self.fingerprint = self.source.fingerprint() if self.checkpoints or shared else ""
        self._start()
        self.start = self._digests() if self.checkpoints or shared else {}
        self._compare()
        saved = (
            self.checkpoints.load(self._restore, self._restore_in_part)
            if self.checkpoints
            else None
        )
        if shared:
            saved = self._share(saved)
        self._apply_numerics(saved["numerics"] if saved else None)
        self.resumed = saved is not None

    def _start(self) -> None:
        """The state before the first round: the initial labels are known."""
        self.state = State()
        targets = self.source.train.targets[self.initial]
        self.pool = Pool(len(self.source.train), targets.shape[1] if targets.ndim == 2 else None)
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

    def _compare(self) -> None:
        """Several processes must begin alike."""
        if (first := self.ranks.from_first(lambda: self.start)) != self.start:
            names = ", ".join(name for name in first if first[name] != self.start[name])
            raise RuntimeError(
                f"process {self.ranks.rank} has other {names} than the first; give all of them the "
                "same data and versions"
            )

    def _share(self, saved: dict[str, Any] | None) -> dict[str, Any] | None:
        """Give what the first process restored to the others, but for what it alone looks at."""
        alone = ("history", "strategy")
        sent = self.ranks.from_first(
            lambda: saved and {k: v for k, v in saved.items() if k not in alone}
        )
        if sent is not None and not self.ranks.first:
            self.pool.load_state_dict(sent["pool"])
            self.learner.load_state_dict(sent["learner"])
            self.state = State.load(sent["state"])
        return sent

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
        if self.checkpoints is not None:
            self.checkpoints.save(self._snapshot())

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
            "pool": self.pool.state_dict(),
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
        lost = self.history.load_state_dict(saved["history"], without_damaged=in_part)
        self.pool.load_state_dict(saved["pool"])
        self.learner.load_state_dict(saved["learner"])
        self.strategy.load_state_dict(saved["strategy"])
        self.state = State.load(saved["state"])
        if lost:
            self._note_loss(f"the predictions of round{'s' * (len(lost) > 1)} {_listed(lost)}")

    def _note_loss(self, lost: str) -> None:
        """Warn, and record, that the run goes on without something."""
        log.warning(
            "%s are lost, and the run goes on without; its results may differ from those of an "
            "uninterrupted one",
            lost,
        )
        losses: list[str] = self.state.row.setdefault("lost", [])
        losses.append(lost)

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


def check_format(saved: dict[str, Any]) -> None:
    """Refuse a checkpoint of another version.

    Raises:
        ValueError: Naming both versions.
    """
    if saved.get("format") != FORMAT:
        raise ValueError(
            f"the run was written by another version of dal (format {saved.get('format')}, "
            f"this is {FORMAT}); go on with that version, or choose another saved_dir"
        )


def _listed(numbers: Sequence[int]) -> str:
    """Numbers in words: ``3``, or ``3, 5 and 9``."""
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last


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
