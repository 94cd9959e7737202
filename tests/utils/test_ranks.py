"""Several processes, one run: equal passes, equal training, a lost process, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranks_job
import torch
from waiting import code_of, completed

from dal.utils.ranks import ALONE, current

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes leave what they found, and a run that they did."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")]),
    }
    command = [*TORCHRUN, str(ROOT / "tests" / "helpers" / "ranks_job.py"), str(folder)]
    completed(command, check=True, env=environment, seconds=180, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def shared(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found."""
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("part", "count"), [("scan", 67), ("few", 5)])
def test_shared_pass_equals_that_of_one_process_bit_for_bit(
    shared: list[dict[str, Any]], part: str, count: int
) -> None:
    alone = ranks_job.scan(count, 8)
    for found in shared:
        assert found[part].keys() == alone.keys()
        for name, expected in alone.items():
            assert torch.equal(found[part][name], expected), name


@pytest.mark.usefixtures("one_thread")
def test_all_halve_their_batches_when_one_runs_out_of_memory(shared: list[dict[str, Any]]) -> None:
    alone = ranks_job.scan(67, 8)["Probs()"].flip(0)
    for found in shared:
        probs, size = found["starved"]
        assert size == 8
        assert torch.allclose(probs, alone, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("part", ["fit", "weighted", "all settings"])
def test_ten_steps_equal_those_of_one_process(shared: list[dict[str, Any]], part: str) -> None:
    weights, history = ranks_job.everything()[part]
    first, second = (found[part] for found in shared)
    for name, expected in weights.items():
        assert torch.equal(first[0][name], second[0][name])
        assert torch.allclose(first[0][name], expected, atol=2e-6), name
    for key, value in history[0].items():
        assert first[1][0][key] == pytest.approx(value, abs=1e-5)


def test_processes_end_a_fit_with_the_same_statistics_of_batch_norm(
    shared: list[dict[str, Any]],
) -> None:
    for first, second in zip(*(found["normalized"] for found in shared), strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_failure_of_the_first_process_is_told_to_the_others(shared: list[dict[str, Any]]) -> None:
    assert shared[0]["told"] == "ValueError: no such thing"
    assert shared[1]["told"] == "RuntimeError: the first process failed: ValueError: no such thing"
    assert [found["all_reduce_max"] for found in shared] == [1, 1]


def test_process_with_other_data_is_refused_by_name(shared: list[dict[str, Any]]) -> None:
    assert [found["unlike"][:44] for found in shared] == [
        "nothing",
        "process 1 has other data than the first; giv",
    ]


def test_fit_ended_between_batches_goes_on_to_the_same_bits_in_each(
    shared: list[dict[str, Any]],
) -> None:
    """Each process has noise of its own; the signal comes to one, and both end."""
    for found in (rank["interrupted"] for rank in shared):
        assert found["ends"] >= 3
        assert found["again"]["history"] == found["whole"]["history"]
        assert found["again"]["steps"] == found["whole"]["steps"] == 12
        for name, expected in found["whole"]["weights"].items():
            assert torch.equal(found["again"]["weights"][name], expected), name


def test_shared_fits_on_tensors_by_name_equal_those_on_one_tensor(
    shared: list[dict[str, Any]],
) -> None:
    for found in shared:
        for named, of_one in found["by_name"]:
            assert named.keys() == of_one.keys()
            assert all(torch.equal(named[name], of_one[name]) for name in named)


def test_signal_to_one_ends_a_pass_in_all(shared: list[dict[str, Any]]) -> None:
    assert [found["preempted"] for found in shared] == [signal.SIGUSR1] * 2


def test_people_are_asked_by_the_first_process_and_waited_for_by_all(
    shared: list[dict[str, Any]],
) -> None:
    first, other = (found["waiting"] for found in shared)
    assert first["status"] == other["status"] == "complete"
    assert first["events"] == other["events"]
    assert len(first["events"]) == 9 + 8
    assert first["calls"] == (1, 12, 1, 2, True)
    assert other["calls"] == (0, 0, 0, 0, False)


@pytest.mark.usefixtures("one_thread")
def test_what_is_made_in_turn_is_made_by_each_alone(shared: list[dict[str, Any]]) -> None:
    """Such as features of a network that is not trained: the others wait meanwhile."""
    expected = ranks_job.scan(20, 8)["Probs()"]
    for found in shared:
        count, probs = found["main_first"]
        assert count == 1
        assert torch.equal(probs, expected)


def test_processes_are_together_again_after_their_turns_and_alone_at_the_end(
    shared: list[dict[str, Any]],
) -> None:
    assert [(found["together"], found["after"]) for found in shared] == [(True, True)] * 2


def test_without_torchrun_a_process_is_alone() -> None:
    ranks = current()
    assert ranks is ALONE
    assert (ranks.is_main, ranks.part(5), ranks.all_reduce_max(3)) == (True, range(5), 3)
    assert ranks.broadcast(lambda: 7) == ranks.main_first(lambda: 7) == 7


def start(saved: Path) -> subprocess.Popen[bytes]:
    log = (saved.parent / "out.txt").open("ab")
    with log:
        return subprocess.Popen(
            [*TORCHRUN, str(ROOT / "scripts" / "train.py"), *ranks_job.RUN],
            env={**os.environ, "DAL_SAVED_DIR": str(saved), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def status(saved: Path) -> dict[str, Any]:
    for path in saved.glob("*/status.json"):
        return dict(json.loads(path.read_text()))
    return {}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_job_that_loses_a_process_fails_and_resumes_to_the_same_bits(
    folder: Path, tmp_path: Path
) -> None:
    whole, saved = folder / "whole", tmp_path / "saved"
    job = start(saved)
    end = time.monotonic() + 120
    while status(saved).get("round", 0) < 2:
        assert job.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    (second,) = {int(pid) for pid in children} - {status(saved)["pid"]}
    os.kill(second, signal.SIGKILL)
    out = tmp_path / "out.txt"
    assert code_of(job, out) != 0
    assert status(saved)["status"] in ("failed", "running", "preempted")
    assert code_of(start(saved), out) == 0
    (broken,) = (path.parent for path in saved.glob("*/status.json"))
    assert (broken / "queries.csv").read_bytes() == (whole / "queries.csv").read_bytes()
    assert status(saved)["accuracy"] == json.loads((whole / "status.json").read_text())["accuracy"]
    of_stop_set = [
        [{k: v for k, v in json.loads(row).items() if k.startswith("stop/")} for row in rows]
        for rows in ((path / "metrics.jsonl").read_text().splitlines() for path in (broken, whole))
    ]
    assert of_stop_set[0] == of_stop_set[1]
    assert "stop/kappa" in of_stop_set[0][-1]
    numerics = json.loads((broken / "env.json").read_text())["numerics"]
    assert numerics["world_size"] == 2


def test_models_of_scikit_learn_are_refused(shared: list[dict[str, Any]]) -> None:
    message = "scikit-learn models are fitted by one process; start the run without torchrun"
    assert [found["estimator"] for found in shared] == [message] * 2
