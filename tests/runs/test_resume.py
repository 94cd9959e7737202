"""Killed runs end with the same bits as uninterrupted ones."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import resume_job
import torch
from waiting import Limit

from dal import checkpoint

CONTEXT = multiprocessing.get_context("forkserver")
# Importing torch takes seconds: one server imports it, and every process is a fork of that.
CONTEXT.set_forkserver_preload(
    [
        "dal.runs.loop",
        "matplotlib.backends.backend_agg",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "transformers.models.bert.modeling_bert",  # passed over where it is not there
    ]
)


def start(function: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
    process = CONTEXT.Process(target=function, args=args, kwargs=kwargs)
    process.start()
    return process


def finish(function: Callable[..., None], *args: Any, **kwargs: Any) -> int:
    process = start(function, *args, **kwargs)
    return end_of(process)


def end_of(process: Any, seconds: float = 120) -> int:
    """The exit code of a process, which is killed where it takes too long."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        pytest.fail(f"{process} did not end in {seconds:.0f} s")
    return int(code)


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if not k.endswith("_s")} for li in lines]


def status(run_dir: Path) -> dict[str, Any]:
    return dict(json.loads((run_dir / "status.json").read_text()))


def assert_same(one: Path, other: Path) -> None:
    for name in ("queries.csv", "ledger.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert metrics(one) == metrics(other)
    first = checkpoint.load(one / "model.pt")["weights"]
    second = checkpoint.load(other / "model.pt")["weights"]
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The uninterrupted run of a strategy, made once."""
    runs: dict[str, Path] = {}

    def get(strategy: str) -> Path:
        if strategy not in runs:
            runs[strategy] = tmp_path_factory.mktemp(strategy)
            assert finish(resume_job.run, runs[strategy], strategy) == 0
        return runs[strategy]

    return get


@pytest.mark.parametrize("strategy", list(resume_job.STRATEGIES))
def test_resume_killed_at_events_is_exact(
    strategy: str, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    deaths = 0
    for seed in range(200):
        code = finish(resume_job.run_and_die, tmp_path, seed, strategy)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert status(tmp_path)["status"] == "complete"
    assert deaths >= 3
    assert_same(tmp_path, reference(strategy))
    assert (metrics(tmp_path)[-1]["pseudo"] > 0) == (strategy in resume_job.COOPERATIVE)


def test_resume_killed_at_random_times_is_exact(
    reference: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = reference("instability")
    rng = random.Random(7)
    for _ in range(8):
        process = start(resume_job.run, tmp_path)
        process.join(rng.uniform(0.05, 0.6))
        process.kill()
        end_of(process)
    assert finish(resume_job.run, tmp_path) == 0
    assert_same(tmp_path, expected)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_resume_after_signal_saves_and_exits_128_plus(
    signum: signal.Signals, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    process = start(resume_job.run_to_exit_code, tmp_path)
    limit = Limit(60, lambda: (process, list(tmp_path.iterdir())))
    while not (tmp_path / "checkpoints").exists():
        limit.check()
        time.sleep(0.005)
    os.kill(process.pid, signum)
    assert end_of(process) == 128 + signum
    assert status(tmp_path)["status"] == "preempted"
    assert signum.name in status(tmp_path)["reason"]
    assert finish(resume_job.run, tmp_path) == 0
    assert_same(tmp_path, reference("instability"))


@pytest.mark.parametrize("strategy", ["instability", "norm", "ensemble"])
def test_resume_after_signals_within_epochs_is_exact(
    strategy: str, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    ends, within = 0, 0
    for seed in range(200):
        code = finish(resume_job.run_and_end, tmp_path, seed, strategy)
        if code == 0:
            break
        assert code == 128 + signal.SIGTERM
        assert status(tmp_path)["status"] == "preempted"
        ends += 1
        newest = max((tmp_path / "checkpoints").glob("*.pt"), default=None)
        fit = (checkpoint.load(newest)["state"]["fit"] if newest else None) or {}
        within += bool((fit.get("fit") or fit).get("within", [{}])[0])
    assert status(tmp_path)["status"] == "complete"
    assert ends >= 5
    assert within >= 3, (ends, within)
    assert_same(tmp_path, reference(strategy))


def test_resume_damaged_newest_checkpoint_falls_back(
    reference: Callable[[str], Path], tmp_path: Path
) -> None:
    finish(resume_job.run_and_die, tmp_path, 12, "instability")
    finish(resume_job.run_and_die, tmp_path, 12, "instability")
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert len(files) > 1
    content = bytearray(files[-1].read_bytes())
    content[len(content) // 2] ^= 1
    files[-1].write_bytes(content)
    assert finish(resume_job.run, tmp_path) == 0
    assert "falling back" in (tmp_path / "train.log").read_text()
    assert_same(tmp_path, reference("instability"))


def test_resume_damaged_history_is_done_without_and_recorded(
    reference: Callable[[str], Path], tmp_path: Path
) -> None:
    resume_job.run(tmp_path, budget=12)
    newest = sorted((tmp_path / "history").glob("*.npy"))[0]
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    resume_job.run(tmp_path)
    log = (tmp_path / "train.log").read_text()
    assert f"{newest.name} is damaged" in log
    assert "lost: the predictions of round 0; the run goes on without" in log
    rows = metrics(tmp_path)
    assert [row["queried"] for row in rows] == [0, 6, 12, 18, 24]
    assert [row.get("lost") for row in rows] == [
        None,
        None,
        ["the predictions of round 0"],
        None,
        None,
    ]
    before = (reference("instability") / "queries.csv").read_text().splitlines()[:13]
    assert (tmp_path / "queries.csv").read_text().splitlines()[:13] == before


def test_resume_extended_budget_equals_straight_run(
    reference: Callable[[str], Path], tmp_path: Path
) -> None:
    assert finish(resume_job.run, tmp_path, budget=12) == 0
    assert status(tmp_path)["queried"] == 12
    assert finish(resume_job.run, tmp_path, budget=24) == 0
    assert_same(tmp_path, reference("instability"))


def test_resume_lowered_budget_deletes_nothing(tmp_path: Path) -> None:
    assert finish(resume_job.run, tmp_path, budget=12) == 0
    before = (tmp_path / "queries.csv").read_bytes()
    assert finish(resume_job.run, tmp_path, budget=6) == 0
    assert (tmp_path / "queries.csv").read_bytes() == before


def test_resume_changed_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume_job.run(tmp_path, budget=6)
    changed = resume_job.dataset()
    changed.inputs[0, 0] += 1
    monkeypatch.setattr(resume_job, "dataset", lambda: changed)
    with pytest.raises(ValueError, match="data of gaussians have changed"):
        resume_job.run(tmp_path, budget=12)


def test_resume_other_threads_are_reapplied_or_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resume_job.run(tmp_path, budget=6, threads=1)
    resume_job.run(tmp_path, budget=12, threads=None)
    assert "other numerics" not in caplog.text
    resume_job.run(tmp_path, budget=18, threads=2)
    assert "threads 1 -> 2" in caplog.text
    assert any(
        "threads 1 -> 2" in row.get("numerics_changed", [""])[0] for row in metrics(tmp_path)
    )
