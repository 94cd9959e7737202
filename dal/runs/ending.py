"""When a run ends: its budget, and what the stopping criteria see after every fit."""

from __future__ import annotations

from typing import Any

from dal.runs.job import Job


def watched(job: Job) -> dict[str, Any]:
    """What the stopping criteria compute after a fit, for the row of its round."""
    return {}


def stop_reason(job: Job) -> str:
    """Why the run is over, or an empty string."""
    settings = job.settings
    if job.pool.num_queried >= settings.budget:
        return "budget"
    if settings.max_rounds is not None and job.state.round >= settings.max_rounds:
        return "max_rounds"
    return "pool_exhausted" if len(job.candidates) == 0 else ""
