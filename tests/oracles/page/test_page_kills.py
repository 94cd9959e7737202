"""Whole rounds on the page, by processes that are killed at random moments."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from page_client import Client
from page_runs import go, source_of
from waiting import Limit, join

from dal.oracles import SimulatedOracle

BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
"""What a client sees of a process that is killed."""


class Runs:
    """Processes of one run, one after the other; each lives for a random time."""

    def __init__(self, folder: Path, questions: int) -> None:
        script = Path(__file__).parents[2] / "helpers/page_runs.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(questions)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._doom: threading.Timer | None = None
        self.said: list[str] = []
        self.ends: list[int] = []
        self.address, self.pid = "", 0

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process that starts the others, and what of them lives."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self.pid:
            self.kill_in(0)
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        join(self._listener)
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.strip())
            self._lines.put(line.strip())

    def __str__(self) -> str:
        return f"ends {self.ends}, page {self.address}, the run said {self.said[-40:]}"

    def start(self, lives_s: float | None) -> None:
        """Start the run, and kill it after some seconds, unless None."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        limit = Limit(120, lambda: self)
        while not self.pid:
            limit.check()
            with contextlib.suppress(queue.Empty):
                kind, _, rest = self._lines.get(timeout=1).partition(" ")
                self.pid = int(rest) if kind == "pid" else 0
        if lives_s is not None:
            self.kill_in(lives_s)

    def kill_in(self, seconds: float) -> None:
        """Kill the process after some seconds."""
        if self._doom is None:
            self._doom = threading.Timer(seconds, self._kill, (self.pid,))
            self._doom.start()

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether the process has ended; its code is kept."""
        with contextlib.suppress(queue.Empty):
            while True:
                kind, _, rest = self._lines.get_nowait().partition(" ")
                if kind == "label":
                    self.address = rest.partition("here: ")[2]
                if kind == "ended":
                    if self._doom is not None:
                        self._doom.cancel()
                    self._doom, self.pid = None, 0
                    self.ends.append(int(rest))
                    return True
        return False


class Person:
    """Answers what is on the page; each answer is sent until it was confirmed."""

    def __init__(self, truth: list[int], rng: random.Random) -> None:
        self._truth, self._rng = truth, rng
        self.confirmed: list[tuple[str, Any, str]] = []
        self._todo: dict[str, list[tuple[Any, str]]] = {}

    def work(self, client: Client) -> None:
        """Answer a sample, or hand in; raises what a killed process leaves of the connection."""
        state = client.state()
        if state["phase"] != "ask":
            time.sleep(0.01)
            return
        confirmed = {item for item, _, _ in self.confirmed}
        for item in state["items"]:  # what was confirmed is there, whatever happened since
            if item["id"] in confirmed and not self._todo.get(item["id"]):
                assert item["mine"] == self._last(item["id"]), item
        open_ = [item["id"] for item in state["items"] if self._plan(item["id"])]
        if not open_:
            client.hand_in(state["question"])
            return
        answer, nonce = self._todo[open_[0]][0]
        status, found = client.answer(open_[0], answer, nonce=nonce)
        if status == 200:
            assert found["mine"] == answer
            self.confirmed.append((open_[0], answer, nonce))
            self._todo[open_[0]].pop(0)

    def _plan(self, item: str) -> list[tuple[Any, str]]:
        """What is still to be said of a sample: now and then wrong at first, and taken back."""
        if item not in self._todo:
            right = {"labels": [self._truth[int(item.rpartition("-")[2])]]}
            wrong = [{"labels": [3]}, None] if self._rng.random() < 0.2 else []
            self._todo[item] = [(answer, uuid.uuid4().hex) for answer in [*wrong, right]]
        return self._todo[item]

    def _last(self, item: str) -> Any:
        return [answer for known, answer, _ in self.confirmed if known == item][-1]


@pytest.mark.parametrize(
    ("kills", "questions"), [(4, 2), pytest.param(50, 4, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_no_answer_is_lost_or_doubled(
    tmp_path: Path, kills: int, questions: int
) -> None:
    source, rng = source_of(), random.Random(kills)
    person = Person(source.train.targets.tolist(), rng)
    with Runs(tmp_path / "page", questions) as runs:
        limit = Limit(60 + 10 * kills, lambda: f"{runs}; confirmed {person.confirmed}")
        runs.start(None)
        while len(person.confirmed) < 3:
            limit.check()
            runs.ended()  # learns where the page is
            answer_on(runs, person, rng, limit, stop=3)
        os.kill(runs.pid, signal.SIGTERM)  # asked to end, it saves where it stands
        while not runs.ended():
            limit.check()
            time.sleep(0.01)
        assert json.loads((tmp_path / "page/status.json").read_text())["status"] == "preempted"
        while 0 not in runs.ends:
            # Some die before their page is there or as they train, every second one as it is
            # answered.
            number = len(runs.ends)
            runs.start(rng.random() if number <= kills and number % 2 else None)
            doom = rng.randint(0, 2) if number <= kills and number % 2 == 0 else None
            while not runs.ended():
                limit.check()
                answer_on(runs, person, rng, limit, doom=doom)
            assert runs.ends[-1] in (0, -signal.SIGKILL), runs
    assert runs.ends == [128 + signal.SIGTERM, *[-signal.SIGKILL] * kills, 0]

    lines = (tmp_path / "page/queries/answers.jsonl").read_text().splitlines()
    written = [line for line in map(json.loads, lines) if "nonce" in line]
    assert max(Counter(line["nonce"] for line in written).values()) == 1
    assert {nonce for _, _, nonce in person.confirmed} == {line["nonce"] for line in written}

    go(tmp_path / "whole", source, SimulatedOracle(source.train.targets), questions)
    answers = answered(tmp_path / "page")
    assert len(answers) == 25 * questions
    assert answers == answered(tmp_path / "whole")


def answer_on(
    runs: Runs,
    person: Person,
    rng: random.Random,
    limit: Limit,
    stop: int | None = None,
    doom: int | None = None,
) -> None:
    """Answer on the page of a process as long as that lives, or until so many are confirmed.

    With ``doom`` it is killed a moment after so many answers, whatever is done then.
    """
    with contextlib.suppress(*BROKEN):
        client = Client(runs.address)
        while runs.address and len(person.confirmed) != stop:
            limit.check()
            person.work(client)
            if doom == 0:
                runs.kill_in(rng.random() * 0.02)
            doom = None if doom is None else doom - 1
            time.sleep(rng.random() * 0.01)
    time.sleep(0.01)


def answered(run_dir: Path) -> list[list[Any]]:
    """What the ledger of a run holds of its questions, in the order of samples."""
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event.get("origin") == "oracle"]
    same = ("round", "index", "target", "abstained", "score")
    return sorted([event[name] for name in same] for event in events)
