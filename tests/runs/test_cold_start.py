"""Runs that begin without any label: people are asked first."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from resume_job import give_answers, run_cold, run_cold_and_die
from test_resume import assert_same, finish

import dal
from dal.cli.config import compose
from dal.data import Dataset, make_source
from dal.data.initial import ColdStart, cold_start
from dal.data.source import UNKNOWN
from dal.lockstep.replicas import run_together
from dal.models import MLP
from dal.oracles import FilesOracle
from dal.query import Margin, Random
from dal.runs.from_config import execute
from dal.runs.replay import Replay
from dal.settings import PlannedRun
from dal.training.trainer import Trainer

CONF = Path(__file__).parents[2] / "conf"
NAMES = ("a", "b", "c")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()[1:]]


def asked(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "queries").glob("*.csv"))


def to_the_end(run_dir: Path, **options: Any) -> dal.Result:
    for _ in range(30):
        result = run_cold(run_dir, **options)
        if result.status == "complete":
            return result
        assert give_answers(run_dir) > 0
    raise AssertionError("the run does not end")


def test_people_are_asked_about_random_samples_before_anything_is_fitted(tmp_path: Path) -> None:
    waiting = run_cold(tmp_path)
    assert (waiting.status, waiting.reason, waiting.rows) == ("waiting", "answers", [])
    (name,) = asked(tmp_path)
    assert name == "initial_0001.csv"
    found = rows(tmp_path / "queries" / name)
    assert list(found[0]) == ["index", "label"]
    assert len(found) == 6
    assert not (tmp_path / "model.pt").exists()
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["status"], status["reason"], status["labels"]) == ("waiting", "answers", 0)


def test_answers_are_paid_and_no_part_of_the_budget(tmp_path: Path) -> None:
    result = to_the_end(tmp_path)
    assert result.reason == "budget"
    assert result.rows[0]["labels"] == 6
    assert [row["queried"] for row in result.rows] == [0, 4, 8]
    first = [event for event in events(tmp_path) if event["origin"] == "initial"]
    assert [(e["round"], e["annotator"], e["score"]) for e in first] == [(-1, "files", None)] * 6
    truly = [None if e["index"] % 7 == 0 else e["index"] % 3 for e in first]
    assert [None if e["abstained"] else e["target"] for e in first] == truly
    assert {line.split(",")[0] for line in (tmp_path / "queries.csv").read_text().split()[1:]} == {
        "0",
        "1",
    }


def test_a_run_ends_the_same_wherever_it_is_killed(tmp_path: Path) -> None:
    to_the_end(tmp_path / "whole")
    run_dir, deaths = tmp_path / "killed", 0
    for seed in range(200):
        code = finish(run_cold_and_die, run_dir, seed)
        assert code in (0, -signal.SIGKILL)
        deaths += code != 0
        if code == 0 and give_answers(run_dir) == 0:
            break
    assert deaths >= 3
    assert_same(run_dir, tmp_path / "whole")
    assert events(run_dir) == events(tmp_path / "whole")


@pytest.mark.parametrize("answered", [1, 2])
def test_lost_checkpoints_cost_no_answer_and_ask_nothing_anew(
    tmp_path: Path, answered: int
) -> None:
    for name in ("whole", "run"):
        for number in range(answered):
            run_cold(tmp_path / name, count=3)
            # Nobody can label the first ones, so that others are asked about.
            give_answers(tmp_path / name, lambda index, number=number: number == 0)
        run_cold(tmp_path / name, count=3)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run" / "queries").glob("*.csv")}
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert run_cold(tmp_path / "run", count=3).status == "waiting"
    after = {p.name: p.read_bytes() for p in (tmp_path / "run" / "queries").glob("*.csv")}
    assert after == before
    assert to_the_end(tmp_path / "run", count=3).status == "complete"
    to_the_end(tmp_path / "whole", count=3)
    assert events(tmp_path / "run") == events(tmp_path / "whole")


def test_where_nobody_can_tell_as_many_others_are_asked_about(tmp_path: Path) -> None:
    run_cold(tmp_path)
    give_answers(tmp_path, lambda index: True)
    assert run_cold(tmp_path).status == "waiting"
    assert asked(tmp_path) == ["initial_0001.csv", "initial_0002.csv"]
    first, second = (
        {row["index"] for row in rows(tmp_path / "queries" / name)} for name in asked(tmp_path)
    )
    assert len(second) == 6
    assert not first & second
    give_answers(tmp_path)
    assert [row["labels"] for row in run_cold(tmp_path).rows] == [12]


def test_where_all_were_asked_and_none_is_labeled_the_run_says_so(tmp_path: Path) -> None:
    run_cold(tmp_path, count=300)
    give_answers(tmp_path, lambda index: True)
    with pytest.raises(ValueError, match="none of the 300 samples asked about got a label"):
        run_cold(tmp_path, count=300)


def test_per_class_asks_until_every_class_has_its_labels(tmp_path: Path) -> None:
    result = to_the_end(tmp_path, per_class=4)
    first = [event for event in events(tmp_path) if event["origin"] == "initial"]
    numbers = [-event["round"] for event in first]
    assert numbers == sorted(numbers)
    assert numbers.count(1) == 12

    def enough(count: int) -> bool:
        targets = [e["target"] for e in first if not e["abstained"] and -e["round"] <= count]
        return all(targets.count(c) >= 4 for c in range(3))

    assert max(numbers) > 1
    assert enough(max(numbers))
    assert not enough(max(numbers) - 1)
    assert result.rows[0]["labels"] == len(first)


def test_per_class_gives_up_on_a_class_that_nobody_finds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(12):
        if run_cold(tmp_path, per_class=2).rows:
            break
        give_answers(tmp_path, lambda index: index % 3 == 2)
    assert len([e for e in events(tmp_path) if e["origin"] == "initial"]) == 10 * 2 * 3
    assert "after 60 answers there are still fewer than 2 labels of 'c' (0)" in caplog.text


def test_only_one_class_in_the_answers_is_enough_to_train(tmp_path: Path) -> None:
    run_cold(tmp_path)
    give_answers(tmp_path, lambda index: index % 3 != 1)
    assert run_cold(tmp_path).rows[0]["labels"] == 6


def test_some_samples_given_by_hand_are_asked_about_and_the_others_known(tmp_path: Path) -> None:
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40) % 3
    targets[10:] = UNKNOWN
    source = make_source(Dataset("d", inputs, targets, NAMES), seed=0, kind="none")
    result = dal.run(
        source,
        MLP,
        Margin(),
        initial=[0, 30, 1, 20],
        trainer=Trainer(epochs=1),
        oracle=FilesOracle(tmp_path, NAMES),
        settings=dal.Settings(budget=4, query_size=2),
    )
    assert result.status == "waiting"
    assert [row["index"] for row in rows(tmp_path / "initial_0001.csv")] == ["30", "20"]
    assert result.job.pool.labels == 2


def test_the_simulated_oracle_cannot_answer_without_labels() -> None:
    data = Dataset("d", torch.randn(20, 3), torch.full((20,), UNKNOWN), NAMES)
    with pytest.raises(ValueError, match=r"a simulated oracle cannot answer.*use oracle=files"):
        dal.run(make_source(data, seed=0), MLP, Margin(), initial=[1, 2])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"fraction": 0.1}, "initial.fraction=0.1 goes by known labels.*initial=random"),
        ({"count": 5, "stratified": True}, "initial.stratified=true goes by known labels"),
        ({"count": 21}, "initial.count=21 but there are 20 samples; lower it"),
        ({}, "give exactly one"),
    ],
)
def test_what_a_cold_start_cannot_go_by_is_refused(settings: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cold_start(20, 3, seed=0, **settings)


def test_a_smaller_cold_start_is_a_part_of_a_larger_one() -> None:
    few, many = (set(cold_start(50, 3, seed=4, count=n).indices.tolist()) for n in (5, 20))
    assert few < many
    assert isinstance(cold_start(50, 3, seed=4, per_class=30), ColdStart)
    assert len(cold_start(50, 3, seed=4, per_class=30).indices) == 50


def config(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """Features of one's own without any label, in an archive; no test part can be drawn."""
    inputs = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    np.savez(tmp_path / "own.npz", inputs=inputs, labels=np.full(60, -1), class_names=NAMES)
    composed = compose(
        CONF,
        [
            "data=npz",
            f"data.path={tmp_path / 'own.npz'}",
            "model=mlp",
            "strategy=instability",
            "oracle=files",
            "query_size=4",
            "budget=8",
            "initial.count=5",
            "trainer.epochs=2",
            "figures=false",
            "keep_models=true",
            *overrides,
        ],
    )
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    return plain


def test_from_the_command_to_a_replay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run_dir = tmp_path / "run"
    for _ in range(3):
        result = execute(config(tmp_path), run_dir)
        give_answers(run_dir)
        assert result.status == "waiting"
    result = execute(config(tmp_path), run_dir)
    assert result.status == "complete"
    assert result.job.source.test is None
    assert "no label is known, so none can be tested on" in caplog.text
    assert "how good these models are on new samples is not known" in caplog.text
    assert "fill in" in caplog.text
    assert not any(key.startswith("test/") for key in result.rows[0])
    assert [row["labels"] for row in result.rows] == [5, 9, 13]
    replayed = list(Replay(run_dir).rounds())
    assert [(r.number, r.size, r.confirmed) for r in replayed] == [(0, 4, 4), (1, 4, 4)]


def test_all_known_labels_are_taken_and_missed_where_there_are_none(tmp_path: Path) -> None:
    composed: Any = OmegaConf.to_container(
        compose(CONF, ["data=iris", "model=mlp", "initial=all", "trainer.epochs=1"]), resolve=True
    )
    result = execute(composed, tmp_path / "iris")
    assert result.reason == "pool_exhausted"
    assert result.rows[0]["trained_on"] == len(result.job.source.train) == 105
    own = config(tmp_path)
    with pytest.raises(ValueError, match="goes by known labels, and no training sample has one"):
        execute({**own, "initial": composed["initial"]}, tmp_path / "none")


def test_several_labels_a_sample_are_asked_for_until_each_has_some(tmp_path: Path) -> None:
    inputs = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    source = make_source(Dataset("d", inputs, torch.full((60, 3), UNKNOWN), NAMES), seed=0)
    for _ in range(20):
        result = dal.run(
            source,
            MLP,
            Random(),
            initial=cold_start(60, 3, seed=0, per_class=2),
            trainer=Trainer(epochs=1),
            oracle=FilesOracle(tmp_path / "queries", NAMES, multilabel=True),
            settings=dal.Settings(budget=2, query_size=2, figures=False),
            run_dir=tmp_path,
        )
        if result.rows:
            break
        for path in (tmp_path / "queries").glob("*.csv"):
            indices = [int(row["index"]) for row in rows(path)]
            lines = [f"{i},{'a;b' if i % 4 else 'c' if i % 8 else '-'}" for i in indices]
            path.write_text("\n".join(["index,label", *lines]))
    counts = result.job.task.class_counts(result.job.pool.train_set().targets)
    assert counts.min() >= 2
    assert 6 <= result.rows[0]["labels"] <= 60


def test_runs_that_share_their_process_ask_each_for_itself(tmp_path: Path) -> None:
    runs = [
        PlannedRun(str(seed), config(tmp_path, f"seed={seed}"), tmp_path / f"run{seed}")
        for seed in (0, 1)
    ]
    for count in (1, 2, 3):
        assert run_together(runs, "true") == [None, None]
        for run in runs:
            assert len(asked(run.run_dir)) == count
            assert give_answers(run.run_dir) == (5 if count == 1 else 4)
    assert run_together(runs, "true") == [None, None]
    first = [rows(run.run_dir / "queries" / "initial_0001.csv") for run in runs]
    assert first[0] != first[1]
    for run in runs:
        assert json.loads((run.run_dir / "status.json").read_text())["status"] == "complete"
