"""Where a run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

FORMAT = 4
"""Version of checkpoints, of the ledger and of rows of metrics; runs of another one are refused."""


@dataclass
class State:
    """Where a run stands; with the parts' own states, all that continuing exactly takes.

    Attributes:
        round: The round in progress.
        next: What comes next in it: the commit points lie before ``fit``, ``query``, ``answers``.
        fit: A fit saved between two batches or epochs, or ``done`` and not yet tested; or None.
        pending: The query that waits for answers, or None; see `dal.runs.asking`. ``audit`` lists
            the samples that are measured by.
        tickets: Earlier queries whose answers may still come, or change; as `pending`.
        row: Metrics of the round in progress.
        rows: Metrics of the rounds before it.
        confusion: Counts of the last model on the test part, as `Task.evaluate` gives them: int64,
            (C, C), or multi-label (C, 2, 2); None before the first, and without a test part.
        by_label: Metrics of each class of it, see `dal.task.Task.by_label`; none before the first.
        steps: Optimizer steps in the rounds before this fit.
        stopping: ``predicted``: what the last model predicts for the stop set, as
            `dal.stopping.signals.Seen.predicted`; empty before the first, and without one.
        setting: What the run's `dal.runs.setting.Setting` remembers.
        cooperative: What `dal.runs.cooperating` remembers.
    """

    round: int = 0
    next: Literal["fit", "query", "answers"] = "fit"
    fit: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    tickets: list[dict[str, Any]] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    confusion: Tensor | None = None
    by_label: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    stopping: dict[str, Any] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)
    cooperative: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers: all but ``rows``, which grow from round to round."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        """Metrics of all rounds whose model has been evaluated."""
        return [*self.rows, self.row] if self.fitted else self.rows

    @property
    def fitted(self) -> bool:
        """Whether the round in progress has its model, evaluated where there is a test part."""
        return "fit/epochs" in self.row

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """The learning curve: labels paid for, and a metric by its full name, of all rounds."""
        rows = [row for row in self.all_rows if metric in row]
        return [row["labels"] for row in rows], [row[metric] for row in rows]


def check_format(saved: Mapping[str, Any]) -> None:
    """Refuse a checkpoint, or a ledger, of another version.

    Raises:
        ValueError: Naming both versions.
    """
    # Up to format 3 ledgers did not name theirs.
    found = saved.get("format", "3 or older")
    if found != FORMAT:
        raise ValueError(
            f"the run was written by another version of dal (format {found}, this is {FORMAT}); go "
            "on with that version, or choose another saved_dir"
        )
