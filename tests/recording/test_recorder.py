"""What a run writes for people to read."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch

import dal
from dal.data import Dataset, Source, initial_labels, make_source
from dal.models import MLP
from dal.pool import Pool
from dal.query import Random
from dal.recording.recorder import Recorder
from dal.recording.run_directory import RunDirectory, read_status
from dal.reporting.records import RunError, read_run
from dal.state import State
from dal.training.trainer import Trainer

NAMES = ("katze, groß", 'the "other" one', "c")
INPUTS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
SOURCE = make_source(Dataset("numbers", INPUTS, torch.arange(60) % 3, NAMES), seed=0)


def test_queries_with_commas_and_quotes_in_class_names_keep_their_columns(tmp_path: Path) -> None:
    folder = tmp_path / "numbers-mlp-random-s0-00000000"
    dal.run(
        SOURCE,
        MLP,
        Random(),
        initial=initial_labels(SOURCE.train.targets, seed=0, count=9),
        trainer=Trainer(epochs=1),
        settings=dal.Settings(budget=12, query_size=12, threads=1, figures=False),
        run_dir=folder,
        config={"seed": 0},
    )
    with (folder / "queries.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    targets = SOURCE.train.targets[[int(row["index"]) for row in rows]].tolist()
    assert [row["label"] for row in rows] == [NAMES[target] for target in targets]
    assert {0, 1} <= {*targets}
    positions = SOURCE.train.original(torch.tensor([int(row["index"]) for row in rows]))
    assert [int(row["sample"]) for row in rows] == positions
    counted = Counter(NAMES[target].replace(" ", "_") for target in targets)
    assert read_run(folder).rounds[0].picks == counted


def test_queries_list_corrections_without_a_score(tmp_path: Path) -> None:
    pool = Pool(len(SOURCE.train))
    index, score = torch.tensor([3]), torch.tensor([0.25], dtype=torch.float64)
    pool.label(0, index, torch.tensor([1]), origin="oracle", score=score)
    pool.label(1, index, torch.tensor([2]), origin="oracle", again=True)
    with RunDirectory(tmp_path) as directory, Recorder(directory, SOURCE, None) as recorder:
        recorder.start(State(), pool, {}, torch.device("cpu"), False, {})
        recorder.rewrite(State(), pool)
    with (tmp_path / "queries.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [(row["score"], row["label"]) for row in rows] == [("0.25", NAMES[1]), ("", NAMES[2])]
    assert read_status(tmp_path)["labels"] == 2


@pytest.mark.parametrize("line", ["0,1,0.5,katze, groß,7", '0,1,0.5,"katze,7'])
def test_queries_that_were_not_quoted_are_refused(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "numbers-mlp-random-s0-00000000"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\n")
    row = '{"round": 0, "labels": 9, "queried": 0, "test/accuracy": 0.5, "query/size": 1}\n'
    (folder / "metrics.jsonl").write_text(row)
    text = f"round,index,score,label,sample\n{line}\n"
    (folder / "queries.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"queries\.csv is damaged"):
        read_run(folder)


def run_of(source: Source, folder: Path) -> list[dict[str, str]]:
    dal.run(
        source,
        MLP,
        Random(),
        initial=initial_labels(source.train.targets, seed=0, count=9),
        trainer=Trainer(epochs=1),
        settings=dal.Settings(budget=4, query_size=4, threads=1, figures=False),
        run_dir=folder,
        config={"seed": 0},
    )
    with (folder / "queries.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def test_queries_say_what_a_sample_is_in_words_where_the_data_do(tmp_path: Path) -> None:
    named = "numbers-mlp-random-s0-0000000"
    contents = [f'a "text", {n}\nof two lines' for n in range(60)]
    data = Dataset("numbers", INPUTS, torch.arange(60) % 3, NAMES, contents=contents)
    plain = run_of(SOURCE, tmp_path / f"{named}1")
    told = run_of(make_source(data, seed=0), tmp_path / f"{named}2")
    assert list(plain[0]) == ["round", "index", "score", "label", "sample"]
    assert [row.pop("content") for row in told] == [contents[int(row["sample"])] for row in plain]
    assert told == plain
    found, expected = (read_run(tmp_path / f"{named}{n}").rounds[0].picks for n in (2, 1))
    assert found == expected


def test_a_run_goes_on_where_a_version_before_wrote_no_contents(tmp_path: Path) -> None:
    data = Dataset("n", INPUTS, torch.arange(60) % 3, NAMES, contents=list(map(str, range(60))))
    source = make_source(data, seed=0)
    whole = run_of(source, tmp_path)
    path = tmp_path / "queries.csv"
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()))
    assert run_of(source, tmp_path) == whole
