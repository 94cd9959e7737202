"""The tasks of a question: imported in order, each once, however often a process is killed.

A task's data tell whose it is: ``dal_run`` (the mark of the run), ``dal_question`` and
``dal_sample``. Numbers of tasks tell nothing, since servers give those of deleted ones again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dal.oracles.label_studio.client import Client, RefusedError, field, rows

log = logging.getLogger(__name__)

BATCH = 250
"""Tasks that are imported at once."""
MOST = 10**7  # tasks of a project


def key_of(data: Any, run: str) -> tuple[str, int] | None:
    """Question and sample that a task is about, by its data; None for a task of somebody else."""
    if not isinstance(data, Mapping) or data.get("dal_run") != run:
        return None
    question, sample = data.get("dal_question"), data.get("dal_sample")
    if type(question) is not str or type(sample) is not int:
        return None
    return question, sample


def listed(client: Client, project: int, run: str) -> dict[tuple[str, int], list[int]]:
    """The run's tasks, by question and sample; the first of several is the one to keep.

    That is one which somebody has answered, else the oldest.
    """
    reply = client.get(
        "/api/tasks/",
        project=project,
        page_size=MOST,
        include="id,data,total_annotations,cancelled_annotations",
    )
    found: defaultdict[tuple[str, int], list[tuple[bool, int]]] = defaultdict(list)
    for row in rows(field(reply, "tasks", list)):
        if (key := key_of(row.get("data"), run)) is not None:
            answers = field(row, "total_annotations", int), field(row, "cancelled_annotations", int)
            found[key].append((not any(answers), field(row, "id", int)))
    return {key: [number for _, number in sorted(tasks)] for key, tasks in found.items()}


def deliver(
    client: Client,
    project: int,
    run: str,
    question: str,
    samples: Sequence[int],
    task_of: Callable[[Sequence[int]], Sequence[Mapping[str, Any]]],
) -> int:
    """Import the tasks of a question that are not there, and remove all that are there twice.

    A killed process may have left a request behind that the server is still working on: its tasks
    come later, so whoever sees their number change calls this again.

    Args:
        client: The server.
        project: The number of the project.
        run: The mark of the run.
        question: Names the question.
        samples: Distinct positions in the training part, in the order to ask.
        task_of: The tasks of some of these places in the question, from 0.

    Returns:
        How many were imported.
    """
    there = listed(client, project, run)
    missing = [place for place, one in enumerate(samples) if (question, one) not in there]
    for start in range(0, len(missing), BATCH):
        tasks = [
            {**task, "data": {**task["data"], "dal_run": run, "dal_question": question}}
            for task in task_of(missing[start : start + BATCH])
        ]
        client.post(f"/api/projects/{project}/import", tasks)
    if missing:
        there = listed(client, project, run)
    for _, *doubles in there.values():
        for number in doubles:
            _remove(client, number)
    return len(missing)


def _remove(client: Client, number: int) -> None:
    """Delete a task that is there twice, unless somebody has answered it."""
    try:
        task = client.get(f"/api/tasks/{number}/")
        if not any(field(task, f"{kind}_annotations", int) for kind in ("total", "cancelled")):
            client.delete(f"/api/tasks/{number}/")
    except RefusedError as error:
        if error.status != 404:  # somebody else was faster
            raise
