"""The wheel: what is in it, and that it works by itself, away from the repository."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from waiting import completed

import dal

ROOT = Path(__file__).parents[1]
PARTS = ("dal", "conf", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
SMALL = ("data=iris", "model=logistic_regression", "budget=5", "query_size=5", "trainer.epochs=2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, with settings of one machine in ``conf/local``."""
    copy = tmp_path_factory.mktemp("repository")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "local")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    (copy / "tests").mkdir()
    (copy / "tests" / "test_x.py").touch()
    (copy / "conf" / "local").mkdir()
    (copy / "conf" / "local" / "slurm.yaml").write_text("# @package _global_\n")
    return copy


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    completed([*PIP, "wheel", *options, str(repository)], check=True)
    (path,) = out.glob("dal-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-index", "--target", str(folder))
    completed([*PIP, "install", *options, str(wheel)], check=True)
    return folder


def test_wheel_holds_the_package_and_its_options_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {path for path in (ROOT / "dal").rglob("*") if path.is_file()}
    package = {path for path in package if "__pycache__" not in path.parts}
    options = {path for path in (ROOT / "conf").rglob("*.yaml") if path.parent.name != "local"}
    expected = {path.relative_to(ROOT) for path in package}
    expected |= {Path("dal") / path.relative_to(ROOT) for path in options}
    assert held == {path.as_posix() for path in expected}


def test_version_stands_once_and_in_the_citation(wheel: Path) -> None:
    assert wheel.name.startswith(f"dal-{dal.__version__}-")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == dal.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} < citation.keys()
    assert citation["authors"] == [{"name": "The dal developers"}]


def test_installed_command_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "DAL_SAVED_DIR"}
    env["PYTHONPATH"] = str(installed)

    def do(*arguments: str) -> str:
        command = [sys.executable, str(installed / "bin" / "dal"), *arguments]
        return completed(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert "area under the learning curve" in do("train", *SMALL, "strategy=margin")
    assert "complete already" in do("train", *SMALL, "strategy=margin")
    (run,) = (tmp_path / "saved").glob("iris-logistic_regression-margin-s0-*")
    assert run.name in do("status")
    assert {path.name for path in tmp_path.iterdir()} == {"saved"}


def test_repository_installed_for_editing_has_its_options_at_its_top(repository: Path) -> None:
    code = "from dal.cli.folders import config_dir; print(config_dir())"
    env = os.environ | {"PYTHONPATH": str(repository)}
    done = completed(
        [sys.executable, "-c", code],
        env=env,
        cwd=repository.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(repository / "conf")
