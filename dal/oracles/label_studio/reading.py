"""What people answered, read from a project's export: foreign data, of which nothing is believed.

Times are never compared, neither with those of this machine nor with each other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dal.oracles.label_studio.client import UnreachableError, field, rows
from dal.oracles.label_studio.project import TAG
from dal.oracles.label_studio.tasks import key_of


@dataclass(frozen=True)
class Answer:
    """What one person said of one sample.

    Attributes:
        number: Of the annotation, which the server counts up.
        task: Number of the task, for errors.
        sample: Position in the training part.
        person: Number of who answered; None where the server does not say.
        choices: What was chosen; None where the task was skipped.
        seconds: How long it took; NaN where that is unknown.
    """

    number: int
    task: int
    sample: int
    person: int | None
    choices: tuple[str, ...] | None
    seconds: float


def answers_of(exported: Any, run: str) -> tuple[dict[str, list[Answer]], int]:
    """The answers of a run by question, the latest of each person on each sample.

    Args:
        exported: What ``/api/projects/P/export?exportType=JSON`` gave.
        run: The mark of the run.

    Returns:
        The answers, in the order in which they were begun; and how many tasks are of others.

    Raises:
        UnreachableError: It is no export.
    """
    latest: dict[tuple[str, int, int | None], Answer] = {}
    foreign = 0
    for task in rows(exported):
        key = key_of(task.get("data"), run)
        foreign += key is None
        for one in () if key is None else _given(task, key[1]):
            place = (key[0], one.sample, one.person)  # type: ignore[index]
            if place not in latest or latest[place].number < one.number:
                latest[place] = one
    found: defaultdict[str, list[Answer]] = defaultdict(list)
    for (question, _, _), one in sorted(latest.items(), key=lambda item: item[1].number):
        found[question].append(one)
    return dict(found), foreign


def _given(task: Mapping[str, Any], sample: int) -> Iterator[Answer]:
    for one in rows(field(task, "annotations", list)):
        choices = None if one.get("was_cancelled") is True else _choices(field(one, "result", list))
        number, person = field(one, "id", int), _person(one.get("completed_by"))
        seconds = _seconds(one.get("lead_time"))
        yield Answer(number, field(task, "id", int), sample, person, choices, seconds)


def _choices(result: Sequence[Any]) -> tuple[str, ...]:
    """What was chosen; other tags, which somebody may have added, are not looked at."""
    own = [one for one in rows(result) if one.get("from_name") == TAG]
    found = [name for one in own for name in field(one.get("value"), "choices", list)]
    if not all(isinstance(name, str) for name in found):
        raise UnreachableError("Label Studio sent choices that are no names")
    return tuple(found)


def _person(value: Any) -> int | None:
    number = value.get("id") if isinstance(value, Mapping) else value
    return number if type(number) is int else None


def _seconds(value: Any) -> float:
    known = type(value) in (int, float) and 0 <= value < math.inf
    return float(value) if known else math.nan


def people_of(reply: Any) -> dict[int, str]:
    """Names by number, of those who answered: the address they log in with, where it is known."""
    found = {}
    for row in rows(reply):
        name = row.get("email")
        if isinstance(name, str) and name and name.isprintable():
            found[field(row, "id", int)] = name[:200]
    return found
