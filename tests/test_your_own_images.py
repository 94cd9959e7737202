"""The page on images of one's own, followed to the letter: each command, with people's answers."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from waiting import completed

PAGE = (Path(__file__).parents[1] / "docs" / "your_own_images.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)]


DRIVER = """
import shlex, sys, traceback
from dal.cli import command
for line in sys.stdin:
    sys.argv = shlex.split(line)
    try:
        if sys.argv[0] == "python":
            code = exec(sys.argv[1], {})
        else:
            code = command.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = traceback.format_exc()
    sys.stderr.flush()
    print(f"\\nended: {code or 0}", flush=True)
"""
"""Does commands in one process, so that torch is imported once."""


class Shell:
    """Gives commands in a folder, where the pictures of the page lie.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            cwd=folder,
            env=os.environ | {"DAL_SAVED_DIR": "saved", "DAL_CACHE_DIR": str(folder / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self, line: list[str]) -> str:
        """What a command says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(shlex.join(line), file=self.process.stdin, flush=True)
        text, patience = "", threading.Timer(240, self.process.kill)
        patience.start()
        try:
            for told in self.process.stdout:
                if told.startswith("ended: "):
                    assert told == "ended: 0\n", text + told
                    return text
                text += told
        finally:
            patience.cancel()
        raise AssertionError(f"the process has ended, or took more than 240 s: {text}")


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("own images"))
    with shell.process:
        yield shell
        shell.process.kill()


def answer(run: Path, truth: Sequence[int], names: list[str]) -> list[str]:
    """Fill in the tables that wait, by what the files' numbers say of them; gives the tables."""
    asked = []
    for path in sorted((run / "queries").glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if all(row["label"] for row in rows):
            continue
        asked.append(path.stem)
        for row in rows:
            row["label"] = names[truth[int(Path(row["content"]).stem)] % len(names)]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return asked


def labeled(
    shell: Shell, line: list[str], truth: Sequence[int], names: list[str]
) -> tuple[Path, list[str], str]:
    """Give a command until its run is complete; its directory, the questions, the last words."""
    asked: list[str] = []
    for _ in range(10):
        text = shell.said(line)
        run = shell.folder / re.findall(r"^run directory: +(\S+)$", text, re.MULTILINE)[0]
        if "waiting for labels" not in text:
            return run, asked, text
        asked += answer(run, truth, names)
    raise AssertionError(f"it still waits: {text}")


def accuracies(text: str) -> list[float]:
    """Test accuracies in the table of rounds."""
    return [float(value) for value in re.findall(r"^ +\d+ +\d+ +([\d.]+) ", text, re.MULTILINE)]


def right(shell: Shell, truth: Sequence[int], names: list[str]) -> int:
    """How many of the predictions are the right classes."""
    with (shell.folder / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 660
    return sum(row["class"] == names[truth[int(Path(row["file"]).stem)]] for row in rows)


def test_the_page_works_to_the_letter(shell: Shell) -> None:
    completed([sys.executable, "-c", CODE[0]], cwd=shell.folder, check=True)
    truth, names = load_digits().target.tolist(), [f"digit {digit}" for digit in range(10)]
    first, predict, without, labels, photos = commands()
    run, asked, text = labeled(shell, first, truth, names)
    (found,) = re.findall(r"```\n(photos: .*)\n```", PAGE)
    assert found in (run / "train.log").read_text()
    assert asked == ["round_0000", "round_0001", "round_0002"]
    sheet = run / "queries" / "round_0000"
    assert len(list(sheet.glob("*.png"))) == 20
    assert sheet.with_suffix(".png").is_file()
    assert len(accuracies(text)) == 4
    assert accuracies(text)[-1] > max(accuracies(text)[0], 0.7)

    shell.said([word.replace("saved/RUN", str(run)) for word in predict])
    assert right(shell, truth, names) > 0.7 * 660

    _, asked, text = labeled(shell, without, truth, ["even", "odd"])
    assert asked == ["initial_0001", "round_0000"]
    assert "no test part" in text

    said = shell.said([word.replace("saved/RUN", str(run)) for word in labels])
    assert said.endswith("labels.csv: 300 labels\n\n")  # 40 sorted, 60 answers, 200 to test on
    run, asked, _ = labeled(shell, photos, truth, names)
    assert asked == ["round_0000"]
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert row["labels"] == 100

    lines = [line for line in CODE[1].splitlines() if line]
    shown = shell.said(["python", "; ".join(lines)])
    assert "waiting for asked/round_0000.csv\n" in shown
    assert (shell.folder / "asked" / "round_0000.csv").is_file()


def test_the_same_with_photos(shell: Shell) -> None:
    archive = Path(os.environ.get("DAL_DATA_DIR", "")) / "CIFAR10_subset" / "cifar10_15k.npz"
    if not archive.is_file():
        pytest.skip("CIFAR10_subset/cifar10_15k.npz is not in DAL_DATA_DIR")
    with np.load(archive) as arrays:
        images, truth = arrays["train_images"][:900], arrays["train_labels"][:900].tolist()
        names = [str(name) for name in arrays["class_names"]]
    for number, (image, label) in enumerate(zip(images, truth, strict=True)):
        part = "unlabeled" if number >= 240 else "test" if number >= 40 else "train"
        place = Path(part) if part == "unlabeled" else Path(part, names[label])
        path = shell.folder / "photos" / place / f"{number:04d}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    first, predict, *_ = commands()
    run, asked, text = labeled(shell, first, truth, names)
    assert asked == ["round_0000", "round_0001", "round_0002"]
    assert len(accuracies(text)) == 4
    assert max(accuracies(text)) > 0.12  # ten classes, 100 labels, LeNet-5
    shell.said([word.replace("saved/RUN", str(run)) for word in predict])
    assert right(shell, truth, names) > 0.12 * 660
