"""The labels that a run knows, given to another run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import dal
from dal.cli import labels
from dal.cli.config import compose
from dal.runs.from_config import execute
from dal.runs.labels import known_labels

ROOT = Path(__file__).parents[2]
SHORT = ["max_rounds=1", "query_size=5", "budget=5", "figures=false", "trainer.epochs=2"]


def ran(folder: Path, *overrides: str) -> dal.Result:
    config: Any = OmegaConf.to_container(compose(ROOT / "conf", [*SHORT, *overrides]), resolve=True)
    return execute(config, folder)


def test_every_label_once_with_its_part(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = ran(run, "data=iris", "model=mlp", "strategy=entropy", "split.validation=10")
    title, rows = known_labels(run)
    source, pool = result.job.source, result.job.pool
    assert title == "index"
    known = {"train": pool.train_set().indices, "validation": None, "test": None}
    for split, indices in known.items():
        part = getattr(source, split)
        chosen = torch.arange(len(part)) if indices is None else indices.sort().values
        expected = [
            (position, source.class_names[target])
            for position, target in zip(
                part.positions[chosen].tolist(), part.targets[chosen].tolist(), strict=True
            )
        ]
        assert [(row[0], row[1]) for row in rows if row[2] == split] == expected
    assert len({row[0] for row in rows}) == len(rows) == 25 + 10 + len(source.test or ())
    assert {row[3] for row in rows if row[2] == "train"} == {0}


def test_what_holds_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["dal labels", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        labels.main()
    assert end.value.code == f"error: {tmp_path} holds no run; give the directory of one"


def test_the_command_writes_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path / "run", "data=iris", "model=mlp", "strategy=entropy")
    out = tmp_path / "new" / "labels.csv"
    monkeypatch.setattr("sys.argv", ["dal labels", str(tmp_path / "run"), "--out", str(out)])
    labels.main()
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "label", "split", "round", "annotator"]
    assert capsys.readouterr().out.endswith(f"{out}: {len(rows)} labels\n")


def test_what_several_people_agree_on_and_no_label_that_nobody_gave(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("data=iris", "model=mlp", "strategy=entropy", "oracle=files", "consensus=majority")
    ran(run, *options)
    path = run / "queries" / "round_0000.csv"
    with path.open(newline="", encoding="utf-8-sig") as file:
        one, two, three, four, five = (int(row["index"]) for row in csv.DictReader(file))
    said = [
        (one, "setosa", "eva"), (one, "versicolor", "max"), (one, "setosa", "tom"),
        (two, "?", "eva"), (two, "virginica", "max"), (three, "-", "eva"), (four, "?", "eva"),
        (five, "setosa", "eva"), (five, "-", "max"),
    ]  # fmt: skip
    lines = [f"{index},{label},{name}" for index, label, name in said]
    path.write_text("\n".join(["index,label,annotator", *lines, ""]))
    assert ran(run, *options).status == "complete"
    _, rows = known_labels(run)
    found = {row[0]: (row[1], row[4]) for row in rows if row[2] == "train" and row[4]}
    # Of a tie the answer that came last counts: none of the classes.
    assert found == {one: ("setosa", "tom"), two: ("virginica", "max")}
