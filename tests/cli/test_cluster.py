"""Sweeps in other processes: joblib, submitit's local executor with preemption, a batch script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from waiting import code_of

from dal.cli import config
from dal.cli.explain import explain
from dal.runs.from_config import execute

pytest.importorskip("submitit", reason="needs the extra cluster")
pytest.importorskip("joblib")

ROOT = Path(__file__).parents[2]
SMALL = (
    "data=iris",
    "model=logistic_regression",
    "query_size=2",
    "trainer.epochs=4",
    "batch_size=64",
    "threads=1",
    "figures=false",
)
Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Starts ``scripts/train.py -m``; runs go to ``tmp_path / "saved"``."""

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *SMALL, *arguments]
        env = {**os.environ, "DAL_SAVED_DIR": str(tmp_path / "saved"), **environment}
        out = (tmp_path / "out.txt").open("w")
        with out:
            return subprocess.Popen(
                command, env=env, stdout=out, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
            )

    return start


def statuses(saved: Path) -> dict[str, dict[str, object]]:
    """The status of every run, by the name of its directory."""
    found = {}
    for path in saved.glob("*/status.json"):
        found[path.parent.name] = json.loads(path.read_text())
    return found


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_jobs_in_processes_of_this_machine_end_with_a_table(launch: Launch, tmp_path: Path) -> None:
    job = launch("cluster=local", "hydra.launcher.n_jobs=2", "strategy=random,bald", "budget=4")
    assert code_of(job, tmp_path / "out.txt", 180) == 1
    out = (tmp_path / "out.txt").read_text()
    ends = {name.split("-")[2]: status for name, status in statuses(tmp_path / "saved").items()}
    assert {name: end["status"] for name, end in ends.items()} == {
        "random": "complete",
        "bald": "failed",
    }
    assert "[bald s0] error: BALD compares members" in out
    assert "Traceback" not in out
    lines = out.splitlines()
    (table,) = (i for i, line in enumerate(lines) if line.startswith("  0  complete"))
    assert lines[table + 1].startswith("  1  failed")
    assert lines[table + 2 :] == []
    assert sorted(line.partition("]")[0] for line in lines[:table]) == ["[bald s0", "[random s0"]


def test_preempted_job_is_queued_again_and_ends_in_the_same_bits(
    launch: Launch, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    job = launch("hydra/launcher=submitit_local", "strategy=margin", "budget=60")

    def begun() -> bool:
        return any(int(str(s.get("round", 0))) >= 3 for s in statuses(saved).values())

    wait_for(begun, job, 120)
    ((name, status),) = statuses(saved).items()
    os.kill(int(str(status["pid"])), signal.SIGUSR2)
    assert code_of(job, tmp_path / "out.txt", 180) == 0
    (ended,) = statuses(saved).values()
    assert ended["status"] == "complete"
    assert ended["pid"] != status["pid"]
    log = (saved / name / "train.log").read_text()
    assert log.count("dal.runs.from_config: run directory: ") == 2
    settings = config.compose(ROOT / "conf", [*SMALL, "strategy=margin", "budget=60"])
    execute(OmegaConf.to_container(settings, resolve=True), tmp_path / "whole")  # type: ignore[arg-type]
    resumed, expected = (folder / "queries.csv" for folder in (saved / name, tmp_path / "whole"))
    assert resumed.read_bytes() == expected.read_bytes()


def slurm(tools: Path, sbatch: str) -> str:
    """A PATH with stand-ins for the commands of Slurm."""
    tools.mkdir()
    bodies = {"sbatch": sbatch, "srun": "true", "sacct": 'echo "JobID|State"', "scancel": "true"}
    for name, body in bodies.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return f"{tools}{os.pathsep}{os.environ['PATH']}"


def test_slurm_gets_an_array_that_is_queued_again(launch: Launch, tmp_path: Path) -> None:
    script = tmp_path / "batch.sh"
    copy = f'cp "$1" {script}.part && mv {script}.part {script}'
    path = slurm(tmp_path / "bin", f'{copy}; echo "Submitted batch job 7"')

    def pickles() -> list[Path]:
        return list((tmp_path / "saved/multirun/.submitit").glob("7_*/*.pkl"))

    own = ("hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1")
    job = launch("cluster=slurm", "strategy=random,margin", "seed=0,1,2", *own, PATH=path)
    try:
        # Only once sbatch has said its number does the command put the jobs where they look.
        wait_for(lambda: script.is_file() and len(pickles()) == 6, job, 120)
    finally:
        job.kill()
        job.wait(60)
    options = {line for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert options >= {
        "#SBATCH --array=0-5%6",
        "#SBATCH --job-name=dal",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --requeue",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --time=240",
        "#SBATCH --open-mode=append",
    }


def test_killed_worker_is_one_error(launch: Launch, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    job = launch("cluster=local", "hydra.launcher.n_jobs=2", "strategy=margin,random", "budget=60")
    wait_for(lambda: bool(statuses(saved)), job, 120)
    os.kill(int(str(next(iter(statuses(saved).values()))["pid"])), signal.SIGKILL)
    assert code_of(job, tmp_path / "out.txt", 60) == 1
    out = (tmp_path / "out.txt").read_text()
    assert out.count("error: ") == 1
    assert "error: a worker process was killed (SIGKILL(-9)" in out
    assert "lower hydra.launcher.n_jobs" in out
    assert "Traceback" not in out


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Path], str]:
    """Starts a sweep on Slurm in this process; gives the standard error of one that is refused."""
    tools = slurm(tmp_path / "bin", 'echo "sbatch: error: invalid partition: x" >&2; exit 1')
    monkeypatch.setenv("PATH", tools)
    monkeypatch.setenv("DAL_SAVED_DIR", str(tmp_path / "saved"))
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *SMALL, "cluster=slurm"])
    monkeypatch.setattr(config.Jobs, "begun", 0)

    def start(conf: Path) -> str:
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as end:
            config.main(conf)
        GlobalHydra.instance().clear()
        assert end.value.code == 1
        return capfd.readouterr().err

    return start


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"hydra: [", "slurm.yaml, line 1: expected the node content"),
        (b"- hydra", "slurm.yaml: it holds a list"),
        (b"5", "slurm.yaml: Invalid loaded object type: int"),
        (b"# gr\xfcn", "slurm.yaml: 'utf-8' codec can't decode"),
        (b"nonsense: 3", "slurm.yaml: Key 'nonsense' not in 'Config'"),
        (b"hydra: {launcher: {partitoin: x}}", "slurm.yaml: Key 'partitoin' not in"),
        (b"hydra: {launcher: {timeout_min: x}}", "(hydra.launcher.timeout_min)"),
    ],
)
def test_malformed_local_file_is_named(
    content: bytes, fact: str, refused: Callable[[Path], str], tmp_path: Path
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf, ignore=shutil.ignore_patterns("local"))
    (conf / "local").mkdir()
    (conf / "local" / "slurm.yaml").write_bytes(content)
    error = refused(conf)
    assert error.startswith(f"error: {conf / 'local' / 'slurm.yaml'}")
    assert fact in error
    assert error.endswith("; mend the file and run the same command again\n")
    assert error.count("\n") == 1
    assert not (tmp_path / "saved").exists()


def test_refusal_of_sbatch_is_told_in_its_words(refused: Callable[[Path], str]) -> None:
    error = refused(ROOT / "conf").splitlines()[-1]
    assert error.startswith("error: sbatch refused the jobs: sbatch: error: invalid partition: x;")
    assert "conf/local/slurm.yaml" in error


def test_missing_launcher_is_named_with_what_installs_it() -> None:
    error = ConfigCompositionException("In 'hydra/config': Could not find 'hydra/launcher/joblib'")
    said = str(explain(error, [ROOT / "conf"]))
    assert said.startswith("error: joblib is not installed; ")
    assert said.endswith("pip install hydra-joblib-launcher hydra-submitit-launcher submitit")


def test_lost_job_and_unforeseen_errors() -> None:
    from submitit.core.utils import UncompletedJobError

    lost = explain(UncompletedJobError("Job 7_0 has no output (state: OOM)\nmore"), [ROOT / "conf"])
    assert str(lost).startswith("error: Job 7_0 has no output (state: OOM); look into multirun/")
    assert explain(ZeroDivisionError("a defect"), [ROOT / "conf"]) is None
