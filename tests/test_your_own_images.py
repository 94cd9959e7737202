"""The page on images of one's own, followed to the letter: each command, with people's answers."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

PAGE = (Path(__file__).parents[1] / "docs" / "your_own_images.md").read_text()
DIGITS = load_digits().target


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures that the page writes."""
    made = tmp_path_factory.mktemp("own images")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=made, check=True)
    return made


def said(folder: Path, line: list[str]) -> str:
    """What a command says."""
    here = {"DAL_SAVED_DIR": "saved", "DAL_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "dal", *line[1:]],
        cwd=folder,
        env=os.environ | here,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def answer(run: Path, names: list[str]) -> list[str]:
    """Fill in the tables that wait, by what the files' names say of them; gives the tables."""
    asked = []
    for path in sorted((run / "queries").glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if all(row["label"] for row in rows):
            continue
        asked.append(path.stem)
        for row in rows:
            digit = int(DIGITS[int(Path(row["content"]).stem)])
            row["label"] = names[digit % len(names)]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return asked


def labeled(folder: Path, line: list[str], names: list[str]) -> tuple[Path, list[str], str]:
    """Give a command until its run is complete; its directory, the questions, the last words."""
    asked: list[str] = []
    while True:
        text = said(folder, line)
        found = re.findall(r"^run directory: +(\S+)$", text, re.MULTILINE)
        run = folder / found[0]
        if "waiting for labels" not in text:
            return run, asked, text
        asked += answer(run, names)


def test_the_page_works_to_the_letter(folder: Path) -> None:
    first, predict, without, photos = commands()
    run, asked, text = labeled(folder, first, [f"digit {digit}" for digit in range(10)])
    (found,) = re.findall(r"```\n(photos: .*)\n```", PAGE)
    assert found in (run / "train.log").read_text()
    assert asked == ["round_0000", "round_0001", "round_0002"]
    sheet = run / "queries" / "round_0000"
    assert len(list(sheet.glob("*.png"))) == 20
    assert sheet.with_suffix(".png").is_file()
    accuracies = [float(value) for value in re.findall(r"^ +\d+ +\d+ +([\d.]+) ", text, re.M)]
    assert len(accuracies) == 4
    assert accuracies[-1] > max(accuracies[0], 0.7)

    said(folder, [word.replace("saved/RUN", str(run)) for word in predict])
    with (folder / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    right = [row["class"] == f"digit {DIGITS[int(Path(row['file']).stem)]}" for row in rows]
    assert len(right) == 660
    assert sum(right) > 0.7 * 660

    run, asked, text = labeled(folder, without, ["even", "odd"])
    assert asked == ["initial_0001", "round_0000"]
    assert "no test part" in text

    run, asked, _ = labeled(folder, photos, [f"digit {digit}" for digit in range(10)])
    assert asked == ["round_0000"]
