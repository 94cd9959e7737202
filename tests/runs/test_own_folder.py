"""Runs on a folder of pictures that grows, and whose files are moved, as people do."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

import dal
from dal.cli.config import compose
from dal.runs.from_config import execute

CONF = Path(__file__).parents[2] / "conf"
CLASSES = ("cat", "dog")


def picture(path: Path, number: int, label: int) -> None:
    """A picture of its own, bright for dogs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 120, (12, 12, 3)) + 100 * label
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty labeled pictures, and twenty that are not."""
    folder = tmp_path / "photos"
    for number in range(20):
        picture(folder / CLASSES[number % 2] / f"{number:03}.png", number, number % 2)
        picture(folder / "unlabeled" / f"{number + 100:03}.png", number + 100, number % 2)
    return folder


def go(tmp_path: Path, *overrides: str, run: str = "run") -> dal.Result:
    options = [
        "data=image_folder",
        f"data.path={tmp_path / 'photos'}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "data.workers=0",
        "model=mlp",
        "strategy=instability",
        "oracle=files",
        "initial.count=6",
        "query_size=4",
        "budget=12",
        "trainer.epochs=2",
        "batch_size=64",
        "threads=1",
        *overrides,
    ]
    plain: Any = OmegaConf.to_container(compose(CONF, options), resolve=True)
    return execute(plain, tmp_path / run)


def answer(tmp_path: Path, run: str = "run") -> list[str]:
    """Answer the open question by the number in the name; gives the files that were asked about."""
    for path in sorted((tmp_path / run / "queries").glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if not rows[0]["label"]:
            break
    for row in rows:
        row["label"] = CLASSES[int(Path(row["content"]).stem) % 2]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return [row["content"] for row in rows]


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if not k.endswith("_s")} for li in lines]


def test_files_that_come_later_are_candidates(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    go(tmp_path, "figures=true")
    asked = answer(tmp_path)
    for number in range(12):
        picture(photos / "unlabeled" / f"new_{number}" / f"{number + 200}.png", number + 200, 0)
    result = go(tmp_path)
    assert "12 new samples are candidates now" in caplog.messages
    assert result.job.source.appended == 12
    for _ in range(2):
        asked += answer(tmp_path)
        result = go(tmp_path)
    assert result.status == "complete"
    with (tmp_path / "run" / "queries.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["content"] for row in found] == asked
    assert [row["label"] for row in found] == [CLASSES[int(Path(n).stem) % 2] for n in asked]
    assert [row.get("appended") for row in rows_of(tmp_path / "run")] == [None, 12, 12, 12]


def test_files_that_are_moved_into_the_folder_of_a_class_change_nothing(
    photos: Path, tmp_path: Path
) -> None:
    for run in ("whole", "run"):
        go(tmp_path, run=run)
        asked = answer(tmp_path, run)
    moved = [photos / name for name in asked]
    for path in moved:  # as people do who sort what they have labeled
        shutil.move(path, photos / CLASSES[int(path.stem) % 2] / path.name)
    shutil.move(photos / "cat" / "000.png", photos / "dog" / "000.png")
    after = go(tmp_path)
    assert after.job.source.appended == 0
    for path in moved:
        shutil.move(photos / CLASSES[int(path.stem) % 2] / path.name, path)
    shutil.move(photos / "dog" / "000.png", photos / "cat" / "000.png")
    whole = go(tmp_path, run="whole")
    assert after.job.pool.events() == whole.job.pool.events()
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_a_folder_without_any_label_is_asked_about_first(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "photos" / f"{number:03}.png", number, number % 2)
    options = "data.class_names=[cat,dog]", "initial.count=5"
    assert go(tmp_path, *options).rows == []
    assert (tmp_path / "run" / "queries" / "initial_0001.csv").exists()
    assert len(answer(tmp_path)) == 5
    # While people answered, more came.
    picture(tmp_path / "photos" / "999.png", 999, 1)
    assert go(tmp_path, *options).status == "waiting"
    for _ in range(3):
        answer(tmp_path)
        result = go(tmp_path, *options)
    assert result.status == "complete"
    assert [row["labels"] for row in result.rows] == [5, 9, 13, 17]
    assert result.rows[0]["appended"] == 1
    assert result.job.source.test is None


def test_official_parts_of_a_folder(tmp_path: Path) -> None:
    for number in range(24):
        part = ("train", "validation", "test")[number % 3]
        folder = tmp_path / "photos" / part / CLASSES[number // 3 % 2]
        picture(folder / f"{number:03}.png", number, number // 3 % 2)
    result = go(
        tmp_path,
        "oracle=simulated",
        "initial.count=2",
        "budget=4",
        "trainer.early_stopping.monitor=val/loss",
    )
    assert result.job.source.sizes == {"train": 8, "validation": 8, "test": 8}
    assert "val/accuracy" in result.rows[0]
    assert result.rows[0]["validation_labels"] == 8
