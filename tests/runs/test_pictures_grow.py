"""Runs on pictures of one's own whose folder changes between two rounds."""

from __future__ import annotations

import csv
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from dal.cli.config import compose
from dal.runs.from_config import execute
from dal.runs.loop import Result

CONF = Path(__file__).parents[2] / "conf"


def draw(path: Path, bright: bool, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 100, (8, 8)) + 100 * bright
    Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(40):
        draw(tmp_path / "photos" / ("day" if number % 2 else "night") / f"{number:02}.png",
             number % 2 == 1, number)  # fmt: skip
    return tmp_path / "photos"


def run(tmp_path: Path, *overrides: str) -> Result:
    config = compose(
        CONF,
        [
            "data=image_folder", f"data.path={tmp_path / 'photos'}", "data.workers=1",
            f"data.cache_dir={tmp_path / 'cache'}", "model=logistic_regression", "trainer=lbfgs",
            "strategy=margin", "initial.count=6", "query_size=5", f"saved_dir={tmp_path}",
            "figures=false", *overrides,
        ],
    )  # fmt: skip
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return execute(plain, tmp_path / "run")


def test_a_run_goes_on_whatever_has_become_of_its_files(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = run(tmp_path, "budget=5")
    assert len(first.rows) == 2
    for number in range(40, 46):
        draw(photos / ("day" if number % 2 else "night") / f"{number}.png", number % 2 == 1, number)
    draw(photos / "day" / "01.png", True, 99)
    (photos / "day" / "03.png").unlink()
    shutil.move(photos / "night" / "00.png", photos / "night" / "moved.png")
    caplog.clear()
    second = run(tmp_path, "budget=1000")
    losses = [[row["test/loss"] for row in result.rows[:2]] for result in (first, second)]
    assert losses[0] == losses[1]
    for told in (
        "46 pictures in 2 classes",
        "1 picture with other content than before (day/01.png)",
        "1 picture gone or damaged now (day/03.png)",
        "1 picture with another path (night/00.png is night/moved.png)",
        "6 new samples are candidates now",
    ):
        assert told in caplog.text
    with (tmp_path / "run" / "queries.csv").open(newline="") as stream:
        asked = {row["content"]: int(row["sample"]) for row in csv.DictReader(stream)}
    for number in range(40, 46):  # the new ones stand behind all that there were
        assert asked[f"{'day' if number % 2 else 'night'}/{number}.png"] in range(40, 46)
    assert second.rows[-1]["labels"] == 28 + 6  # all but the test part's 12


def test_a_run_goes_on_to_the_same_bits_from_another_cache_and_lazily(
    tmp_path: Path, photos: Path
) -> None:
    run(tmp_path, "budget=5")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    whole = run(tmp_path, "budget=10")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "copy", tmp_path / "run")
    shutil.rmtree(tmp_path / "cache")
    again = run(tmp_path, "budget=10", "data.lazy=true")
    one, two = (
        [{name: value for name, value in row.items() if name[-2:] != "_s"} for row in result.rows]
        for result in (whole, again)
    )
    assert one == two
