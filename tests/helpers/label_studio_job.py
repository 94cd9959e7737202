"""A small run that asks people through Label Studio, for processes that are killed; and people.

The process is ``python tests/helpers/label_studio_job.py run URL RUN_DIR ROUNDS``; or ``ask`` and
the number of a question, for that question alone.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import torch

import dal
from dal.data import Dataset, make_source
from dal.data.source import Source
from dal.models import MLP
from dal.oracles import LabelStudioOracle
from dal.oracles.label_studio.client import Client
from dal.query import Margin, Query
from dal.settings import Settings
from dal.training.trainer import Trainer

NAMES = ("zero & <none>", "eins", "二")
SAMPLES, FIRST, QUERY = 400, 6, 60


def truth(sample: int) -> int:
    """The class of a sample, as people see it."""
    return (sample * 7 + sample // 5) % len(NAMES)


def source() -> Source:
    """Pictures of which the labels of a few are known."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (SAMPLES, 1, 8, 8), generator=rng, dtype=torch.uint8)
    targets = torch.tensor([truth(n) if n < FIRST else -1 for n in range(SAMPLES)])
    inputs[:, 0, 0, 0] = torch.tensor([80 * truth(n) for n in range(SAMPLES)], dtype=torch.uint8)
    return make_source(Dataset("pictures", inputs, targets, NAMES), kind="none", seed=0)


def run(url: str, run_dir: Path, rounds: int) -> dal.runs.loop.Result:
    """Rounds of questions; the process waits for people. Says when it begins."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    data = source()
    return dal.run(
        data,
        MLP,
        Margin(),
        initial=torch.arange(FIRST),
        trainer=Trainer(epochs=3, early_stopping=None),
        oracle=LabelStudioOracle(run_dir / "queries", data.class_names, url=url, run_name="job"),
        settings=Settings(query_size=QUERY, budget=QUERY * rounds, figures=False),
        run_dir=run_dir,
    )


def ask(url: str, run_dir: Path, number: int) -> None:
    """Ask one question, and wait for no answer; says when it begins, and how long it took."""
    data = source()
    asking = LabelStudioOracle(run_dir / "queries", data.class_names, url=url, wait=False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    start = time.monotonic()
    asking.open(data)
    asking.submit(asked(number), number)
    sys.stdout.write(f"{time.monotonic() - start}\n")
    sys.stdout.flush()


def asked(number: int) -> Query:
    """The question of a number."""
    rng = torch.Generator().manual_seed(number)
    return Query(torch.randperm(SAMPLES, generator=rng)[:QUERY], torch.linspace(1, 0, QUERY))


class People:
    """Those who label: every task once, as the truth is, but every ninth sample is skipped.

    Args:
        url: The server.
        token: Of the legacy kind.
    """

    def __init__(self, url: str, token: str) -> None:
        self.client = Client(url, token)

    def work(self, most: int = 10**9) -> int:
        """Answer tasks that nobody has answered, those that came first at first; how many."""
        open_ = [task for task in self.tasks() if not task["total"] and not task["skipped"]]
        for task in open_[:most]:
            self.answer(task)
        return len(open_[:most])

    def answer(self, task: dict[str, int]) -> None:
        value = {"choices": [NAMES[truth(task["sample"])]]}
        tag = {"from_name": "label", "to_name": "sample", "type": "choices", "value": value}
        body = {"result": [tag], "lead_time": 1.5, "was_cancelled": False}
        if task["sample"] % 9 == 0:
            body = {"result": [], "lead_time": 0.5, "was_cancelled": True}
        self.client.post(f"/api/tasks/{task['id']}/annotations/", body)

    def tasks(self) -> list[dict[str, int]]:
        """The tasks of all runs, in the order of their numbers."""
        found = []
        fields = "id,data,total_annotations,cancelled_annotations"
        for project in self.client.get("/api/projects/", page_size=100)["results"]:
            if "(dal " not in project["title"]:
                continue
            reply = self.client.get(
                "/api/tasks/", project=project["id"], page_size=10**6, include=fields
            )
            found += [
                {"id": task["id"], "sample": task["data"]["dal_sample"],
                 "question": int(task["data"]["dal_question"][-4:]),
                 "total": task["total_annotations"], "skipped": task["cancelled_annotations"]}
                for task in reply["tasks"]
            ]  # fmt: skip
        return sorted(found, key=lambda task: task["id"])


def check(result: dal.runs.loop.Result, people: People, rounds: int) -> None:
    """Every sample was asked and answered once, and the ledger holds what was said of it."""
    tasks = people.tasks()
    assert len(tasks) == rounds * QUERY, len(tasks)
    assert set(Counter(task["sample"] for task in tasks).values()) == {1}
    assert all(task["total"] + task["skipped"] == 1 for task in tasks)
    pool = result.job.pool
    assert pool.num_queried == rounds * QUERY
    assert pool.num_events == rounds * QUERY + FIRST
    labeled = pool.train_set()
    assert sorted(labeled.indices.tolist()) == sorted(
        [*range(FIRST), *(task["sample"] for task in tasks if task["sample"] % 9)]
    )
    expected = [truth(sample) for sample in labeled.indices.tolist()]
    assert labeled.targets.tolist() == expected


if __name__ == "__main__":
    what = {"run": run, "ask": ask}[sys.argv[1]]
    what(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
