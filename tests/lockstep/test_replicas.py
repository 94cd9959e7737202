"""The command line with several runs in lockstep."""

from __future__ import annotations

import errno
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from dal.cli import config
from dal.utils.lock import RunLock

ROOT = Path(__file__).parents[2]
SMALL = (
    "data=iris",
    "model=logistic_regression",
    "query_size=5",
    "budget=10",
    "trainer.epochs=3",
    "threads=1",
    "figures=false",
)
Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Runs a command line in this process; gives its exit code and what it said."""
    monkeypatch.setenv("DAL_DATA_DIR", str(tmp_path / "data"))
    loggers = [logging.getLogger(name) for name in (None, "hydra")]
    levels = [(logger, logger.level, list(logger.handlers)) for logger in loggers]

    def run(saved: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("DAL_SAVED_DIR", str(tmp_path / saved))
        monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, *arguments])
        monkeypatch.setattr(config.Jobs, "begun", 0)
        monkeypatch.setattr(config.Jobs, "failed", False)
        GlobalHydra.instance().clear()
        capsys.readouterr()
        code: Any = 0
        try:
            config.main(ROOT / "conf")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int | None) else str(end.code)
        shown = capsys.readouterr().out
        return (1, f"{shown}{code}") if isinstance(code, str) else (code or 0, shown)

    yield run
    GlobalHydra.instance().clear()
    for logger, level, handlers in levels:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def files(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.iterdir()}


def queries(run_dir: Path) -> list[str]:
    return [x.split(",")[1] for x in (run_dir / "queries.csv").read_text().splitlines()]


def statuses(folder: Path) -> list[str]:
    paths = sorted(folder.glob("*/status.json"))
    return [json.loads(path.read_text())["status"] for path in paths]


def test_replicas_are_the_runs_they_would_be_by_themselves(cli: Cli, tmp_path: Path) -> None:
    code, out = cli("together", "replicas=2", "replica_strategies=[margin,random]", "seed=3")
    assert code == 0
    assert "[margin s4] complete: budget, 30 labels, test accuracy 0." in out
    assert out.count("\n") == 8  # one line a run, and the table
    for strategy in ("margin", "random"):
        for seed in (3, 4):
            assert cli("alone", f"strategy={strategy}", f"seed={seed}")[0] == 0
    names = files(tmp_path / "alone")
    assert files(tmp_path / "together") == names
    assert len(names) == 4
    for name in names:
        one, other = tmp_path / "together" / name, tmp_path / "alone" / name
        assert files(one) == files(other)
        assert queries(one) == queries(other)
        configs = [(path / "config.yaml").read_text() for path in (one, other)]
        assert configs[0].replace("/together", "/alone") == configs[1]
        log = (one / "train.log").read_text()
        assert log.count("complete: budget") == 1
        env = json.loads((one / "env.json").read_text())
        assert env["numerics"]["replicas"] == 4
    code, out = cli("together", "replicas=2", "replica_strategies=[margin,random]", "seed=3")
    assert code == 0
    assert out.count("complete already") == 4
    assert "[random s3] complete already" in out


def test_replicas_one_locked_fails_alone_and_is_finished_later(cli: Cli, tmp_path: Path) -> None:
    assert cli("saved", "replicas=3", "max_rounds=0")[0] == 0
    locked = next((tmp_path / "saved").glob("*-s1-*"))
    with RunLock(locked):
        code, out = cli("saved", "replicas=3")
    assert code == 1
    assert "[instability s1] error: " in out
    assert "1 of 3 runs failed" in out
    rounds = [len(x.read_text().splitlines()) for x in sorted(tmp_path.glob("saved/*/metrics*"))]
    assert rounds == [3, 1, 3]
    code, out = cli("saved", "replicas=3")
    assert code == 0
    assert out.count("complete already") == 2
    assert statuses(tmp_path / "saved") == ["complete"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replicas=100000",), "replicas=100000 asks for 100,000 runs in one process"),
        (("replicas=9999", "replica_strategies=[margin,random]"), "9999 of 2 strategies asks for"),
        (("replicas=0",), "replicas=0; give at least 1"),
        (("replicas=2", "lockstep=maybe"), "lockstep=maybe; choose auto, true or false"),
        (("replica_strategies=[random,random]",), "names one twice"),
        (("replica_strategies=[randm]",), "randm"),
        (("replicas=2", "profile=true"), "profile=true profiles one run"),
    ],
)
def test_replicas_bad_settings_are_refused(
    arguments: tuple[str, ...], message: str, cli: Cli, tmp_path: Path
) -> None:
    code, out = cli("saved", *arguments)
    assert code == 1
    assert message in out
    assert not (tmp_path / "saved").exists()


def test_replicas_are_bounded_by_files_that_may_be_open(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (43, 43))
    code, out = cli("saved", "replicas=3")
    assert code == 1
    assert "each keeps 4 files open, which allows 2 (`ulimit -n` is 43" in out
    assert not (tmp_path / "saved").exists()
    assert cli("saved", "replicas=3", "record_epochs=false", "max_rounds=0")[0] == 0
    monkeypatch.setattr("resource.getrlimit", lambda kind: (-1, -1))
    assert "which allows 10,000 (`ulimit -n` is unlimited" in cli("saved", "replicas=10001")[1]


def test_too_many_open_files_have_a_remedy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file, locks = Path.open, 0

    def open_or_fail(path: Path, *mode: Any, **options: Any) -> Any:
        nonlocal locks
        locks += path.name == "run.lock"
        if path.name == "run.lock" and locks == 2:
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return open_file(path, *mode, **options)

    monkeypatch.setattr(Path, "open", open_or_fail)
    code, out = cli("saved", "replicas=2", "max_rounds=0")
    assert code == 1
    assert "[instability s1] error: [Errno 24] Too many open files" in out
    assert "(ulimit -n 65536) or lower replicas, and run the same command again" in out
    assert "error: 1 of 2 runs failed; the other is complete" in out


def test_replicas_under_torchrun_are_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out = cli("saved", "replicas=2")
    assert code == 1
    assert "torchrun has started several" in out
