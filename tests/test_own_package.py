"""docs/own_package.md, followed to the letter: a package that is not dal's, installed and run."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from waiting import completed

from dal.cli import command
from dal.cli.sweep import Jobs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_package.md").read_text()
PACKAGE = ROOT / "tests" / "example_package"
SMALL = ("--config-dir", "conf", "experiment=mine", "trainer.epochs=5", "budget=5")

Do = Callable[[str], None]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it."""
    copy, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, copy, dirs_exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    completed([*pip, *options, str(copy)], check=True)
    return target


@pytest.fixture
def do(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Do]:
    """Does a line of the page in this process, in a copy of the package's folder."""
    shutil.copytree(PACKAGE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.delenv("DAL_SAVED_DIR", raising=False)

    def line(text: str) -> None:
        first, *words = shlex.split(text, comments=True)
        assert first == "dal"
        found = [[str(p) for p in Path().glob(w)] if "*" in w else [w] for w in words]
        monkeypatch.setattr(sys, "argv", ["dal", *(word for part in found for word in part)])
        monkeypatch.setattr(Jobs, "begun", 0)
        monkeypatch.setattr(Jobs, "failed", False)
        GlobalHydra.instance().clear()
        try:
            command.main()
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"{text}: {end.code}") from end
        finally:
            GlobalHydra.instance().clear()

    yield line
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_page_names_every_file_of_the_package() -> None:
    tree = {line.split()[0] for line in block("text").splitlines()}
    files = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.*") if p.is_file()}
    assert tree == {name for name in files if name.endswith((".py", ".yaml", ".toml"))}


def test_page_works_to_the_letter(
    do: Do, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install, train, again, *others = block("bash").splitlines()
    assert install == "pip install ."
    do(train)
    (run,) = (tmp_path / "saved").glob("rings-bumps-gini-s0-*")
    before = rows(run)
    do(again)  # the same directory
    assert [row["round"] for row in before] == [0, 1, 2]
    assert [row["round"] for row in rows(run)] == [0, 1, 2, 3]
    assert rows(run)[:2] == before[:2]
    with (run / "queries.csv").open() as file:
        asked = list(csv.DictReader(file))
    assert {row["label"] for row in asked if int(row["index"]) % 7 == 0} <= {"?"}
    assert "?" not in {row["label"] for row in asked if int(row["index"]) % 7}
    for line in others:
        capsys.readouterr()
        do(line)
        shown = capsys.readouterr().out
        if "--help" in line:
            assert "strategy: gini_spread" in shown
            assert ", gini, gini_spread, " in shown
    assert "round 1: 5 of 5 confirmed" in shown
    assert len(list((tmp_path / "saved").glob("rings-bumps-*-s1-*"))) == 2
    assert "| gini " in (tmp_path / "report" / "report.md").read_text()
    exec(compile(block("python"), "own_package.md", "exec"), {})
    assert re.search(r"inner|outer", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ("model=bumps data=rings", "add mine to plugins"),
        ("experiment=mine strategy=gin", "did you mean strategy=gini?"),
        ("experiment=mine model.widht=3", "did you mean model.width=3?"),
        ("experiment=mine model=3", "choose one of bagging, bayesian_cnn, bumps, "),
        ("experiment=mine oracle.skips=1", "oracle.skips=1; give at least 2"),
    ],
)
def test_mistakes_are_told_as_those_with_options_of_dal(
    arguments: str, fact: str, do: Do, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError) as end:
        do(f"dal train --config-dir conf {arguments}")
    shown = capfd.readouterr()
    assert fact in f"{end.value}{shown.out}{shown.err}"


def test_folder_of_options_is_checked(do: Do, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--config-dir names nowhere, which is no folder"):
        do("dal train --config-dir nowhere seed=1")
    (tmp_path / "conf" / "strategy" / "margin.yaml").write_text("_target_: mine.Gini\n")
    with pytest.raises(AssertionError, match=r"strategy.margin.yaml itself, which hides that of"):
        do("dal train --config-dir=conf seed=1")


def test_mistyped_option_beside_a_damaged_file_is_what_is_told(
    do: Do, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "conf" / "strategy" / "damaged.yaml").write_text("x: !!python/tuple []")
    with pytest.raises(AssertionError) as end:
        do("dal train --config-dir conf strategy=gin")
    shown = capfd.readouterr()
    said = f"{end.value}{shown.out}{shown.err}"
    assert "Could not find 'strategy/gin'" in said
    assert "did you mean strategy=gini?" in said
    assert "mend the file" not in said
    assert "Traceback" not in said


def test_folder_of_options_holds_what_a_cluster_asks_for(
    do: Do, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "conf" / "local").mkdir()
    asked = "# @package _global_\nhydra:\n  launcher:\n    partition: of_mine\n"
    (tmp_path / "conf" / "local" / "slurm.yaml").write_text(asked)
    do("dal train --config-dir conf cluster=slurm --cfg hydra")
    assert "partition: of_mine" in capsys.readouterr().out


def test_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dal.utils.build import find

    with pytest.raises(ValueError, match="install nowhere_to_be_found, or name its folder in"):
        find("nowhere_to_be_found.Net", "model", ["nowhere_to_be_found"])


@pytest.mark.parametrize(
    "flags", ["-m {} seed=1 strategy=gini,margin", "seed=1,2 -m {} lockstep=false"]
)
def test_flags_may_stand_between_settings(flags: str, do: Do, tmp_path: Path) -> None:
    small = " ".join(SMALL)
    do(f"dal train {flags.format(small)}")
    assert len(list((tmp_path / "saved").glob("rings-*"))) == 2


def test_jobs_in_other_processes_find_package_and_options(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    shutil.copytree(PACKAGE / "conf", tmp_path / "conf")
    path = os.pathsep.join([str(ROOT), str(installed)])
    env = os.environ | {"PYTHONPATH": path, "DAL_SAVED_DIR": "saved"}
    sweep = ["-m", "cluster=local", "hydra.launcher.n_jobs=2", *SMALL, "strategy=gini,margin"]
    command = [sys.executable, "-m", "dal", "train", *sweep]
    ended = completed(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "saved").glob("rings-bumps-*/model.pt"))) == 2
