"""Which task targets belong to."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dal.task.base import Task
from dal.task.multiclass import Multiclass
from dal.task.multilabel import Multilabel


def task_named(kind: str, num_classes: int, thresholds: Sequence[float] = ()) -> Task:
    """The task of a kind, decided by some thresholds.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in TASKS:
        raise ValueError(f"{kind!r} is no kind of task; there are {', '.join(TASKS)}")
    return TASKS[kind](num_classes, thresholds=tuple(thresholds))


def task_of(targets: Tensor, num_classes: int, chosen: str | None = None) -> Task:
    """The task that targets belong to: multi-label for rows (N, C), else one class a sample.

    Raises:
        ValueError: The metric that is chosen to be shown is none of the task's.
    """
    kind = Multilabel if targets.ndim == 2 else Multiclass
    return kind(num_classes, chosen=chosen)


TASKS: dict[str, type[Multiclass] | type[Multilabel]] = {
    task.kind: task for task in (Multiclass, Multilabel)
}
"""Every task by its kind."""
