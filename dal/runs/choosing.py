"""What a round asks: one pass over the candidates, the strategy's choice, the question."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.source import Source, is_known
from dal.query import PoolView, Probs, Query
from dal.query.by_block import in_blocks
from dal.query.needs import Scores
from dal.query.selection import check_again, check_query
from dal.runs.auditing import blocks_due, with_audits
from dal.runs.budget import affordable
from dal.runs.collecting import ask, shown
from dal.runs.cooperating import cooperate
from dal.runs.fitting import context_of
from dal.runs.job import Job
from dal.runs.setting import Setting
from dal.utils.clock import clock
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)

SHOWN = 2**20
"""Scores that a checkpoint holds at most, for the histogram of a round: 4 MB."""


class PoolSetting(Setting):
    """All samples are at hand: one pass looks at every candidate, and the best are asked about.

    That pass tells what to guess as well, see `dal.cooperation`.

    Reference:
        D. Lewis, W. Gale, "A sequential algorithm for training text classifiers", SIGIR 1994.
    """

    cooperates = True

    def begin(self, job: Job) -> None:
        """See `Setting.begin`: say so where the budget is enough for all."""
        settings, initial = job.settings, job.source.train.targets[job.parts.initial]
        left = len(job.candidates) - int((~is_known(initial)).sum())
        if settings.budget_in == "labels" and 0 < left < settings.budget and not job.standing.begun:
            log.info("budget=%d: all %d unlabeled samples get a label", settings.budget, left)

    def ask(self, job: Job) -> None:
        """See `Setting.ask`."""
        view = remember(job, predict(job))
        cooperate(job, view)
        select(job, view)


def predict(job: Job) -> PoolView:
    """One pass over the candidates computes everything the strategy needs."""
    candidates, train_set = job.candidates, job.pool.train_set().answers()
    strategy = job.parts.strategy.current(len(train_set))
    needs = job.parts.scan_needs(strategy)
    alone = job.parts.remembered == 0 and not job.parts.cooperative.active
    if Scores in job.learner.capabilities and alone:
        numbers = len(candidates) * job.source.num_classes
        needs = in_blocks(strategy, needs, numbers)
    with clock(job.state.row, "scan_s"):
        return job.learner.scan(candidates, needs, context_of(job), train_set)


def remember(job: Job, view: PoolView) -> PoolView:
    """Keep the class probabilities, and show the strategy those of the last rounds."""
    if job.parts.remembered == 0 or not current().is_main:
        return view
    with clock(job.state.row, "history_s"):
        job.history.append(job.state.round, view.indices, view[Probs()])
        return job.standing.with_history(view, job.parts.from_history(job.parts.strategy))


def select(job: Job, view: PoolView) -> None:
    """The strategy chooses; the query is sent to the oracle."""
    state, settings = job.state, job.settings
    size = min(settings.query_size, affordable(job), len(view))
    blocks = blocks_due(job, size)
    with clock(state.row, "select_s"):
        rng = generator(settings.seed, state.round, "query")
        query = current().broadcast(lambda: _choose(job, view, size - len(blocks), rng))
    pose(job, query, blocks, view)


def pose(job: Job, query: Query, blocks: Tensor, view: PoolView | None = None) -> None:
    """Send a query to the oracle: the question is ``job.state.pending`` then.

    Args:
        job: The run; its row tells of the query.
        query: What was chosen.
        blocks: Of the reserve, see `blocks_due`: the query asks about a sample of each besides.
        view: Of the pass that it comes from, where it is at hand.
    """
    state, source = job.state, job.source
    scores, again = query.scores.double(), query.again
    state.row |= {
        "query/size": len(scores) + len(blocks) + (0 if again is None else len(again)),
        **_heights(scores),
        **({} if again is None else {"query/again": len(again)}),
        **({"query/audit": len(blocks)} if len(blocks) else {}),
        **appended(source),  # some may have come since the fit
        **{f"query/{name}": value for name, value in query.info.items()},
    }
    query = with_audits(job, query, blocks)
    if again is not None:
        indices = torch.cat([query.indices, again])
        scores = torch.cat([query.scores.double(), torch.full((len(again),), math.nan)])
        query = replace(query, indices=indices, scores=scores)
    with clock(state.row, "oracle_s"):
        query = shown(job, query, view)
    if source.train.has_copies:
        asked = job.pool.asked_mask.nonzero().squeeze(1)
        state.row["query/redundant"] = source.train.redundant(query.indices, asked)
    guesses = [] if query.probs is None else job.task.guess(query.probs)
    state.pending = {
        **ask(job, query, state.round, guesses),
        "pool_scores": None if query.pool_scores is None else _some(query.pool_scores),
    }


def appended(source: Source) -> dict[str, int]:
    """How many candidates came after the run had begun, for a row; nothing where none did."""
    return {"appended": source.appended} if source.appended else {}


def _heights(scores: Tensor) -> dict[str, float]:
    """What a row says of the scores of a query; nothing where none was scored."""
    scores = scores[~scores.isnan()]
    found = {"mean": scores.mean(), "min": scores.min()} if len(scores) else {}
    return {f"query/score_{name}": float(score) for name, score in found.items()}


def _some(scores: Tensor) -> Tensor:
    """Scores for a histogram; of very many, evenly spread ones, since they are saved."""
    return scores[:: -(-len(scores) // SHOWN)].clone()


def _choose(job: Job, view: PoolView, size: int, rng: torch.Generator) -> Query:
    """What the strategy chooses, on the CPU."""
    if size == 0:  # the query consists of labels to measure by
        return Query(torch.empty(0, dtype=torch.int64), torch.empty(0))
    view = job.standing.with_labels(view, job.parts.strategy.needs)
    query, name = job.parts.strategy.select(view, size, rng), type(job.parts.strategy).__name__
    if query.again is not None:
        query = replace(query, again=query.again.cpu())
        check_again(query, job.pool.asked_mask, name)
    check_query(query, view, size, name)
    scores = None if query.pool_scores is None else query.pool_scores.float().cpu()
    return replace(
        query, indices=query.indices.cpu(), scores=query.scores.cpu(), pool_scores=scores
    )
