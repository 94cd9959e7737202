"""What a run is made of, and where it stands.

Both touch no disk and ask nobody: a replay, a test or a notebook takes them alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.consensus import CONSENSUS
from dal.cooperation import AnswersAlone, Cooperative
from dal.data.draw import draw
from dal.data.made import MadeSplit
from dal.data.source import Source, is_known
from dal.learners import Committee, Dropout, Learner, Rounds
from dal.pool import Pool
from dal.query import History, Members, Need, Needs, PoolView, PredictionHistory, Probs, Strategy
from dal.query.needs import AnswersSoFar, Labels
from dal.query.selection import random_keys
from dal.runs.reserve import reserved, with_copies
from dal.settings import Settings
from dal.state import State
from dal.stopping import Criterion
from dal.task import Task
from dal.train_set import TrainSet
from dal.utils.digest import digest_tensors
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)

OF_LEDGER: Needs = frozenset({AnswersSoFar(), Labels()})
"""Needs that the ledger answers."""


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
        source: The data.
        learner: The model, and how it is trained and asked.
        strategy: Chooses what to label.
        initial: int64, (M,), the samples whose labels are known at the start, or asked for before
            the first round.
        committee: Who the members are, where the strategy asks for a committee.
        settings: Seed, query size, budget, what is kept.
        per_class: See `dal.data.initial.ColdStart`.
        stopping: Criteria that may end the run, by name.
        cooperative: Learns from confident guesses as well; None for answers alone.

    Raises:
        TypeError: The strategy is meant for other targets, or needs what the learner cannot give.
    """

    source: Source
    learner: Learner
    strategy: Strategy
    initial: Tensor
    committee: Committee = field(default_factory=Dropout)
    settings: Settings = field(default_factory=Settings)
    per_class: int | None = None
    stopping: Mapping[str, Criterion] = field(default_factory=dict)
    cooperative: Cooperative = field(default_factory=AnswersAlone)

    def __post_init__(self) -> None:
        self.check_strategy(self.strategy, type(self.strategy).__name__)

    def check_strategy(self, strategy: Strategy, name: str) -> None:
        """Refuse a strategy that cannot choose from these data by this learner.

        Raises:
            TypeError: With its name and the reason.
        """
        self.task.check_kind(strategy.tasks, name, self.source.name)
        self.learner.check_needs(self.asked_of_learner(strategy), name)

    @property
    def task(self) -> Task:
        """What is predicted: one class a sample, or several labels."""
        return self.source.task

    def from_history(self, strategy: Strategy) -> dict[Need, int]:
        """The needs of a strategy that remembered predictions answer, each with its rounds."""
        found: dict[Need, int] = {}
        for need in strategy.needs:
            if isinstance(need, History):
                found[need] = need.rounds
            if isinstance(need, Members) and isinstance(self.committee, Rounds):
                found[need] = self.committee.size
        return found

    def asked_of_learner(self, strategy: Strategy) -> Needs:
        """The needs of a strategy that the pass over the candidates answers."""
        return strategy.needs - set(self.from_history(strategy)) - OF_LEDGER

    @property
    def remembered(self) -> int | None:
        """The number of rounds whose predictions are kept; None for all of them."""
        rounds = [*self.from_history(self.strategy).values()]
        if self.cooperative.rounds > 1:
            rounds.append(self.cooperative.rounds)
        return None if self.settings.keep_history else max(rounds, default=0)

    def scan_needs(self, strategy: Strategy) -> Needs:
        """What the pass must compute; where predictions are kept, probabilities as well.

        Args:
            strategy: Which chooses in this round, see `Strategy.current`.
        """
        needs = self.asked_of_learner(strategy)
        if self.cooperative.active:
            needs |= self.cooperative.teacher.needs
        return needs if self.remembered == 0 else needs | {Probs()}

    @cached_property
    def stop_set(self) -> Tensor:
        """int64, ascending: random samples of the training part as it was when the run began.

        The same in every round, whatever becomes labeled, and for every strategy.
        """
        begun = self.source.begun
        keys = random_keys(begun, generator(self.settings.seed, 0, "stop_set"))
        return keys.topk(min(self.settings.stop_set, begun)).indices.sort().values

    def divided(self, labels: TrainSet, round_number: int) -> tuple[TrainSet, TrainSet | None]:
        """What a round trains on, and the labels that it holds out to validate on.

        Drawn anew each round, in class proportions; the only label of a class is trained on where
        another can be held out. At least one is held out, and half of them at most. Guesses are
        trained on, all of them, and validate nothing.

        Raises:
            ValueError: There is only one label.
        """
        amount, answered = self.source.validation_of_labels, (~labels.is_guess).nonzero().squeeze(1)
        if not amount:
            return labels, None
        total = len(answered)
        if total < 2:
            raise ValueError(
                f"split.validation_of_labels={amount} holds out at least one label, and round "
                f"{round_number} has {total} to train on; ask for more at the start, or set it to 0"
            )
        candidates, stratified = answered, labels.targets.ndim == 1
        if stratified:
            targets = labels.targets[answered]
            several = torch.bincount(targets)[targets] > 1
            candidates = candidates[several] if several.any() else candidates
        count = max(min(round(amount * total), len(candidates) // 2), 1)
        rng = generator(self.settings.seed, round_number, "validation_of_labels")
        drawn = draw(labels.targets, candidates, count, rng, stratified)
        kept = torch.ones(len(labels), dtype=torch.bool).index_fill(0, drawn, False)
        return labels.part(kept.nonzero().squeeze(1)), labels.part(drawn)

    def pool(self, events: Sequence[Mapping[str, Any]] = ()) -> Pool:
        """A ledger for the training part that holds some events.

        Raises:
            ValueError: They are no events of these data; see `Pool.extend`.
        """
        targets = self.source.train.targets
        num_labels = targets.shape[1] if targets.ndim == 2 else None
        arriving = isinstance(self.source.train, MadeSplit)
        pool = Pool(len(targets), num_labels, CONSENSUS[self.settings.consensus], arriving)
        pool.extend(events)
        self.task.check_targets(pool.train_set().targets)
        return pool

    def history(self, folder: Path | None = None, **options: Any) -> PredictionHistory:
        """An empty history of predictions for the training part; see `PredictionHistory`."""
        options = {"keep": self.remembered, "begun": self.source.begun} | options
        size = len(self.source.train), self.source.num_classes
        return PredictionHistory(*size, folder=folder, **options)


@dataclass
class Standing:
    """Where a run stands.

    Attributes:
        pool: Who is labeled.
        history: What the last models predicted.
        state: Round, what comes next in it, metrics, the open query.
        among: bool, (num_total,), the samples among which strategies choose; None for all.
        numerics: What decides the bits of the results; empty before the first fit.
        reserve: int64, (blocks, K), what no strategy may choose; see `dal.runs.reserve`.
    """

    pool: Pool
    history: PredictionHistory
    state: State = field(default_factory=State)
    among: Tensor | None = None
    numerics: dict[str, Any] = field(default_factory=dict)
    reserve: Tensor = field(default_factory=lambda: torch.empty(0, 1, dtype=torch.int64))

    @classmethod
    def at_start(cls, parts: Parts, history: PredictionHistory | None = None) -> Standing:
        """Before the first round: initial labels that are known, and nothing else has happened.

        Args:
            parts: What the run is made of.
            history: An empty one; None for one in memory.

        Raises:
            ValueError: An initial target is none of the classes, or there are fewer candidates
                than one query takes.
        """
        targets = parts.source.train.targets[parts.initial]
        known = is_known(targets)
        parts.task.check_targets(targets[known])
        pool = parts.pool()
        pool.label(0, parts.initial[known], targets[known], origin="initial")
        history = parts.history() if history is None else history
        reserve = reserved(parts.source, parts.initial, parts.settings)
        standing = cls(pool, history, among=_drawn(parts, pool, reserve), reserve=reserve)
        left, size = len(standing.candidates) - int((~known).sum()), parts.settings.query_size
        shown = f"{left} sample{'s' * (left > 1)}"
        others = isinstance(parts.source.train, MadeSplit)  # are made, or arrive
        if not others and 0 < left < size:
            raise ValueError(f"query_size={size} but only {shown} can be chosen; lower it")
        return standing

    @property
    def candidates(self) -> Tensor:
        """int64, (N,), ascending: the unlabeled samples that the strategy may choose."""
        unlabeled = self.pool.unlabeled_idx
        if self.state.tickets:
            unlabeled = unlabeled[~self.is_open[unlabeled]]
        return unlabeled if self.among is None else unlabeled[self.among[unlabeled]]

    @property
    def is_open(self) -> Tensor:
        """bool, (num_total,): samples that an earlier question asked about, to be answered yet."""
        is_open = torch.zeros(self.pool.num_total, dtype=torch.bool)
        asked = [index for entry in self.state.tickets for index in entry["open"]]
        is_open[[index for index in asked if index < len(is_open)]] = True  # others were made
        return is_open

    def with_history(self, view: PoolView, needs: Mapping[Need, int]) -> PoolView:
        """A view that shows the predictions of the last rounds too, so many for each need."""
        for need, count in needs.items():
            view = view.with_result(need, self.history.last(count, view.indices))
        return view

    def with_labels(self, view: PoolView, needs: Needs) -> PoolView:
        """A view that shows what is known of the labeled samples, where needs ask for that."""
        if not needs & OF_LEDGER:
            return view
        train_set = self.pool.train_set().answers()
        view = view.with_result(Labels(), train_set.targets)
        return view.with_result(AnswersSoFar(), _answers(self.pool, train_set))

    @property
    def begun(self) -> bool:
        """Whether anything has been saved: a fit in progress, or a round that is past its fit."""
        state = self.state
        return state.round > 0 or state.next != "fit" or state.fit is not None


def _answers(pool: Pool, train_set: TrainSet) -> Tensor:
    """What answers the need `AnswersSoFar`."""
    events, people = pool.events(), dict[str, int]()
    row_of = {index: row for row, index in enumerate(train_set.indices.tolist())}
    found = []
    for (index, name), number in sorted(pool.latest_answers().items(), key=lambda item: item[1]):
        target = events[number]["target"]
        if index in row_of and isinstance(target, int) and target >= 0:
            found.append((row_of[index], index, people.setdefault(name, len(people)), target))
    return torch.tensor(found, dtype=torch.int64).view(-1, 4)


def digests(parts: Parts, standing: Standing) -> dict[str, str]:
    """What runs compared at one seed must have in common at their start, by name."""
    return {
        "data": parts.source.fingerprint(),
        "initial": digest_tensors({"initial": parts.initial}),
        "candidates": digest_tensors({"candidates": _of_beginning(parts, standing.candidates)}),
        "weights": parts.learner.fingerprint(),
    }


def added(source: Source) -> dict[str, str]:
    """The samples that came after the run had begun, which `digests` leave out; none for none."""
    late = range(source.begun, len(source.train))
    told = repr([source.content(index) for index in late])
    return (
        {"added samples": digest_tensors({told: source.train.targets[source.begun :]})}
        if late
        else {}
    )


def check_alike(start: Mapping[str, str]) -> None:
    """Refuse to begin where the processes that share a run have other digests than the first.

    Raises:
        RuntimeError: Naming the process, and what differs.
    """
    ranks = current()
    if (first := ranks.broadcast(lambda: start)) != start:
        names = ", ".join(name for name in first if first[name] != start[name])
        raise RuntimeError(
            f"process {ranks.rank} has other {names} than the first; give all of them the "
            "same data and versions"
        )


def _of_beginning(parts: Parts, indices: Tensor) -> Tensor:
    """Those of some samples, ascending, that were there when the run began."""
    source = parts.source
    return indices[indices < source.begun] if source.appended else indices


def _drawn(parts: Parts, pool: Pool, reserve: Tensor) -> Tensor | None:
    """bool, (num_total,): as many candidates as the settings say, at random; None for all.

    Those of the reserve, and copies of them, are none. Samples that came after the run had begun
    are candidates in any case, and decide nothing.
    """
    count, begun = parts.settings.candidates, parts.source.begun
    others = ~with_copies(parts.source, reserve) if len(reserve) else None
    if count is None:
        return others
    unlabeled = _of_beginning(parts, pool.unlabeled_idx)
    unlabeled = unlabeled if others is None else unlabeled[others[unlabeled]]
    unlabeled = unlabeled[~torch.isin(unlabeled, parts.initial)]  # those are asked about first
    if count >= len(unlabeled):
        log.info("candidates=%d: all %d unlabeled samples are", count, len(unlabeled))
        return others
    keys = random_keys(begun, generator(parts.settings.seed, 0, "candidates"))
    among = torch.arange(pool.num_total) >= begun
    among[unlabeled[keys[unlabeled].argsort()[:count]]] = True
    return among
