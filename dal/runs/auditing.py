"""The audit slice: labels that are asked for to measure by, and never trained on.

Each query takes some samples of the reserve with it, drawn by `dal.risk`. The ledger keeps how much
likelier than others each was drawn, as its score, so that the model of any round is measured by
all of these labels.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dal import risk
from dal.learners import RoundContext
from dal.pool import is_rejected
from dal.query import Query
from dal.runs.job import Job
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)


def blocks_due(job: Job, size: int) -> Tensor:
    """The blocks of the reserve from which the round's query takes a sample each.

    Shares of a sample add up over rounds: with 0.05 of 10 every second query has one.

    Args:
        job: The run.
        size: Of the query, these samples counted.

    Returns:
        int64, (b, K), b at most ``size``; none where no audit is asked for, or all were used.
    """
    settings, blocks = job.settings, job.standing.reserve
    before = job.state.round * settings.query_size
    first, last = (math.floor(settings.audit * n + 1e-9) for n in (before, before + size))
    used = (job.pool.asked_mask | job.standing.is_open)[blocks].any(1)
    due, left = last - first, int((~used).sum())
    if 0 < left <= due:
        log.warning(
            "round %d takes the last of the reserve of %d samples: no labels to measure by are "
            "asked for after it; a run with more has audit_reserve=%.2g",
            job.state.round,
            blocks.numel(),
            min(1.0, 2 * blocks.numel() / max(1, job.source.begun)),
        )
    return blocks[~used][:due]


def with_audits(job: Job, query: Query, blocks: Tensor) -> Query:
    """The query with a sample of each block, at random places: people cannot tell them apart."""
    if len(blocks) == 0:
        return query
    rates, rng = _rates(job, blocks), generator(job.settings.seed, job.state.round, "audit")
    chance = torch.rand(len(blocks), generator=rng, dtype=torch.float64)
    places = current().broadcast(lambda: risk.drawn(rates, chance))[:, None]
    picked, size = blocks.gather(1, places).squeeze(1), len(query.indices) + len(blocks)
    audited = torch.zeros(size, dtype=torch.bool)
    audited[torch.randperm(size, generator=rng)[: len(blocks)]] = True
    indices, scores = torch.empty(size, dtype=torch.int64), torch.empty(size, dtype=torch.float64)
    indices[audited], indices[~audited] = picked, query.indices
    scores[audited], scores[~audited] = rates.gather(1, places).squeeze(1), query.scores.double()
    return replace(query, indices=indices, scores=scores, audit=picked)


def audited(job: Job) -> dict[str, Any]:
    """What the audit slice says of the model just fitted, for the row of its round.

    Returns:
        ``audit/labels``, how many there are; ``audit/accuracy`` with the ends of its interval of
        95 %, ``audit/low`` and ``audit/high``; ``audit/loss`` in nats. They hold among the samples
        that have a class: where nobody could tell one, or all said none, a sample is left out.
        Nothing without labels.
    """
    indices, targets, rates = job.pool.audits()
    known = (targets >= 0).unsqueeze(1).flatten(1).all(1) & ~is_rejected(targets)
    if not known.any():
        return {}
    split, weights = job.source.train.part(indices[known]), 1 / rates
    # No signal is looked for: the fit before is saved with the row, a moment later.
    logits = job.learner.predict(split, RoundContext(job.state.round)).double()
    wrong, losses = torch.zeros(2, len(indices), dtype=torch.float64)
    wrong[known] = (~job.task.correct(logits, targets[known])).double()
    losses[known] = job.task.losses(logits, targets[known])
    most = 1.0 if job.settings.audit_by == "random" else 1 / risk.EVEN
    low, high = risk.interval(wrong, weights, known, most)
    return {
        "audit/labels": int(known.sum()),
        "audit/accuracy": 1 - min(1.0, risk.mean_loss(wrong, weights, known)),
        "audit/low": 1 - high,
        "audit/high": 1 - low,
        "audit/loss": risk.mean_loss(losses, weights, known),
    }


def _rates(job: Job, blocks: Tensor) -> Tensor:
    """How much likelier than by an even draw each sample is taken: float64, (b, K)."""
    if blocks.shape[1] == 1:
        return torch.ones(blocks.shape, dtype=torch.float64)
    split = job.source.train.part(blocks.flatten())
    probs = job.task.probs(job.learner.predict(split, RoundContext(job.state.round)).double())
    right = torch.tensor([probability for _, probability in job.task.guess(probs)])
    return risk.rates((1 - right).view(blocks.shape))
