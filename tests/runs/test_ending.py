"""Runs that stopping criteria end, and what every run records for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import dataset
from run_parts import INITIAL, SOURCE, parts
from sklearn.metrics import cohen_kappa_score

import dal
from dal import checkpoint
from dal.data import make_multilabel_classification, make_source
from dal.learners import RoundContext
from dal.models import MLP
from dal.models.estimators import random_forest
from dal.query import Margin, MultilabelMargin, Random, Strategy
from dal.runs.loop import Result
from dal.stopping import Criterion, Plateau, StabilizingPredictions, Target
from dal.training import Trainer

FINAL = {"stop/kappa", "stop/changed", "stop/entropy", "stop/entropy_max", "stop/expected_f1"}


def run(
    run_dir: Path | None = None,
    stopping: Mapping[str, Criterion] | None = None,
    strategy: Strategy | None = None,
    source: Any = SOURCE,
    model: Any = MLP,
    **settings: Any,
) -> Result:
    settings = {"budget": 24, "query_size": 6, "threads": 1, "figures": False} | settings
    return dal.run(
        source,
        model,
        strategy or Margin(),
        initial=INITIAL,
        trainer=Trainer(epochs=3),
        stopping=stopping,
        settings=dal.Settings(**settings),
        run_dir=run_dir,
    )


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without seconds and without what the stop set adds."""
    own = ("_s", "numerics_changed")
    return [
        {k: v for k, v in row.items() if not k.endswith(own) and k[:5] != "stop/"} for row in rows
    ]


def of_stop_set(result: Result) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k[:5] == "stop/"} for row in result.rows]


class ReadsKappa(Criterion):
    """Says stop in some round, by a column of its own."""

    metric = "stop/own"

    def __init__(self, number: int) -> None:
        self.number = number

    def measure(self, seen: Any) -> Mapping[str, float]:
        return {"stop/own": float(seen.logits.shape[0])}

    def reason(self, rows: Any, metric: str) -> str:
        assert rows[-1][metric] == 40
        return "its round" if len(rows) > self.number else ""


def test_every_run_records_them_and_nothing_else_changes() -> None:
    with_set, without = run(), run(stop_set=0)
    assert of_stop_set(without) == [{}] * 5
    assert [set(found) for found in of_stop_set(with_set)] == [
        FINAL - {"stop/kappa", "stop/changed"},
        *[FINAL] * 4,
    ]
    assert plain(with_set.rows) == plain(without.rows)
    assert with_set.job.pool.queries() == without.job.pool.queries()
    assert with_set.job.learner.fingerprint() == without.job.learner.fingerprint()


def test_kappa_is_that_of_the_models_of_two_rounds(tmp_path: Path) -> None:
    result = run(tmp_path, keep_models=True)
    job, predicted = result.job, []
    part = job.source.train.part(job.parts.stop_set)
    for number in (3, 4):
        saved = checkpoint.load(tmp_path / "models" / f"round_{number:04d}.pt")
        job.learner.load_state_dict(saved["learner"])
        predicted.append(job.learner.predict(part, RoundContext()).argmax(1).numpy())
    wanted = cohen_kappa_score(*predicted)
    assert result.rows[4]["stop/kappa"] == pytest.approx(wanted, abs=1e-12)
    assert result.rows[4]["stop/changed"] == pytest.approx((predicted[0] != predicted[1]).mean())


def test_stop_set_is_fixed_by_the_seed_alone() -> None:
    one = parts(Margin(), settings={"stop_set": 30})
    other = parts(Random(), settings={"stop_set": 30, "budget": 7})
    assert torch.equal(one.stop_set, other.stop_set)
    assert len(one.stop_set.unique()) == 30
    assert not torch.equal(
        one.stop_set, parts(Margin(), settings={"stop_set": 30, "seed": 1}).stop_set
    )
    whole = parts(Margin(), settings={"stop_set": 10**6}).stop_set
    assert torch.equal(whole, torch.arange(len(SOURCE.train)))


def test_samples_that_came_later_are_not_in_the_stop_set() -> None:
    grown = dataclasses.replace(SOURCE, appended=20)
    assert grown.begun == len(SOURCE.train) - 20
    found = parts(Margin(), grown, settings={"stop_set": 10**6}).stop_set
    assert torch.equal(found, torch.arange(grown.begun))


def test_criterion_ends_the_run_and_is_named() -> None:
    result = run(stopping={"enough": Target(0.0)})
    assert (result.status, len(result.rows)) == ("complete", 1)
    assert result.reason.startswith("enough: test/accuracy ")
    assert result.job.state.pending is None


def test_criterion_that_says_nothing_changes_nothing() -> None:
    never = run(stopping={"never": Target(2.0), "stable": StabilizingPredictions(kappa=1.0)})
    assert never.reason == "budget"
    assert plain(never.rows) == plain(run().rows)


def test_any_or_all_of_them() -> None:
    criteria = {"two": ReadsKappa(2), "three": ReadsKappa(3)}
    some = run(stopping=criteria, stop_set=40)
    assert (some.reason, len(some.rows)) == ("two: its round", 3)
    every = run(stopping=criteria, stop_set=40, stopping_when="all")
    assert (every.reason, len(every.rows)) == ("two: its round; three: its round", 4)


def test_run_that_was_ended_goes_on_without_the_criterion(tmp_path: Path) -> None:
    once = run(tmp_path / "once")
    ended = run(tmp_path / "run", {"target": Target(0.0)})
    assert (ended.status, len(ended.rows)) == ("complete", 1)
    again = run(tmp_path / "run", {"target": Target(0.0)})
    assert (again.reason, len(again.rows)) == (ended.reason, 1)
    gone_on = run(tmp_path / "run")
    assert gone_on.reason == "budget"
    assert plain(gone_on.rows) == plain(once.rows)
    assert of_stop_set(gone_on) == of_stop_set(once)


def test_model_that_predicts_no_numbers_has_no_columns() -> None:
    inputs = dataset().inputs.clone()
    inputs[:, 0] = 0
    source = make_source(dataclasses.replace(dataset(), inputs=inputs), seed=0)
    spoiled = int(parts(Random(), source, settings={"stop_set": 10}).stop_set[0])
    source.train.store.inputs[source.train.rows[spoiled]] = float("nan")
    assert spoiled not in INITIAL.tolist()
    result = run(source=source, strategy=Random(), stop_set=10, budget=6)
    assert of_stop_set(result) == [{}, {}]


def test_another_stop_set_has_nothing_before_it(tmp_path: Path) -> None:
    run(tmp_path, budget=12)
    found = of_stop_set(run(tmp_path, stop_set=20))
    assert "stop/kappa" in found[2]
    assert "stop/kappa" not in found[3]
    assert "stop/kappa" in found[4]


def test_checkpoint_of_before_goes_on(tmp_path: Path) -> None:
    """One written before runs had a stop set lacks its predictions."""
    once = run(tmp_path / "once", stop_set=0)
    first = run(tmp_path / "run", stop_set=0, budget=12)
    assert first.job.state.stopping == {}
    assert plain(run(tmp_path / "run").rows) == plain(once.rows)


@pytest.mark.parametrize(
    ("criterion", "settings", "said"),
    [
        (Target(0.5, "test/acuracy"), {}, "did you mean test/accuracy"),
        (Target(0.5, "val/accuracy"), {}, "no row of this run will have that"),
        (StabilizingPredictions(), {"stop_set": 0}, "set stop_set=1000"),
        (ReadsKappa(0), {"stop_set": 0}, "set stop_set=1000"),
        (Target(0.5, "stop/kapa"), {}, "did you mean stop/kappa"),
        (Target(0.5, "audit/low"), {}, "set audit=0.1"),
    ],
)
def test_column_is_checked_before_the_first_round(
    criterion: Criterion, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        run(tmp_path, {"mine": criterion}, **settings)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_run_without_test_part() -> None:
    blind = make_source(dataset(), seed=0, kind="none")
    result = run(source=blind)
    assert [set(found) for found in of_stop_set(result)][1:] == [FINAL] * 4
    with pytest.raises(ValueError, match="neither a test nor a validation part"):
        run(source=blind, stopping={"plateau": Plateau()})
    stable = {"stable": StabilizingPredictions(window=1, kappa=0.0)}
    assert run(source=blind, stopping=stable).reason.startswith("stable: mean kappa of 1")


def test_audit_slice_ends_a_run() -> None:
    sure = {"audit": Target(0.0, "audit/low")}
    result = run(stopping=sure, audit=0.3)
    assert result.reason.startswith("audit: audit/low ")
    assert len(result.rows) == 2  # the first round has no audits yet
    never = run(stopping={"audit": Target(1.1, "audit/accuracy")}, audit=0.3)
    assert never.reason == "budget"


def test_estimators_have_them_too() -> None:
    model = partial(random_forest, n_estimators=5)
    result = run(model=model)
    assert [set(found) for found in of_stop_set(result)][1:] == [FINAL] * 4
    assert plain(result.rows) == plain(run(model=model, stop_set=0).rows)


def test_label_sets_have_them_too() -> None:
    data = make_multilabel_classification(n_samples=400, n_classes=4)
    source = make_source(data, seed=0)
    result = run(source=source, strategy=MultilabelMargin())
    assert [set(found) for found in of_stop_set(result)][1:] == [FINAL] * 4
    assert result.job.state.stopping["predicted"].dtype == torch.bool


@pytest.mark.parametrize("settings", [{"stop_set": -1}, {"stopping_when": "some"}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        dal.Settings(**settings)
