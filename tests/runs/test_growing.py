"""Runs whose data grow: samples that are added become candidates, and nothing else changes."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import growing_data
import pytest
from omegaconf import OmegaConf

import dal
from dal.cli.config import compose
from dal.lockstep.replicas import run_together
from dal.runs.from_config import execute
from dal.runs.replay import Replay
from dal.settings import PlannedRun

CONF = Path(__file__).parents[2] / "conf"


def config(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    composed = compose(
        CONF,
        [
            "data=iris",
            "model=mlp",
            "strategy=instability",
            "initial.count=6",
            "query_size=4",
            "trainer.epochs=3",
            "figures=false",
            "batch_size=64",
            "threads=1",
            "plugins=[growing_data]",
            *overrides,
        ],
    )
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    own = {"_target_": "growing_data.table", "path": str(tmp_path / "data.csv")}
    return {**plain, "data": own}


def go(tmp_path: Path, *overrides: str, run: str = "run") -> dal.Result:
    return execute(config(tmp_path, *overrides), tmp_path / run)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    growing_data.write(path, range(90))
    return path


def rows(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if not k.endswith("_s")} for li in lines]


def queries(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "queries.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def added(run_dir: Path) -> list[str]:
    """The contents of the picks that came after the run had begun."""
    return [row["content"] for row in queries(run_dir) if row["content"].startswith("late")]


def test_samples_that_are_added_become_candidates(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = go(tmp_path, "budget=8")
    before, start = queries(tmp_path / "run"), (tmp_path / "run" / "start.json").read_bytes()
    growing_data.write(data, range(200, 212), "late")
    second = go(tmp_path, "budget=30")
    assert "12 new samples are candidates now" in caplog.messages
    assert queries(tmp_path / "run")[:8] == before
    assert (tmp_path / "run" / "start.json").read_bytes() == start
    assert [row.get("appended") for row in rows(tmp_path / "run")] == [None] * 2 + [12] * 7
    assert second.job.pool.num_total == first.job.pool.num_total + 12
    assert added(tmp_path / "run")
    # Those of the beginning keep their numbers; the others stand behind all.
    numbers = {row["content"]: int(row["sample"]) for row in queries(tmp_path / "run")}
    assert all(numbers[name] == 90 + int(name[4:]) - 200 for name in added(tmp_path / "run"))
    assert all(n == int(name[1:]) for name, n in numbers.items() if name.startswith("s"))
    caplog.clear()
    go(tmp_path, "budget=34")
    assert "new sample" not in caplog.text
    growing_data.write(data, [300], "late")
    third = go(tmp_path, "budget=38")
    assert "1 new sample is a candidate now" in caplog.messages
    assert third.rows[-1]["appended"] == 13


@pytest.mark.parametrize("keep", ["keep_history=false", "keep_history=true"])
def test_a_grown_run_goes_on_exactly(data: Path, tmp_path: Path, keep: str) -> None:
    for run in ("whole", "parts"):
        go(tmp_path, "budget=8", keep, run=run)
    growing_data.write(data, range(200, 212), "late")
    for budget in (12, 16, 20, 28):
        go(tmp_path, f"budget={budget}", keep, run="parts")
    go(tmp_path, "budget=28", keep, run="whole")
    assert rows(tmp_path / "whole")[2:] == rows(tmp_path / "parts")[2:]
    assert queries(tmp_path / "whole") == queries(tmp_path / "parts")
    history = dal.query.PredictionHistory.read(tmp_path / "whole" / "history")
    assert history.shape == (63 + 12, 3)


def test_a_label_that_changed_after_the_run_had_begun_changes_nothing(
    data: Path, tmp_path: Path
) -> None:
    whole = go(tmp_path, "budget=20", run="whole")
    go(tmp_path, "budget=8")
    text = data.read_text()
    data.write_text("\n".join(line.replace(",a,", ",b,") for line in text.split("\n")))
    result = go(tmp_path, "budget=20")
    assert result.job.pool.events() == whole.job.pool.events()
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_only_so_many_candidates_and_those_that_were_added(data: Path, tmp_path: Path) -> None:
    first = go(tmp_path, "budget=4", "candidates=20").job
    growing_data.write(data, range(200, 205), "late")
    job = go(tmp_path, "budget=8", "candidates=20").job
    among = set(first.candidates.tolist())
    left = {index for index in job.candidates.tolist() if index < 63}
    late = [index for _, index, _, _ in job.pool.queries() if index >= 63]
    assert left < among
    assert len(job.candidates) == 20 + 5 - 8
    assert len(job.candidates) - len(left) == 5 - len(late)


def test_an_open_question_is_answered_as_it_was_asked(data: Path, tmp_path: Path) -> None:
    options = "oracle=files", "budget=8"
    go(tmp_path, *options)
    growing_data.write(data, range(200, 212), "late", labels=False)
    path = tmp_path / "run" / "queries" / "round_0000.csv"
    asked = path.read_text()
    header, *lines = asked.splitlines()
    go(tmp_path, *options)
    assert path.read_text() == asked
    path.write_text("\n".join([header, *(f"{line}a" for line in lines)]))
    result = go(tmp_path, *options)
    assert result.rows[-1]["appended"] == 12
    assert [target for *_, target in result.job.pool.queries()] == [0] * 4


def test_replicas_that_share_their_data_grow_together(data: Path, tmp_path: Path) -> None:
    def together(*overrides: str) -> list[BaseException | None]:
        return run_together(
            [
                PlannedRun(strategy, config(tmp_path, *overrides, f"strategy={strategy}"), folder)
                for strategy, folder in (("margin", tmp_path / "m"), ("entropy", tmp_path / "e"))
            ],
            "true",
        )

    assert together("budget=8") == [None, None]
    growing_data.write(data, range(200, 212), "late")
    # One that has been told already, and one that has not.
    go(tmp_path, "strategy=margin", "budget=12", run="m")
    assert together("budget=16") == [None, None]
    for folder in ("m", "e"):
        assert rows(tmp_path / folder)[-1]["appended"] == 12
        assert len(queries(tmp_path / folder)) == 16


def test_a_replay_shows_each_round_the_candidates_that_there_were(
    data: Path, tmp_path: Path
) -> None:
    go(tmp_path, "budget=8", "keep_models=true")
    growing_data.write(data, range(200, 212), "late")
    go(tmp_path, "budget=20", "keep_models=true")
    sizes = []
    for replayed in Replay(tmp_path / "run", plugins=["growing_data"]).rounds():
        assert replayed.confirmed == replayed.size
        scores = replayed.query.pool_scores
        sizes.append(None if scores is None else len(scores))
    assert sizes[1:] == [53, 49 + 12, 45 + 12, 41 + 12]


def test_without_its_listing_a_grown_run_is_refused_as_other_data(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go(tmp_path, "budget=4")
    listing = tmp_path / "run" / "samples.pt"
    listing.write_bytes(listing.read_bytes()[:-7])
    assert go(tmp_path, "budget=8").status == "complete"
    assert "samples.pt is damaged" in caplog.text
    growing_data.write(data, range(200, 212), "late")
    listing.unlink()
    with pytest.raises(ValueError, match="the data of growing have changed since this run began"):
        go(tmp_path, "budget=12")


def test_the_listing_of_another_run_is_told_as_a_cause(data: Path, tmp_path: Path) -> None:
    go(tmp_path, "budget=4")
    listing = tmp_path / "run" / "samples.pt"
    own = listing.read_bytes()
    growing_data.write(data, range(200, 212), "late")
    go(tmp_path, "budget=4", run="other")
    listing.write_bytes((tmp_path / "other" / "samples.pt").read_bytes())
    told = r"have changed .*restore them \(or samples\.pt, .*another"
    with pytest.raises(ValueError, match=told):
        go(tmp_path, "budget=8")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match=told):
        go(tmp_path, "budget=8")
    listing.write_bytes(own)
    assert go(tmp_path, "budget=8").status == "complete"


def test_a_folder_in_place_of_the_listing(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "samples.pt").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"samples\.pt is no regular file; put back"):
        go(tmp_path, "budget=4")


def test_data_that_are_refused_leave_the_listing_as_it_was(data: Path, tmp_path: Path) -> None:
    go(tmp_path, "budget=4")
    listing, text = tmp_path / "run" / "samples.pt", data.read_text()
    before = listing.read_bytes()
    growing_data.write(data, range(200, 212), "late")
    data.write_text(data.read_text().replace("0.", "1."))
    with pytest.raises(ValueError, match="the data of growing have changed since this run began"):
        go(tmp_path, "budget=8")
    assert listing.read_bytes() == before
    data.write_text(text)
    assert go(tmp_path, "budget=8").status == "complete"


def test_the_listing_is_written_only_when_it_changes(data: Path, tmp_path: Path) -> None:
    go(tmp_path, "budget=4")
    listing = tmp_path / "run" / "samples.pt"
    before = listing.stat().st_mtime_ns
    go(tmp_path, "budget=8")
    assert listing.stat().st_mtime_ns == before
    growing_data.write(data, [200], "late")
    go(tmp_path, "budget=12")
    assert listing.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["difficulty=[noisy]"], "difficulty=noisy with 12 samples that were added"),
        (["oracle=simulated"], "training samples without label: 12"),
    ],
)
def test_what_cannot_grow_is_refused_by_name(
    data: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    go(tmp_path, "budget=4", *options)
    growing_data.write(data, range(200, 212), "late", labels=False)
    with pytest.raises(ValueError, match=reason):
        go(tmp_path, "budget=8", *options)
