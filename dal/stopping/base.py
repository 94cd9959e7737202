"""The contract of stopping criteria: rows of metrics in, a reason to stop or nothing out."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.stopping.signals import Seen

Row = Mapping[str, Any]
"""Metrics of one round, as in ``metrics.jsonl``."""


class Criterion(ABC):
    """Says when a run may end.

    A criterion keeps nothing: what it says follows from the rows of the rounds so far. So a run
    that was killed, or is given other criteria as it goes on, needs no more than its rows; and a
    report can ask criteria of today about runs of yesterday.

    Attributes:
        metric: The column of the rows that it reads; None for the headline metric of the run.
    """

    metric: str | None

    @abstractmethod
    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """Why to stop after the last of some rounds, with the number that decides.

        Args:
            rows: Those of the rounds from the first on, at least one; their models are evaluated.
                Asked after every round: look at the last ones only, where that will do.
            metric: The column that is read: `metric`, or the run's headline metric for it.

        Returns:
            A few words, such as ``kappa 0.993``; empty to go on.
        """

    def measure(self, seen: Seen) -> Mapping[str, float]:
        """Columns of its own for the row of the round, where those there are do not say enough.

        Measured only in runs that ask for this criterion, as long as there is a stop set.

        Args:
            seen: What the model just fitted predicts for the stop set.

        Returns:
            Finite numbers, by names that begin with ``stop/``.
        """
        return {}


def values_of(rows: Sequence[Row], metric: str, last: int | None = None) -> list[float]:
    """A column of some rows, as far as they have it: of the last so many that do.

    Args:
        rows: The rows.
        metric: Name of the column.
        last: How many; None for all. Fewer where there are not so many.
    """
    found: list[float] = []
    for row in reversed(rows):
        if len(found) == last:
            break
        if (value := row.get(metric)) is not None:
            found.append(float(value))
    return found[::-1]


def check_metric(name: str, metric: str, known: Collection[str]) -> None:
    """Refuse a criterion that reads a column which the rows of a run will not have.

    Args:
        name: The criterion's option.
        metric: The column; empty for the headline metric of a run that has none.
        known: The columns there will be.

    Raises:
        ValueError: With what was meant, or how to have the column.
    """
    if metric in known:
        return
    if not metric:
        raise ValueError(
            f"stopping={name} reads the headline metric, and there is neither a test nor a "
            f"validation part to measure it on; name another in stopping.{name}.metric, such as "
            "audit/low with audit=0.1"
        )
    makers = {"stop/": "predictions of a stop set; set stop_set=1000"}
    makers["audit/"] = "labels that are asked for to measure by; set audit=0.1"
    for group, remedy in makers.items():
        if metric.startswith(group) and not any(column.startswith(group) for column in known):
            raise ValueError(f"stopping={name} reads {metric}, which is computed from {remedy}")
    close = difflib.get_close_matches(metric, known, 1)
    listed = ", ".join(sorted(known))
    remedy = f"did you mean {close[0]}?" if close else f"choose one of {listed}"
    raise ValueError(
        f"stopping.{name}.metric={metric}: no row of this run will have that; {remedy}"
    )


def check_number(of: Criterion, name: str, low: float, high: float = math.inf) -> None:
    """Refuse a setting that is no number of a range, its ends included.

    Raises:
        ValueError: Naming the setting.
    """
    value: float = getattr(of, name)
    if not (low <= value <= high and math.isfinite(value)):
        wanted = f"from {low:g} on" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{type(of).__name__}: {name}={value}; give a number {wanted}")
