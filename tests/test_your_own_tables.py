"""The page on tables of one's own, followed to the letter in an empty folder."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

from waiting import completed

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your_own_tables.md").read_text()
DRIVER = """
import glob, re, shlex, sys
from dal.cli import command
for language, code in re.findall(r"```(python|bash)\\n(.*?)```", sys.stdin.read(), re.DOTALL):
    if language == "python":
        exec(compile(code, "page", "exec"), {})
        continue
    for line in code.splitlines():
        sys.argv = [found for word in shlex.split(line) for found in glob.glob(word) or [word]]
        command.main()
"""
"""Does all blocks of the page in one process, so that torch is imported once."""


def test_every_step_works_and_says_what_the_page_says(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "DAL_SAVED_DIR": "saved"}
    done = completed(
        [sys.executable, "-c", DRIVER],
        input=PAGE,
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    data, said, asked, predicted = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert (tmp_path / "flowers.csv").read_text().startswith(data)
    assert done.stdout.count(said) == 2
    (run,) = (tmp_path / "saved").iterdir()
    for number in (0, 1):
        assert (run / "queries" / f"round_{number:04d}.csv").read_text().startswith(asked)
    text = (tmp_path / "predictions.csv").read_text()
    assert text.startswith(predicted)
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 30
    # all irises in turn are setosa, versicolor, virginica; the first are told apart with ease
    assert {row["class"] for row in rows[:10]} == {"setosa"}
    assert rows[0]["flower"] == "flower 4"
    assert "['flower 4', 'flower 9', 'flower 14'] tensor" in done.stdout
