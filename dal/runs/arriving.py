"""What a model says of samples that arrive, and what a budget manager is told of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dal.query import PoolView, Probs, Random, ScoreStrategy, Strategy
from dal.query.base import check_need
from dal.query.needs import Features, LookAhead, Needs
from dal.runs.fitting import context_of
from dal.runs.job import Job
from dal.streams.managers import Arrival
from dal.streams.window import window_density
from dal.utils.clock import clock
from dal.utils.seeding import generator

DRAWN = 4096
"""Samples whose random numbers come from one generator."""


def check_strategy(strategy: Strategy, job: Job) -> None:
    """Refuse a strategy that cannot look at one sample at a time.

    Raises:
        TypeError: Naming it and the reason.
    """
    name, reason, whole = type(strategy).__name__, "", job.parts.strategy
    if job.parts.from_history(whole):  # a schedule's, too, which measures by them when to change
        name = type(whole).__name__
        reason = "looks at predictions of earlier rounds, and a sample that arrives has none"
    elif isinstance(strategy, Random):
        return
    elif not isinstance(strategy, ScoreStrategy):
        reason = "chooses among samples, and scores none by itself"
    elif not strategy.independent or any(isinstance(need, LookAhead) for need in strategy.needs):
        reason = "scores a sample by the other candidates"
    if reason:
        raise TypeError(
            f"setting=stream decides about one sample at a time, and {name} {reason}; choose "
            "strategy=margin, entropy, least_confidence or another score of one sample's own"
        )


@dataclass(frozen=True)
class Arrived:
    """Samples that arrive one after the other.

    Attributes:
        places: int64, (n,), their places in the order of arrival.
        indices: int64, (n,), the samples.
        strategy: Which scores them.
        view: What the model says of them; None where nothing was asked of it.
        density: Float64, (n,), by which power of it scores are weighed; None for the scores alone.
    """

    places: Tensor
    indices: Tensor
    strategy: Strategy
    view: PoolView | None = None
    density: Tensor | None = None


def arrived(job: Job, order: Tensor, places: Tensor, window: int) -> Arrived:
    """Ask the model about samples that arrive.

    Args:
        job: The run.
        order: int64, all samples in the order of arrival.
        places: int64, (n,), ascending, the places of those that arrive.
        window: So many places before each are compared with it; 0 for no density.
    """
    train_set = job.pool.train_set()
    strategy = job.parts.strategy.current(len(train_set))
    check_strategy(strategy, job)
    found = Arrived(places, order[places], strategy)
    needs = _needs(job, strategy, window)
    if not needs:
        return found
    first = int(places[0])
    begin = max(0, first - window)
    rows = torch.arange(begin, int(places[-1]) + 1) if window else places
    ascending = order[rows].sort()  # as the samples of a pool are read
    with clock(job.state.row, "scan_s"):
        view = job.learner.scan(ascending.values, needs, context_of(job), train_set)
    in_order = view.part(ascending.indices.argsort())
    if not window:
        return replace(found, view=job.standing.with_labels(in_order, strategy.needs))
    features = in_order[Features()]
    check_need(features, in_order.indices, Features(), type(strategy).__name__)
    density = window_density(features, first - begin, window).cpu()[places - first]
    in_order = in_order.part(places - begin)
    return replace(found, view=job.standing.with_labels(in_order, strategy.needs), density=density)


def _needs(job: Job, strategy: Strategy, window: int) -> Needs:
    """What the model is asked: also for guesses, where the data know whether they are right."""
    needs = job.parts.asked_of_learner(strategy)
    if window:
        needs |= {Features()}
    guesses = job.task.exclusive and Probs in job.learner.capabilities
    return needs | {Probs()} if guesses else needs


def arrivals(job: Job, found: Arrived, power: float) -> Iterator[Arrival]:
    """What a budget manager is told of each sample, in order.

    Args:
        job: The run.
        found: The samples.
        power: Of the density.

    Raises:
        ValueError: A score is not finite.
    """
    keys, branch, chance, noise = drawn(job.settings.seed, found.places).unbind(1)
    scores, certainty = keys, 1 - keys
    if isinstance(found.strategy, ScoreStrategy):
        assert found.view is not None
        scores = found.strategy.checked_scores(found.view)
        heights = found.strategy.heights(found.view, scores).double().cpu()
        scores = scores.double().cpu()
        if found.density is not None:
            scores = heights = heights * found.density**power
        certainty = (1 - heights / found.strategy.reach(job.source.num_classes)).clamp(min=0)
    columns = (scores, certainty, branch, chance, noise)
    return map(Arrival, *(column.tolist() for column in columns))


def drawn(seed: int, places: Tensor) -> Tensor:
    """Random numbers of places in the order of arrival: float64, (n, 4), three uniform, one normal.

    They depend on the place alone, so that no decision depends on how many samples came at once.

    Args:
        seed: Of the run.
        places: int64, (n,), ascending, at least one.
    """
    numbers = range(int(places[0]) // DRAWN, int(places[-1]) // DRAWN + 1)
    blocks = torch.cat([_drawn(generator(seed, "stream", number)) for number in numbers])
    return blocks[places - numbers[0] * DRAWN]


def _drawn(rng: torch.Generator) -> Tensor:
    uniform = torch.rand(DRAWN, 3, generator=rng, dtype=torch.float64)
    return torch.cat([uniform, torch.randn(DRAWN, 1, generator=rng, dtype=torch.float64)], 1)


def num_right(job: Job, found: Arrived, count: int) -> tuple[int, int]:
    """Of how many of the first samples the data know the class, and of how many it was guessed."""
    if found.view is None or Probs() not in found.view or not job.task.exclusive:
        return 0, 0
    targets = job.source.train.part(found.indices[:count]).targets
    guesses = found.view[Probs()][:count].argmax(1).cpu()
    known = targets >= 0
    return int(known.sum()), int((guesses == targets)[known].sum())
