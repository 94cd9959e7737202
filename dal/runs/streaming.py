"""A stream: samples arrive one after the other, and are asked about or let go at once.

The position in the stream and what the budget manager remembers stand in ``State.setting``. A round
walks on from there with the model just fitted, until ``query_size`` samples are asked about or the
stream ends; so the run trains after every so many questions.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.data.source import UNKNOWN, Source
from dal.query import Query, ScoreStrategy
from dal.runs.arriving import Arrived, arrivals, arrived, check_strategy, num_right
from dal.runs.auditing import blocks_due
from dal.runs.budget import affordable
from dal.runs.choosing import pose
from dal.runs.job import Job
from dal.runs.setting import Setting
from dal.runs.spool import Spool, order_of
from dal.streams.managers import BudgetManager, Memory
from dal.streams.order import ORDERS, Order, arrival_order
from dal.streams.watch import Watch, watched
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Walk:
    """How far a round has come in the stream.

    Attributes:
        position: Samples of the order that are behind it.
        memory: What the manager remembers.
        watch: Sees whether a threshold asks about nothing, or everything.
        picks: Samples to be asked about.
        picked: Their scores.
        scores: Those of all samples that it came by.
        known, right: How many of them the data have a class of, and of how many the model's guess
            was right, before anybody was asked.
    """

    position: int
    memory: Memory
    watch: Watch
    picks: list[int] = field(default_factory=list)
    picked: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    known: int = 0
    right: int = 0

    @classmethod
    def of(cls, saved: dict[str, Any], manager: BudgetManager) -> Walk:
        """That of a new round, from what was saved; at the beginning of the stream from nothing."""
        remembered = saved.get("manager")
        memory = manager.start() if remembered is None else Memory(**remembered)
        return cls(saved.get("position", 0), memory, Watch(**saved.get("watch", {})))

    def saved(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "position": self.position,
            "manager": vars(self.memory),
            "watch": vars(self.watch),
        }


class StreamSetting(Setting):
    """Samples arrive one after the other, and are asked about or let go at once.

    Whoever is let go does not come back. Initial labels are known before the first sample arrives.

    Args:
        manager: Decides about each sample.
        order: ``own``: as samples lie in the data; ``shuffled``; ``drifting``: classes come one
            after another by degrees, see `dal.streams.order.drifting`.
        drift: Of ``drifting``, in [0, 1].
        density: A score counts its height times the mean similarity of the sample to those of the
            window before it, to this power; 0 for the score alone.
        window: Samples of that window.
        chunk: How many samples are scored at once. Decisions are the same but for rounding.
        arrivals: What gives the samples, in the place of the training part, whose samples are known
            or not asked about: a pipe or a file of lines, ``-`` for the standard input, or any
            Python iterable; see `dal.data.lines.Parser` for what it may give. None: the samples
            of the training part arrive.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        I. Žliobaitė, A. Bifet, B. Pfahringer, G. Holmes. Active learning with drifting streaming
        data. IEEE Transactions on Neural Networks and Learning Systems 25(1), 2014.

    Differs from the paper: the learner is fitted on all labels after every ``query_size``
    questions, not updated with each.
    """

    ended = "stream_ended"

    def __init__(
        self,
        manager: BudgetManager,
        order: Order = "shuffled",
        drift: float = 0.8,
        density: float = 0.0,
        window: int = 500,
        chunk: int = 512,
        arrivals: str | Path | Iterable[Any] | None = None,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f"setting.order={order}; choose {', '.join(ORDERS)}")
        if not 0 <= drift <= 1:
            raise ValueError(f"setting.drift={drift:g}; give a share, from 0 to 1")
        if not 0 <= density < math.inf:
            raise ValueError(f"setting.density={density:g} must be finite and >= 0")
        for name, value in (("window", window), ("chunk", chunk)):
            if value < 1:
                raise ValueError(f"setting.{name}={value}; give at least 1")
        self.manager, self.order, self.drift = manager, order, drift
        self.density, self.window, self.chunk = density, window, chunk
        if arrivals is not None and order == "drifting":
            raise ValueError(
                "setting.order=drifting puts samples of the data in order, and those of "
                "setting.arrivals come as they come; leave one of the two out"
            )
        self._order = torch.empty(0, dtype=torch.int64)
        self._spool = None if arrivals is None else Spool(arrivals)

    def prepared(self, source: Source) -> Source:
        """See `Setting.prepared`."""
        if self._spool is not None:
            return self._spool.prepared(source)
        targets = source.train.targets[: source.begun]
        if self.order == "drifting" and (targets.ndim > 1 or (targets == UNKNOWN).any()):
            raise ValueError(
                f"setting.order=drifting goes by the class of each sample, and {source.name} has "
                f"{'several labels a sample' if targets.ndim > 1 else 'samples without one'}; "
                "give setting.order=own or shuffled"
            )
        return source

    def begin(self, job: Job) -> None:
        """See `Setting.begin`."""
        self._check(job)
        source, standing = job.source, job.standing
        if self._spool is not None:
            self._answerable(job)
            self._spool.begin(job)
            self._order = order_of(job)
        else:
            order = self._arriving(source, job.settings.seed)
            if standing.among is not None:
                order = order[standing.among[order]]
            self._order = order
        if not job.state.setting and job.standing.begun:  # its checkpoints are lost
            job.state.setting = self._rebuilt(job).saved()
        if self._spool is None and not job.state.setting and len(job.candidates) == 0:
            raise ValueError(
                f"setting=stream: no sample arrives, since all {len(self._order)} of {source.name} "
                "have an answer before the first round; give fewer initial ones, or more data"
            )
        self._leave_behind(job, job.state.setting.get("position", 0))

    def __exit__(self, *error: object) -> None:
        """See `Setting.__exit__`."""
        if self._spool is not None:
            self._spool.close()

    def exhausted(self, job: Job) -> bool:
        """See `Setting.exhausted`: of what arrives from elsewhere, only waiting tells."""
        if self._spool is None:
            return super().exhausted(job)
        behind = job.state.setting.get("position", 0)
        return self._spool.over and behind >= len(self._order)

    def ask(self, job: Job) -> None:
        """See `Setting.ask`."""
        state = job.state
        size = min(job.settings.query_size, affordable(job))
        blocks = blocks_due(job, size)
        walk = Walk.of(state.setting, self.manager)
        seen = walk.memory.seen
        walk = self._walk(job, walk, size - len(blocks))
        state.setting = walk.saved()
        self._leave_behind(job, walk.position)
        arrived = walk.memory.seen - seen
        let_go = arrived - len(walk.picks)
        if self._spool is not None:  # a round that ended with the stream may go on with more
            if not arrived:
                self._check_any()
                return
            arrived += state.row.get("stream/arrived", 0)
            let_go += state.row.get("stream/let_go", 0)
        state.row |= {
            "stream/arrived": arrived,
            "stream/let_go": let_go,
            "stream/threshold": walk.memory.threshold,
            **({"stream/accuracy": walk.right / walk.known} if walk.known else {}),
        }
        if walk.picks:
            scores = torch.tensor(walk.scores, dtype=torch.float64)
            picked = torch.tensor(walk.picked, dtype=torch.float64)
            query = Query(torch.tensor(walk.picks), picked, pool_scores=scores.float())
            pose(job, query, blocks)
        else:
            job.commit("query")  # the end of the stream is where the run stands

    def columns(self, job: Job) -> dict[str, Any]:
        """See `Setting.columns`."""
        memory = Walk.of(job.state.setting, self.manager).memory
        spent = {"stream/spent": memory.asked / memory.seen} if memory.seen else {}
        return {"stream/seen": memory.seen, **spent}

    def _walk(self, job: Job, walk: Walk, wanted: int) -> Walk:
        """Let samples arrive until so many are to be asked about, or the stream ends."""
        coming = torch.zeros(job.pool.num_total, dtype=torch.bool)
        coming[job.candidates] = True
        while len(walk.picks) < wanted and self._comes(job, walk.position):
            end = min(walk.position + self.chunk, self._end_of(walk.position))
            places = torch.arange(walk.position, end)
            if self._spool is None:
                places = places[coming[self._order[places]]]
            if len(places):
                found = arrived(job, self._order, places, self.window if self.density else 0)
                decide = partial(self._decided, job, walk, found, wanted)
                with clock(job.state.row, "select_s"):
                    walk = current().broadcast(decide)
            if len(walk.picks) < wanted:
                walk = replace(walk, position=end)
        return walk

    def _comes(self, job: Job, position: int) -> bool:
        """Whether a sample stands at a place of the order; waits for it where one may come."""
        if position >= len(self._order) and self._spool is not None:
            self._spool.more(job, self.chunk)
            self._order = order_of(job)
        return position < len(self._order)

    def _end_of(self, position: int) -> int:
        """Where what came together with the sample at a place ends."""
        if self._spool is None:
            return len(self._order)
        return self._spool.ends[bisect_right(self._spool.ends, position)]

    def _check_any(self) -> None:
        """Refuse a stream that ended before anything came."""
        if not len(self._order):
            raise ValueError(
                "setting.arrivals: no sample arrived before the end; give a pipe that is written "
                "to, or more data"
            )

    def _answerable(self, job: Job) -> None:
        """Refuse an oracle that knows nothing of samples which the data did not come with."""
        if reason := current().broadcast(job.oracle.why_not_made):
            raise ValueError(
                f"oracle={job.oracle.name} cannot answer about samples that arrive: {reason}"
            )

    def _decided(self, job: Job, walk: Walk, found: Arrived, wanted: int) -> Walk:
        """The walk after samples that arrive, up to the last that is asked about."""
        memory, watch, manager = walk.memory, walk.watch, self.manager
        picks, picked, scores = list(walk.picks), list(walk.picked), list(walk.scores)
        position, count = walk.position, 0
        told = zip(found.places.tolist(), found.indices.tolist(), strict=True)
        for (place, index), arrival in zip(told, arrivals(job, found, self.density), strict=True):
            asked, memory = manager.decide(arrival, memory)
            watch, said = watched(watch, arrival.score, asked, manager.share, manager.fixed)
            if said:
                log.warning("%s", said)
            scores.append(arrival.score)
            position, count = place + 1, count + 1
            if asked:
                picks.append(index)
                picked.append(arrival.score)
            if len(picks) == wanted:
                break
        known, right = num_right(job, found, count)
        return Walk(
            position, memory, watch, picks, picked, scores, walk.known + known, walk.right + right
        )

    def _check(self, job: Job) -> None:
        """Refuse what a stream cannot do.

        Raises:
            TypeError: The strategy looks at more than one sample, or the manager cannot take it.
            ValueError: A setting does not go with a stream.
        """
        strategy = job.parts.strategy.current(len(job.pool.train_set()))
        check_strategy(strategy, job)
        name = type(strategy).__name__
        scoring = strategy if isinstance(strategy, ScoreStrategy) else None
        if self.density and scoring is not None and scoring.lower_bound == -math.inf:
            raise TypeError(
                f"setting.density={self.density:g} weighs a score from its lower bound on, and "
                f"{name} has none; choose another strategy, or setting.density=0"
            )
        reach = 1.0 if scoring is None else scoring.reach(job.source.num_classes)
        if self.manager.by_certainty and reach == math.inf:
            raise TypeError(
                f"{type(self.manager).__name__} moves a threshold between 0 and 1, and nobody "
                f"knows how high a score of {name} can be; choose setting/manager=quantile, which "
                "takes any score, or fixed"
            )
        if job.settings.keep_history:
            raise ValueError(
                "keep_history=true keeps predictions of all samples in every round, and a stream "
                "looks at each sample once; leave it out"
            )

    def _arriving(self, source: Source, seed: int) -> Tensor:
        """All samples in the order of arrival; those that came after the beginning come last."""
        train, begun = source.train, source.begun
        rng = generator(seed, "arrival")
        positions, targets = train.positions[:begun], train.targets[:begun]
        order = arrival_order(self.order, positions, targets, self.drift, rng)
        return torch.cat([order, torch.arange(begun, len(train))])

    def _leave_behind(self, job: Job, position: int) -> None:
        """Those that have arrived are no candidates any more."""
        if self._spool is not None:
            return
        among = job.standing.among
        among = torch.ones(job.pool.num_total, dtype=torch.bool) if among is None else among.clone()
        among[self._order[:position]] = False
        job.standing.among = among

    def _rebuilt(self, job: Job) -> Walk:
        """Where a run stands that has its ledger and no checkpoint: behind the last one asked."""
        pending = job.state.pending or {}
        asked = [e["index"] for e in job.pool.events() if e["origin"] == "oracle"]
        asked += pending.get("indices", [])
        places = torch.isin(self._order, torch.tensor(asked).long()).nonzero().squeeze(1)
        position = int(places.max()) + 1 if len(places) else 0
        seen = position - int(torch.isin(self._order[:position], job.parts.initial).sum())
        memory = replace(self.manager.start(), seen=seen, asked=len(places))
        return Walk(position, memory, Watch())
