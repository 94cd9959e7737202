"""``dal``: its parts, its help, and completion in a shell."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import completed

import dal
from dal.cli import command

ROOT = Path(__file__).parents[2]
PARTS = ("train", "label", "predict", "labels", "status", "report", "audit", "replay", "gallery")


def given(
    *arguments: str, cwd: Path = ROOT, module: str = "dal", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What ``python -m dal`` does with a command line."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    line = [sys.executable, "-m", module, *arguments]
    return completed(line, env=env, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_part(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dal", *arguments])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:2] == "  "][: len(PARTS)] == list(PARTS)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["trian", "seed=1"], "did you mean train?"),
        (
            ["nonsense"],
            "choose from train, label, predict, labels, status, report, audit, replay, gallery",
        ),
        (["strategy=margin"], "dal train strategy=margin ... runs active learning"),
        (["-m", "seed=0,1"], "dal train -m ... runs active learning"),
    ],
)
def test_unknown_part_is_refused(
    arguments: list[str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dal", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == f"error: there is no command {arguments[0]}; {remedy}"


def test_packages_are_known_by_the_first_import_alone() -> None:
    assert dal.__getattr__("query") is importlib.import_module("dal.query")
    with pytest.raises(AttributeError, match="module 'dal' has no attribute 'nonsense'"):
        dal.__getattr__("nonsense")


def test_version_help_and_mistakes_need_no_torch() -> None:
    assert given("--version").stdout == f"dal {dal.__version__}\n"
    lines = {
        ("train", "--help"): "dal train strategy=instability",
        ("train", "strategy=margn"): "did you mean strategy=margin?",
        **{(part, "--help"): f"usage: dal {part} " for part in PARTS[1:]},
    }
    for line, said in lines.items():
        ended = given(*line, **{"PYTHONPROFILEIMPORTTIME": "1"})
        assert ended.returncode == ("=" in line[1])
        assert said in ended.stdout + ended.stderr
        modules = {shown.rpartition("|")[2].strip() for shown in ended.stderr.splitlines()}
        assert "dal.cli.command" in modules
        assert "torch" not in modules


def test_status_looks_where_the_environment_says(tmp_path: Path) -> None:
    environment = {"DAL_SAVED_DIR": "elsewhere"}
    ended = given("status", cwd=tmp_path, **environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: there is no elsewhere; ")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dal tr", ["train"]),
        ("dal pre", ["predict"]),
        ("dal re", ["replay", "report"]),
        ("dal train strategy=inst", ["strategy=instability"]),
        ("dal train seed=3 strategy=marg", ["strategy=margin"]),
        ("dal train -m trainer.early_stopping.pat", ["trainer.early_stopping.patience="]),
        ("dal train --config", []),
        ("dal report sa", []),
    ],
)
def test_bash_completes_on_tab(line: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    dal_itself = tmp_path / "bin" / "dal"
    dal_itself.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dal "$@"\n')
    dal_itself.chmod(0o755)
    path = f"{dal_itself.parent}{os.pathsep}{os.environ['PATH']}"
    words = " ".join(f"'{word}'" for word in line.split())
    script = (
        'eval "$(dal -sc install=bash)"\n'
        f"COMP_WORDS=({words}) COMP_CWORD={len(line.split()) - 1}\n"
        f"COMP_LINE='{line}' COMP_POINT={len(line)}\n"
        'hydra_bash_completion\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    ended = completed(
        ["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert sorted(ended.stdout.split()) == found
