"""Runs that are answered on the page: late answers, two people, minutes, samples asked again."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from page_client import Client
from waiting import Limit, join, needed

import dal
from dal.data import Dataset, initial_labels, make_source
from dal.models import MLP
from dal.oracles import PageOracle
from dal.query import Random
from dal.runs import SynthesisSetting
from dal.training.trainer import Trainer

Work = Callable[[Client, Any], None]


def run(folder: Path, people: dict[str, Work], settings: dict[str, Any], **page: Any) -> Any:
    """A run of tiny data, and people who do something with each state that asks."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 4, generator=generator)
    data = Dataset("tiny", inputs, (inputs[:, 0] > 0).long(), ("no", "yes"))
    source, setting = make_source(data, seed=0), page.pop("setting", None)
    oracle = PageOracle(folder / "queries", source.class_names, open_browser=False, **page)
    threads = [
        threading.Thread(target=attend, args=(folder, name, work)) for name, work in people.items()
    ]
    for thread in threads:
        thread.start()
    result = dal.run(
        source,
        MLP,
        Random(),
        initial=initial_labels(source.train.targets, seed=0, count=6),
        trainer=Trainer(epochs=1),
        oracle=oracle,
        setting=setting,
        settings=dal.Settings(**{"query_size": 4, "budget": 8, "threads": 1} | settings),
        run_dir=folder,
    )
    for thread in threads:
        join(thread)
    return result


@needed
def attend(folder: Path, name: str, work: Work) -> None:
    """Work on every state in which something is asked, until the run has ended."""
    secret, end = folder / "queries/.page.json", time.monotonic() + 100
    while not (secret.exists() and secret.read_text().endswith("\n")):
        assert time.monotonic() < end
        time.sleep(0.02)
    found = json.loads(secret.read_text())
    client = Client(f"http://127.0.0.1:{found['port']}/?token={found['token']}", name)
    state = client.state()
    limit = Limit(120, lambda: state)
    while state["phase"] in ("ask", "train"):
        limit.check()
        if state["phase"] == "ask":
            work(client, state)
        try:
            state = client.state(state["version"])
        except (urllib.error.URLError, ConnectionError):
            return  # the run had ended before it was asked again


def answer(client: Client, state: Any, items: list[str], label: int = 1) -> None:
    for item in items:
        client.answer(item, {"labels": [label]}, question=state["question"])


def left(state: Any) -> list[str]:
    return [item["id"] for item in state["items"] if item["mine"] is None]


def test_what_was_left_open_is_asked_for_at_the_end_and_learned_from(tmp_path: Path) -> None:
    asked: list[tuple[str, list[str]]] = []

    def work(client: Client, state: Any) -> None:
        asked.append((state["question"], left(state)))
        if not state["may_be_open"]:  # what is left at the end
            answer(client, state, left(state))
        else:
            answer(client, state, [i for i in left(state) if i.startswith(state["question"])][:2])
        client.hand_in(state["question"], anyway=True)

    result = run(tmp_path, {"Ann": work}, {}, enough=0.5)
    assert (result.status, result.reason) == ("complete", "budget")
    sizes = [len(items) for _, items in asked if items]
    assert sizes == [4, 6, 4]  # four new ones; as many and two old ones; what is left of both
    assert result.rows[-1]["labels"] == 6 + 8
    assert result.rows[-1]["trained_on"] == 6 + 8


def test_two_people_answer_each_and_both_are_in_the_ledger(tmp_path: Path) -> None:
    def work(client: Client, state: Any) -> None:
        answer(client, state, left(state), int(client.name == "Bob"))
        client.hand_in(state["question"])

    result = run(tmp_path, {"Ann": work, "Bob": work}, {"budget": 8}, annotators_per_sample=2)
    assert result.status == "complete"
    events = [e for e in result.job.pool.events(0) if e["origin"] == "oracle"]
    pairs = sorted((event["index"], event["annotator"], event["target"]) for event in events)
    for index in {index for index, _, _ in pairs}:
        assert (index, "Ann", 0) in pairs
        assert (index, "Bob", 1) in pairs


def test_made_samples_are_shown_and_answered(tmp_path: Path) -> None:
    shown: list[list[str]] = []

    def work(client: Client, state: Any) -> None:
        for item in left(state):
            status, sample = client.get(f"/api/sample/{item}")
            assert status == 200, sample
            shown.append([cell for _, cell in sample["columns"]])
        answer(client, state, left(state))
        client.hand_in(state["question"])

    result = run(tmp_path, {"Ann": work}, {}, setting=SynthesisSetting("between"))
    events = [e for e in result.job.pool.events(0) if e["origin"] == "synthetic"]
    # The first labels are all of one class, so the first question is one of the pool.
    assert [(e["annotator"], e["target"]) for e in events] == [("Ann", 1)] * 4
    made = result.job.source.train.raw(torch.tensor([e["index"] for e in events]))
    rows = torch.tensor([list(map(float, row)) for row in shown])
    assert all(torch.isclose(rows, sample, rtol=1e-5).all(1).any() for sample in made)


def test_minutes_are_those_that_people_took(tmp_path: Path) -> None:
    def work(client: Client, state: Any) -> None:
        for item in left(state):
            client.answer(item, {"labels": [1]}, seconds=30)
        client.hand_in(state["question"])

    result = run(tmp_path, {"Ann": work}, {"budget": 3, "budget_in": "minutes"})
    events = [e for e in result.job.pool.events(0) if e["origin"] == "oracle"]
    assert {event["seconds"] for event in events} == {30}
    assert 6 <= len(events) <= 8  # half a minute each


def test_a_run_that_fails_says_so_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def work(client: Client, state: Any) -> None:
        (tmp_path / "checkpoints").rename(tmp_path / "gone")
        (tmp_path / "checkpoints").write_text("in the way")
        answer(client, state, left(state))
        client.hand_in(state["question"])
        state = client.until("failed")
        seen.append(state)

    with pytest.raises(OSError, match="checkpoints"):
        run(tmp_path, {"Ann": work}, {})
    limit = Limit(60, threading.enumerate)
    while not seen:
        limit.check()
        time.sleep(0.01)
    assert seen[0]["phase"] == "failed"
    assert "checkpoints" in seen[0]["reason"]
