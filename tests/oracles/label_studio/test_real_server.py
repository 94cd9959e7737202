"""The real Label Studio, and processes that are killed at random moments.

``DAL_LABEL_STUDIO=VENV/bin/label-studio pytest -m slow tests/oracles/label_studio`` starts it with
a database of its own, on this machine only; ``DAL_KILLS=50`` kills so many processes in each test,
and ``DAL_LIFE=20`` lets them live longer on a busy machine.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import label_studio_job as job
import pytest

from dal.oracles import LabelStudioOracle

PROGRAM = os.environ.get("DAL_LABEL_STUDIO", "")
KILLS = int(os.environ.get("DAL_KILLS", "3"))
START_S = 900
LIFE_S = float(os.environ.get("DAL_LIFE", "8"))
"""Seconds that a process lives at most, from when its imports are done."""
TOKEN = secrets.token_hex(20)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="DAL_LABEL_STUDIO names no program of Label Studio"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("label_studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder), "LABEL_STUDIO_USERNAME": "a@example.org",
        "LABEL_STUDIO_PASSWORD": secrets.token_hex(8), "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false",
        "PYTHONPATH": "",
    }  # fmt: skip
    where = ["--internal-host", "127.0.0.1", "--port", str(port), "--enable-legacy-api-token"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [PROGRAM, "start", "-b", *where],
            env=os.environ | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while time.monotonic() < end and server.poll() is None:
            try:
                with urlopen(f"{address}/health", timeout=10):
                    break
            except (URLError, OSError):
                time.sleep(1)
        else:
            pytest.fail((folder / "log").read_text()[-2000:])
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)


def begun(*arguments: object) -> subprocess.Popen[str]:
    program = [sys.executable, job.__file__, *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str]) -> bool:
    """Kill a process; whether it was still at work."""
    at_work = process.poll() is None
    process.kill()
    return at_work


def test_killed_while_it_asks_a_process_makes_no_task_twice(url: str, tmp_path: Path) -> None:
    rng, kills, number, longest = random.Random(0), 0, 0, 2.0
    people = job.People(url, TOKEN)
    while kills < KILLS or number < 3:
        with begun("ask", url, tmp_path, number) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                process.wait(rng.uniform(0, longest) if kills < KILLS else None)
                assert process.returncode == 0
            except subprocess.TimeoutExpired:
                kills += killed(process)
            if done := process.stdout.read():
                number, longest = number + 1, (longest + 1.2 * float(done)) / 2
    found = Counter((task["question"], task["sample"]) for task in people.tasks())
    doubled = sum(found.values()) - len(found)
    print(f"{kills} kills, {number} questions, {doubled} tasks twice before the last look")
    source = job.source()
    oracle = LabelStudioOracle(tmp_path / "queries", source.class_names, url=url, wait=False)
    oracle.open(source)
    oracle.submit(job.asked(number), number)  # which a killed process may have begun with
    tasks = people.tasks()
    for question in range(number + 1):
        samples = [task["sample"] for task in tasks if task["question"] == question]
        assert samples == job.asked(question).indices.tolist()
    assert len(tasks) == (number + 1) * job.QUERY
    for project in people.client.get("/api/projects/")["results"]:
        people.client.delete(f"/api/projects/{project['id']}/")


def test_killed_at_any_moment_a_run_loses_no_answer_and_enters_none_twice(
    url: str, tmp_path: Path
) -> None:
    rng, kills, answered = random.Random(1), 0, 0
    people, rounds = job.People(url, TOKEN), 2 if KILLS < 10 else 4
    while kills < KILLS:
        with begun("run", url, tmp_path, rounds) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            end = time.monotonic() + rng.uniform(0, LIFE_S)
            while (left := end - time.monotonic()) > 0 and process.poll() is None:
                if answered < rounds * job.QUERY * (kills + 1) / (KILLS + 1):
                    answered += people.work(2)
                time.sleep(min(left, 0.2))
            assert process.poll() in (None, 0)
            kills += killed(process)
    with begun("run", url, tmp_path, rounds) as process:
        while process.poll() is None:
            answered += people.work(5)
            time.sleep(0.2)
    result = job.run(url, tmp_path, rounds)
    assert result.reason == "budget"
    job.check(result, people, rounds)
    print(f"{kills} kills, {answered} answers, {result.job.pool.num_events} events")
