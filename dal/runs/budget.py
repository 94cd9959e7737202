"""What a run may still ask: its budget, in labels, in cost or in minutes."""

from __future__ import annotations

import math
import sys

from dal.runs.job import Job


def affordable(job: Job) -> int:
    """How many samples may still be asked about; those that wait for answers are counted as spent.

    Of a budget in cost or minutes, an answer to come is taken to be as dear as those so far were on
    average; as long as anything is left, one sample may be asked about.
    """
    unit, per_sample = job.settings.budget_in, job.oracle.answers_per_sample
    asked = [entry for entry in job.state.tickets if entry["round"] >= 0]
    missing = sum(sum(entry["open"].values()) for entry in asked)
    spent, answers = job.pool.spent(unit), job.pool.num_queried
    if unit == "labels":
        return int(job.settings.budget - spent - missing) // per_sample
    price = spent / answers if answers else 0.0
    left = job.settings.budget - spent - missing * price
    if left <= 0:
        return 0
    return max(1, math.floor(left / (price * per_sample))) if price else sys.maxsize
