"""Where stopping criteria would have ended runs, and what that would have saved and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from dal.reporting.compare import Group
from dal.reporting.measures import column
from dal.reporting.records import RunRecord
from dal.reporting.tables import markdown, ordered
from dal.stopping import (
    ClassificationChange,
    Criterion,
    MaxConfidence,
    OverallUncertainty,
    PerformanceConvergence,
    Plateau,
    StabilizingPredictions,
)

USUAL: Mapping[str, Criterion] = {
    "stabilizing": StabilizingPredictions(),
    "classification_change": ClassificationChange(),
    "overall_uncertainty": OverallUncertainty(),
    "max_confidence": MaxConfidence(),
    "performance_convergence": PerformanceConvergence(),
    "plateau": Plateau(),
}
"""Criteria that need no number of the user's, by their options."""


@dataclass(frozen=True)
class Stop:
    """Where a criterion would have ended a run.

    Attributes:
        labels: Labels paid for by then.
        saved: Share of the labels of the whole run that would not have been asked for.
        lost: By how much the headline metric is higher at the end of the run; negative where it
            is lower there.
    """

    labels: int
    saved: float
    lost: float


def first_stop(criterion: Criterion, rows: Sequence[Mapping[str, Any]], metric: str) -> int | None:
    """The number of the first row after which a criterion says stop; None where it never does.

    Args:
        criterion: The criterion.
        rows: Metrics of the rounds of a run.
        metric: Its headline metric.
    """
    read = criterion.metric or metric
    numbers = range(len(rows))
    return next((n for n in numbers if criterion.reason(rows[: n + 1], read)), None)


def stop_of(criterion: Criterion, run: RunRecord) -> Stop | None:
    """Where a criterion would have ended a run; None where it would not."""
    number = first_stop(criterion, run.rows, column(run.metric))
    if number is None:
        return None
    labels, values = run.labels, run.values
    return Stop(labels[number], 1 - labels[number] / labels[-1], values[-1] - values[number])


def stop_table(group: Group) -> str:
    """For each strategy, where each criterion would have ended its runs, and at what price.

    Criteria that end none of a strategy's runs are left out. Empty where no run has recorded what
    criteria look at.
    """
    rows = []
    for strategy in ordered(group):
        runs = [r for r in group.curves[strategy].values() if _recorded(r)]
        for name, criterion in USUAL.items() if runs else ():
            found = [stop for run in runs if (stop := stop_of(criterion, run)) is not None]
            if found:
                rows.append(
                    [
                        strategy,
                        name,
                        f"{len(found)} of {len(runs)}",
                        _spread((stop.labels for stop in found), 0),
                        _spread((100 * stop.saved for stop in found), 0),
                        _spread((100 * stop.lost for stop in found), 1),
                    ]
                )
    header = ["strategy", "criterion", "runs ended", "labels", "labels saved, %", "points lost"]
    return markdown(header, rows) if rows else ""


def stop_section(group: Group) -> str:
    """The table with what it says; empty where there is none."""
    table = stop_table(group)
    about = (
        "Where stopping criteria with their usual numbers would have ended these runs: labels paid "
        "for by then, the share of the run's labels saved, and by how many points the metric is "
        "higher at the end of the run (negative: it was better where it would have stopped); mean "
        "± standard deviation over the runs ended. Criteria that end none are not shown."
    )
    return f"{about}\n\n{table}" if table else ""


def _recorded(run: RunRecord) -> bool:
    """Whether a run has columns of a stop set; those of before, and of results files, have none."""
    return any(name.startswith("stop/") for row in run.rows for name in row)


def _spread(values: Iterable[float], digits: int) -> str:
    found = list(values)
    shown = f"{fmean(found):.{digits}f}"
    return f"{shown} ± {stdev(found):.{digits}f}" if len(found) > 1 else shown
