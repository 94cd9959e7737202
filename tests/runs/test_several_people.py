"""Runs that several simulated people answer, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from run_parts import INITIAL, SOURCE

import dal
from dal.consensus import CONSENSUS, Votes
from dal.models import MLP
from dal.oracles import Abstaining, Costly, Noisy, Oracle, Several, SimulatedOracle
from dal.query import Entropy, Random, Strategy
from dal.training.trainer import Trainer

TARGETS, NAMES = SOURCE.train.targets, SOURCE.class_names


def crowd(each: int = 2) -> Oracle:
    people: dict[str, Oracle] = {
        "ann": Costly(Noisy(SimulatedOracle(TARGETS), NAMES, accuracy=0.95), NAMES, seconds=2.0),
        "bob": Abstaining(Noisy(SimulatedOracle(TARGETS), NAMES, accuracy=0.7), share=0.2),
        "eve": Noisy(SimulatedOracle(TARGETS), NAMES, accuracy=0.4),
    }
    return Several(people, annotators_per_sample=each)


def run(
    strategy: Strategy, oracle: Oracle | None = None, folder: Path | None = None, **options: Any
) -> dal.Result:
    settings = dal.Settings(
        **{"budget": 24, "query_size": 6, "threads": 1, "figures": False} | options
    )
    return dal.run(
        SOURCE,
        MLP,
        strategy,
        initial=INITIAL,
        trainer=Trainer(epochs=2),
        oracle=oracle or crowd(),
        settings=settings,
        run_dir=folder,
    )


def said(result: dal.Result) -> dict[tuple[int, str], tuple[Any, ...]]:
    return {
        (e["index"], e["annotator"]): (e["target"], e["abstained"], e["seconds"], e["cost"])
        for e in result.job.pool.events()
        if e["origin"] == "oracle"
    }


def test_people_say_the_same_to_all_strategies() -> None:
    by_entropy, by_chance = (said(run(one, candidates=16)) for one in (Entropy(), Random()))
    both = by_entropy.keys() & by_chance.keys()
    assert 0 < len(both) < len(by_entropy)
    assert {key: by_entropy[key] for key in both} == {key: by_chance[key] for key in both}


@pytest.mark.parametrize("rule", CONSENSUS)
def test_what_is_trained_on_is_what_the_rule_decides(rule: str) -> None:
    result = run(Random(), crowd(3), consensus=rule)
    events = [e for e in result.job.pool.events() if e["origin"] == "oracle"]
    who = {"ann": 0, "bob": 1, "eve": 2}
    told = [(e["index"], who[e["annotator"]], e["target"]) for e in events if not e["abstained"]]
    decided = CONSENSUS[rule](Votes(*torch.tensor(told).unbind(1)))
    labels = result.job.pool.train_set()
    learned = dict(zip(labels.indices.tolist(), labels.targets.tolist(), strict=True))
    expected = zip(decided.samples.tolist(), decided.targets.tolist(), strict=True)
    assert {index: learned[index] for index in decided.samples.tolist()} == dict(expected)


def test_one_answer_a_sample_is_the_same_run_by_every_rule() -> None:
    oracle = Noisy(SimulatedOracle(TARGETS), NAMES, accuracy=0.7)
    runs = [run(Entropy(), oracle, consensus=rule) for rule in CONSENSUS]
    rows = [
        [{k: v for k, v in row.items() if not k.endswith("_s")} for row in one.rows] for one in runs
    ]
    assert rows[0] == rows[1] == rows[2]


def test_a_run_goes_on_with_the_same_people(tmp_path: Path) -> None:
    whole = run(Entropy(), folder=tmp_path / "whole")
    run(Entropy(), folder=tmp_path / "parts", budget=12)
    parts = run(Entropy(), folder=tmp_path / "parts")
    assert parts.job.pool.events() == whole.job.pool.events()


def test_who_answered_is_kept_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-mlp-random-s0-00000000"
    result = run(Random(), crowd(3), folder=folder)
    found = json.loads((folder / "people.json").read_text())
    events = [e for e in result.job.pool.events() if e["origin"] == "oracle"]
    assert found["people"].keys() == {"ann", "bob", "eve"}
    assert found["several"] == 8
    for name, person in found["people"].items():
        mine = [e for e in events if e["annotator"] == name]
        told = [e for e in mine if not e["abstained"]]
        right = [e for e in told if e["target"] == TARGETS[e["index"]]]
        assert person["answers"] == len(mine) == 8
        assert person["abstained"] == len(mine) - len(told)
        assert (person["right"], person["known"]) == (len(right), len(told))
        assert sum(count for *_, count in person["confusion"]) == person["shared"]
    ann = found["people"]["ann"]
    assert ann["timed"] == 8
    assert ann["seconds"] == pytest.approx(
        sum(e["seconds"] for e in events if e["annotator"] == "ann")
    )


def test_of_the_plain_simulator_nothing_is_kept(tmp_path: Path) -> None:
    run(Random(), SimulatedOracle(TARGETS), folder=tmp_path / "run")
    assert not (tmp_path / "run" / "people.json").exists()
