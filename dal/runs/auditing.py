"""The audit slice: labels that are asked for to measure by, and never trained on."""

from __future__ import annotations

from typing import Any

from dal.query import PoolView, Query
from dal.runs.job import Job


def with_audits(job: Job, view: PoolView, query: Query) -> Query:
    """The query with the samples of the audit slice that are asked with it."""
    return query


def audited(job: Job) -> dict[str, Any]:
    """What the audit slice says of the model just fitted, for the row of its round."""
    return {}
