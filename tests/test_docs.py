"""What the documents show works: code blocks run, commands compose, files and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import dal
from dal.cli.config import compose
from dal.data import make_source
from dal.query import Entropy
from dal.settings import APART, UNNAMED

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    lines = [
        line
        for document in DOCUMENTS
        if document.stem[:5] != "add_a"  # tests/test_add_pages.py does those
        for block in blocks(document.read_text(), "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    runs = [line.partition("#")[0].split("&& ")[-1].strip() for line in lines]
    runs = [run.replace("python scripts/train.py", "dal train") for run in runs]
    own = [run for run in runs if "--config-dir" in run]  # tests/test_own_package.py does those
    return sorted({run for run in runs if run.startswith("dal train")} - {*own})


@pytest.mark.parametrize("command", commands())
def test_documents_commands_compose(command: str) -> None:
    overrides = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
    # The first job of a sweep; commas in brackets are lists.
    first = [o if "[" in o else re.sub(",.*", "", o) for o in overrides]
    compose(ROOT / "conf", first)


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(README, "python")
    assert len(found) == 4
    for code in found:
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "mine.npz").is_file()
    assert (tmp_path / "run" / "model.pt").is_file()


def test_resume_lists_every_setting_that_makes_no_other_run() -> None:
    text = (ROOT / "docs" / "resume.md").read_text().partition("These do not make another run:")[2]
    listed = text.partition(". So a finished")[0]
    for name in (*UNNAMED, *(name for names in APART.values() for name in names)):
        assert re.search(rf"[`.]{name}`", listed), f"docs/resume.md lacks {name}"


def test_experiments_explains_every_column_of_a_row() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    known = set(
        re.findall(r"`([a-z_/…]+)`", text.partition("What a row of")[2].partition("\n## ")[0])
    )
    source = make_source(dal.data.iris(), seed=0, validation=15)
    initial = dal.data.initial_labels(source.train.targets, seed=0, count=6)
    settings = dal.Settings(budget=4, query_size=4, threads=1)
    rows = dal.run(source, dal.models.MLP, Entropy(), initial=initial, settings=settings).rows
    for name in {name for row in rows for name in row}:
        group = "…_s" if name.endswith("_s") else re.sub("/.*", "/…", name)
        assert group in known, f"docs/experiments.md lacks {name}"


def test_documents_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
