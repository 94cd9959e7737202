"""When a run ends: its budget, and what the stopping criteria see after every fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.source import Source
from dal.runs.budget import affordable
from dal.runs.job import Job
from dal.settings import Settings
from dal.stopping import Criterion
from dal.stopping.base import check_metric
from dal.stopping.signals import Seen, signals
from dal.utils.ranks import current

ALWAYS = ("round", "labels", "queried", "cost", "trained_on", "pseudo", "train/accuracy")
"""Columns of every row that a criterion may read, besides those of parts of the data."""
AUDITED = ("audit/accuracy", "audit/low", "audit/high", "audit/loss")
"""Those of `dal.runs.auditing`."""


def checked(
    criteria: Mapping[str, Criterion], source: Source, settings: Settings
) -> Mapping[str, Criterion]:
    """The criteria, each of which reads a column that the rows of the run will have.

    Raises:
        ValueError: One reads another.
    """
    known = _columns(source, settings)
    for name, criterion in criteria.items():
        metric = source.headline if criterion.metric is None else criterion.metric
        measures = settings.stop_set and type(criterion).measure is not Criterion.measure
        if not (measures and metric.startswith("stop/")):
            check_metric(name, metric, known)
    return criteria


def watched(job: Job, logits: Tensor | None) -> dict[str, float]:
    """What the stopping criteria look at, for the row of the round.

    Args:
        job: The run; its state keeps what is predicted, for the next round.
        logits: Those of the stop set, by the model just fitted: float32, (S, C); None without one.

    Returns:
        The columns; none where a prediction is infinite or NaN.
    """
    if logits is None or not logits.isfinite().all():
        job.state.stopping = {}
        return {}
    before = job.state.stopping.get("predicted")
    if before is not None and len(before) != len(logits):  # another stop_set since
        before = None
    seen = Seen(logits, before, job.task.exclusive)
    found = signals(seen)
    for criterion in job.parts.stopping.values():
        found |= criterion.measure(seen)
    job.state.stopping = {"predicted": seen.predicted}
    return found


def stop_reason(job: Job) -> str:
    """Why the run is over, or an empty string."""
    settings = job.settings
    if job.parts.stopping and (said := current().broadcast(lambda: _said(job))):
        return said
    if affordable(job) < 1:
        return "budget"
    if settings.max_rounds is not None and job.state.round >= settings.max_rounds:
        return "max_rounds"
    return job.setting.ended if job.setting.exhausted(job) else ""


def _said(job: Job) -> str:
    """What the criteria of the run say, where any or all of them say stop; else nothing."""
    rows, criteria = job.state.all_rows, job.parts.stopping
    said = [
        f"{name}: {words}"
        for name, criterion in criteria.items()
        if (words := criterion.reason(rows, criterion.metric or job.source.headline))
    ]
    enough = len(criteria) if job.settings.stopping_when == "all" else 1
    return "; ".join(said) if len(said) >= enough else ""


def _columns(source: Source, settings: Settings) -> set[str]:
    """The columns of a run's rows that a criterion may read."""
    parts = [
        *(["test"] if source.test is not None else []),
        *(["val"] if source.validation is not None or source.validation_of_labels else []),
    ]
    stop_set = Seen(torch.zeros(1, source.num_classes), None, source.task.exclusive)
    stop_set = replace(stop_set, before=stop_set.predicted)
    return {
        *ALWAYS,
        *(AUDITED if settings.audit else ()),
        *(f"{part}/{name}" for part in parts for name in source.task.metric_names),
        *(signals(stop_set) if settings.stop_set else ()),
    }
