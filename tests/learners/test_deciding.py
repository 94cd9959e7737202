"""Thresholds of labels that a run fits: on which predictions, and what is done by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import dal
from dal import checkpoint
from dal.data import initial_labels, make_multilabel_classification, make_source
from dal.data.source import Source
from dal.learners import Ensemble, Learner, RoundContext, make_learner
from dal.learners.deciding import cross_predicted
from dal.models import MLP, LogisticRegression
from dal.query import Members, MultilabelMargin
from dal.task.thresholds import fitted_thresholds
from dal.train_set import TrainSet
from dal.training.early_stopping import EarlyStopping
from dal.training.full_batch import FullBatch
from dal.training.trainer import Trainer

DATASET = make_multilabel_classification(300, n_features=10, n_classes=4)
PLAIN = make_source(DATASET, seed=0)
VALIDATED = make_source(DATASET, seed=0, validation=60)
STOPS = EarlyStopping(monitor="val/macro_f1", patience=2)


def run(source: Source, trainer: Trainer, run_dir: Path | None = None, **more: Any) -> dal.Result:
    settings = {"thresholds": "fitted", "budget": 6, "query_size": 6, "threads": 1} | more
    return dal.run(
        source,
        LogisticRegression if isinstance(trainer, FullBatch) else MLP,
        MultilabelMargin(),
        initial=initial_labels(source.train.targets, seed=0, count=30),
        trainer=trainer,
        settings=dal.Settings(figures=False, **settings),
        run_dir=run_dir,
    )


def test_thresholds_are_those_that_are_best_on_the_validation_part() -> None:
    result = run(VALIDATED, Trainer(4, 8, early_stopping=STOPS))
    learner, row = result.job.learner, result.rows[-1]
    assert VALIDATED.validation is not None
    assert VALIDATED.test is not None
    targets = VALIDATED.validation.targets
    logits = learner.predict(VALIDATED.validation, RoundContext(1))
    want = fitted_thresholds(logits.double().sigmoid(), targets).tolist()
    assert list(learner.task.thresholds) == pytest.approx(want)
    assert list(row["thresholds"].values()) == pytest.approx(want)
    assert row["val/macro_f1"] == pytest.approx(
        learner.task.evaluate(logits, targets)[0]["macro_f1"]
    )
    tested = learner.predict(VALIDATED.test, RoundContext(1))
    values, _ = learner.task.evaluate(tested, VALIDATED.test.targets)
    assert row["test/macro_f1"] == pytest.approx(values["macro_f1"])


def test_without_a_validation_part_no_label_is_judged_by_what_it_taught() -> None:
    result = run(PLAIN, FullBatch())
    assert set(result.rows[0]["thresholds"]) == set(PLAIN.class_names)
    assert run(PLAIN, FullBatch()).rows[0]["thresholds"] == result.rows[0]["thresholds"]


def test_every_label_is_predicted_by_a_model_of_the_others() -> None:
    labels = TrainSet(torch.arange(50, 61), torch.zeros(11, 2).long(), torch.ones(11))
    seen: list[int] = []

    def apart(learned: TrainSet, asked: TrainSet) -> torch.Tensor:
        assert sorted([*learned.indices.tolist(), *asked.indices.tolist()]) == list(range(50, 61))
        seen.extend(asked.indices.tolist())
        return asked.indices.unsqueeze(1).float()

    found = cross_predicted(labels, apart, torch.Generator().manual_seed(0))
    assert found.flatten().tolist() == labels.indices.tolist()
    assert sorted(seen) == labels.indices.tolist()
    assert len(cross_predicted(labels.part(torch.tensor([0])), apart, torch.Generator())) == 0


def test_guesses_are_learned_from_by_all_and_no_threshold_is_judged_by_one() -> None:
    indices, guessed = torch.arange(12), torch.arange(12) % 3 == 0
    labels = TrainSet(indices, torch.zeros(12, 4).long(), torch.ones(12), guessed)

    def apart(learned: TrainSet, asked: TrainSet) -> torch.Tensor:
        assert not asked.is_guess.any()
        assert set(indices[guessed].tolist()) <= set(learned.indices.tolist())
        assert not set(learned.indices.tolist()) & set(asked.indices.tolist())
        return asked.indices.unsqueeze(1).float()

    found = cross_predicted(labels, apart, torch.Generator().manual_seed(0))
    assert found.flatten().tolist() == labels.answers().indices.tolist()


def test_labels_held_out_decide_where_nothing_stops_early() -> None:
    source = make_source(DATASET, seed=0, validation_of_labels=0.3)
    assert len(run(source, FullBatch()).rows[0]["thresholds"]) == 4
    with pytest.raises(ValueError, match="holds labels out to stop early by"):
        run(source, FullBatch(), thresholds="half")


def test_a_fit_that_is_long_needs_a_validation_part() -> None:
    with pytest.raises(ValueError, match=r"no validation part.*split\.validation=0\.1"):
        run(PLAIN, Trainer(2))


def test_thresholds_are_exported_and_resumed(tmp_path: Path) -> None:
    whole = run(VALIDATED, Trainer(3, 8), tmp_path / "whole", budget=12)
    run(VALIDATED, Trainer(3, 8), tmp_path / "parts", budget=6)
    again = run(VALIDATED, Trainer(3, 8), tmp_path / "parts", budget=12)
    assert [r["thresholds"] for r in again.rows] == [r["thresholds"] for r in whole.rows]
    predictor = dal.load(tmp_path / "whole")
    assert predictor.task.thresholds == whole.job.learner.task.thresholds
    assert VALIDATED.test is not None
    inputs = DATASET.inputs
    said = predictor.predict_proba(inputs) > torch.tensor(predictor.task.thresholds)
    names = [
        [n for n, held in zip(VALIDATED.class_names, row, strict=True) if held] for row in said
    ]
    assert predictor.predict(inputs) == names


def test_the_headline_is_the_chosen_metric() -> None:
    result = run(VALIDATED, Trainer(2), thresholds="half", headline="map")
    values = [row["test/map"] for row in result.rows]
    assert result.aubc == pytest.approx(sum(values) / 2)
    with pytest.raises(ValueError, match=r"headline=mpa.*macro_f1.*map"):
        run(VALIDATED, Trainer(2), headline="mpa")
    with pytest.raises(ValueError, match="better the lower"):
        dal.Settings(headline="hamming_loss")


@pytest.mark.parametrize(
    ("source", "trainer", "model", "bootstrap"),
    [(VALIDATED, Trainer(2, 8), MLP, False), (PLAIN, FullBatch(), LogisticRegression, True)],
)
def test_an_ensemble_decides_as_its_main_network_by_itself(
    source: Source, trainer: Trainer, model: Any, bootstrap: bool
) -> None:
    def decided(size: int | None) -> Learner:
        learner = make_learner(
            model,
            trainer,
            source,
            source.task,
            Ensemble(size or 2, bootstrap),
            needs=frozenset({Members()} if size else ()),
            seed=0,
            device=torch.device("cpu"),
            thresholds="fitted",
        )
        rows = torch.arange(30)
        labels = TrainSet(rows, source.train.targets[rows], torch.ones(30))
        learner.fit(labels, RoundContext(0))
        learner.decide(labels, RoundContext(0))
        return learner

    three, alone = decided(3), decided(None)
    assert len(alone.task.thresholds) == 4
    assert three.task == alone.task


def test_a_fit_stops_by_the_mean_average_precision() -> None:
    stops = EarlyStopping(monitor="val/map", patience=3)
    result = run(VALIDATED, Trainer(12, 8, early_stopping=stops))
    assert VALIDATED.validation is not None
    logits = result.job.learner.predict(VALIDATED.validation, RoundContext(1))
    measured = VALIDATED.task.evaluate(logits, VALIDATED.validation.targets)[0]
    assert result.rows[-1]["val/map"] == pytest.approx(measured["map"])


def test_a_metric_that_is_never_measured_is_refused_before_anything_is_fitted(
    tmp_path: Path,
) -> None:
    stops = EarlyStopping(monitor="val/f1", mode="max", patience=3)
    with pytest.raises(ValueError, match=r"val/f1 is not measured.*val/macro_f1.*val/map"):
        run(VALIDATED, Trainer(2, early_stopping=stops), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_runs_from_before_there_were_thresholds_go_on(tmp_path: Path) -> None:
    whole = run(VALIDATED, Trainer(2, 8), tmp_path / "whole", thresholds="half", budget=12)
    run(VALIDATED, Trainer(2, 8), tmp_path / "old", thresholds="half", budget=6)
    for path in (tmp_path / "old" / "checkpoints").glob("*.pt"):
        saved = checkpoint.load(path)
        del saved["learner"]["thresholds"], saved["state"]["by_label"]
        checkpoint.save(path, saved)
    again = run(VALIDATED, Trainer(2, 8), tmp_path / "old", thresholds="half", budget=12)
    assert [row["test/loss"] for row in again.rows] == [row["test/loss"] for row in whole.rows]
    assert again.job.state.by_label["f1"].shape == (4,)
