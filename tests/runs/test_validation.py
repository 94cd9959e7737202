"""Validation: a part that the data come with, labels held out each round; and no test part."""

from __future__ import annotations

import json
import logging
import math
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from resume_job import dataset
from run_parts import parts

import dal
from dal.cli.config import compose
from dal.data import Dataset, Source, initial_labels, make_source
from dal.learners import Ensemble
from dal.lockstep.replicas import run_together
from dal.models import MLP
from dal.models.estimators import svm
from dal.query import BALD, CoreSet, Margin, PoolView, Query
from dal.reporting.records import RunError, read_run
from dal.reporting.states import read_state
from dal.runs.from_config import execute
from dal.runs.summary import headline, summary
from dal.settings import PlannedRun
from dal.train_set import TrainSet
from dal.training.early_stopping import EarlyStopping
from dal.training.full_batch import FullBatch
from dal.training.trainer import Trainer
from dal.utils.signals import PreemptedError

CONF = Path(__file__).parents[2] / "conf"
NAMES = ("setosa", "versicolor", "virginica")
ALWAYS = EarlyStopping(monitor="val/loss", patience=2)


def go(source: Source, folder: Path | None = None, **options: Any) -> dal.Result:
    settings = {"query_size": 6, "budget": 12, "threads": 1, "figures": False, "batch_size": 64}
    given: dict[str, Any] = {
        "initial": initial_labels(source.train.targets, seed=0, count=20),
        "trainer": Trainer(epochs=4, early_stopping=ALWAYS),
        "settings": dal.Settings(**settings | options.pop("settings", {})),
    }
    return dal.run(
        source, options.pop("model", MLP), options.pop("strategy", Margin()),
        **given | options, run_dir=folder,
    )  # fmt: skip


def rows(result: dal.Result) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in result.rows]


def held_out_of(amount: float, targets: list[Any], round_number: int = 0) -> tuple[Any, Any]:
    """What is trained on and what is held out, as places in a list of labels."""
    source = replace(parts(Margin()).source, validation_of_labels=amount)
    made_of = replace(parts(Margin()), source=source)
    count = len(targets)
    labels = TrainSet(torch.arange(count), torch.tensor(targets), torch.ones(count))
    kept, held_out = made_of.divided(labels, round_number)
    return kept.indices.tolist(), None if held_out is None else held_out.indices.tolist()


@pytest.mark.parametrize(
    ("amount", "targets", "size"),
    [
        (0.1, [0, 1] * 10, 2),
        (0.1, [0, 1], 1),
        (0.5, [0, 0, 1, 1], 2),
        (0.1, [0, 1, 2], 1),
        (0.5, [0, 0, 1, 2, 3, 4], 1),
        (0.2, [[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], 1),
    ],
)
def test_so_many_labels_are_held_out(amount: float, targets: list[Any], size: int) -> None:
    kept, held_out = held_out_of(amount, targets)
    assert len(held_out) == size
    assert sorted(kept + held_out) == list(range(len(targets)))


def test_labels_are_held_out_in_class_proportions_and_no_class_loses_its_only_one() -> None:
    targets = [0] * 40 + [1] * 20 + [2]
    for number in range(5):
        kept, held_out = held_out_of(0.1, targets, number)
        assert [sum(targets[i] == c for i in held_out) for c in range(3)] == [4, 2, 0]
        assert 60 in kept


def test_labels_are_held_out_anew_each_round_and_none_where_it_is_not_asked_for() -> None:
    targets = [0, 1] * 30
    drawn = [tuple(held_out_of(0.1, targets, number)[1]) for number in range(4)]
    assert len(set(drawn)) == 4
    assert held_out_of(0.1, targets)[1] == list(drawn[0])
    assert held_out_of(0, targets) == (list(range(60)), None)


def test_one_label_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="holds out at least one label, and round 3 has 1"):
        held_out_of(0.1, [1], 3)


class Seeing(CoreSet):
    """Remembers how many labeled samples it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        (need,) = [need for need in self.needs if "labeled" in repr(need)]
        self.seen.append(len(view[need]))
        return super().select(view, query_size, rng)


def test_held_out_labels_are_counted_and_strategies_see_all() -> None:
    source, strategy = make_source(dataset(), seed=0, validation_of_labels=0.2), Seeing()
    result = go(source, strategy=strategy)
    counts = [(r["labels"], r["trained_on"], r["validation_labels"]) for r in result.rows]
    assert counts == [(20, 16, 4), (26, 21, 5), (32, 26, 6)]
    assert strategy.seen == [20, 26]
    assert all(f"val/{name}" in result.rows[0] for name in ("loss", "accuracy", "macro_f1"))
    text = summary(result, Path("run"))
    assert "labels are those paid for; the last model learned from 26" in text
    assert "6 of the last labels were held out to validate on" in text


def test_the_network_is_that_of_the_best_epoch_on_the_labels_held_out() -> None:
    source = make_source(dataset(), seed=0, validation_of_labels=0.2)
    result = go(source, settings={"max_rounds": 0})
    made_of = replace(parts(Margin(), source), initial=torch.arange(0))
    pool = result.job.pool
    kept, held_out = made_of.divided(pool.train_set(), 0)
    assert held_out is not None
    part = source.train.part(held_out.indices)
    logits = result.job.learner.predict(part, dal.learners.RoundContext())
    values, _ = source.task.evaluate(logits, held_out.targets)
    assert values["loss"] == pytest.approx(result.rows[0]["val/loss"], abs=1e-6)
    assert set(kept.indices.tolist()).isdisjoint(held_out.indices.tolist())


class Ending(MLP):
    """A network whose third step is the last of its process."""

    def __init__(self, ends: bool, input_shape: Any, num_classes: int) -> None:
        super().__init__(input_shape, num_classes)
        self.left = 3 if ends else 0

    def forward(self, x: torch.Tensor) -> Any:
        self.left -= self.training
        if self.left == 0 and self.training:
            signal.raise_signal(signal.SIGUSR1)
        return super().forward(x)


@pytest.mark.parametrize("committee", [None, Ensemble(2, bootstrap=True)])
def test_a_fit_that_was_ended_in_its_middle_goes_on_exactly(tmp_path: Path, committee: Any) -> None:
    source = make_source(dataset(), seed=0, validation_of_labels=0.2)
    options: dict[str, Any] = {"committee": committee, "settings": {"save_every": 1}}
    if committee is not None:
        options["strategy"] = BALD()
    whole = go(source, tmp_path / "whole", **options)
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    try:
        for number in range(5):
            try:
                again = go(source, tmp_path / "parts", model=partial(Ending, number < 4), **options)
            except PreemptedError:
                assert number < 4
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert rows(again) == rows(whole)
    assert again.job.learner.fingerprint() == whole.job.learner.fingerprint()


def test_labels_that_are_held_out_for_nothing_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = make_source(dataset(), seed=0, validation_of_labels=0.2)
    go(source, settings={"max_rounds": 0})
    assert "holds labels out" not in caplog.text
    go(source, trainer=Trainer(epochs=1), settings={"max_rounds": 0})
    assert "validation_of_labels=0.2 holds labels out, and no fit stops by them" in caplog.text


@pytest.mark.parametrize(
    ("options", "name"),
    [({"model": svm}, "SVC"), ({"trainer": FullBatch()}, "trainer=lbfgs")],
)
def test_models_without_early_stopping_hold_nothing_out(options: Any, name: str) -> None:
    source = make_source(dataset(), seed=0, validation_of_labels=0.2)
    with pytest.raises(ValueError, match=rf"validation_of_labels=0.2 holds.*{name}.* to the end"):
        go(source, **options)


def config(*overrides: str) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(
        compose(
            CONF,
            [
                "data=iris",
                "model=mlp",
                "strategy=margin",
                "initial.count=12",
                "query_size=4",
                "budget=8",
                "trainer.epochs=3",
                "batch_size=64",
                "figures=false",
                "threads=1",
                *overrides,
            ],
        ),
        resolve=True,
    )
    return plain  # type: ignore[no-any-return]


def test_runs_in_lockstep_hold_out_what_each_would_alone(tmp_path: Path) -> None:
    held = "split.validation_of_labels=0.25", "trainer.early_stopping.monitor=val/loss"
    alone = [execute(config(*held, f"seed={seed}"), tmp_path / f"alone{seed}") for seed in (0, 1)]
    runs = [
        PlannedRun(str(seed), config(*held, f"seed={seed}"), tmp_path / f"together{seed}")
        for seed in (0, 1)
    ]
    assert run_together(runs, "true") == [None, None]
    for seed, one in enumerate(alone):
        lines = (tmp_path / f"together{seed}" / "metrics.jsonl").read_text().splitlines()
        for line, row in zip(lines, one.rows, strict=True):
            found = json.loads(line)
            names = ("labels", "trained_on", "validation_labels")
            assert [found[n] for n in names] == [row[n] for n in names]
            assert found["val/loss"] == pytest.approx(row["val/loss"], abs=1e-4)


def test_runs_in_lockstep_learn_from_the_guesses_that_each_would_alone(tmp_path: Path) -> None:
    sure = "cooperative=agreement", "cooperative.threshold=0.5", "budget=12"
    alone = [execute(config(*sure, f"seed={seed}"), tmp_path / f"alone{seed}") for seed in (0, 1)]
    runs = [
        PlannedRun(str(seed), config(*sure, f"seed={seed}"), tmp_path / f"together{seed}")
        for seed in (0, 1)
    ]
    assert run_together(runs, "true") == [None, None]
    for seed, one in enumerate(alone):
        lines = (tmp_path / f"together{seed}" / "metrics.jsonl").read_text().splitlines()
        used = [json.loads(line)["cooperative/used"] for line in lines]
        assert used == [row["cooperative/used"] for row in one.rows]
        assert used[-1] > 0


def with_validation() -> Dataset:
    data = dataset()
    return replace(
        data,
        inputs=data.inputs[:200],  # type: ignore[index]
        targets=data.targets[:200],
        validation_inputs=data.inputs[200:],  # type: ignore[index]
        validation_targets=data.targets[200:],
    )


def test_an_official_validation_part_is_what_a_run_without_test_part_shows(tmp_path: Path) -> None:
    source = make_source(with_validation(), seed=0, kind="none")
    result = go(source, tmp_path, settings={"figures": True})
    assert source.test is None
    values = [row["val/accuracy"] for row in result.rows]
    text = summary(result, tmp_path)
    assert "val accuracy" in text
    assert f"{values[-1]:.4f}" in text
    assert "(accuracy over labels, on the validation part)" in text
    assert "there is no test part" in text
    assert f"val accuracy {values[-1]:.4f}" in headline(result)
    assert result.aubc == pytest.approx(sum(values[:2]) / 4 + sum(values[1:]) / 4)
    assert (tmp_path / "curve.png").exists()


def test_a_run_without_test_and_validation_part_shows_what_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = "split.kind=none", "figures=true"
    folder = tmp_path / "iris-mlp-margin-s0-00000000"
    for budget in (4, 8):
        result = execute(config(*options, f"budget={budget}"), folder)
    assert [row["labels"] for row in result.rows] == [12, 16, 20]
    assert not any(name.startswith(("test/", "val/")) for name in result.rows[-1])
    assert math.isnan(result.aubc)
    assert result.job.state.confusion is None
    assert "12 labels | train accuracy" in caplog.text
    assert "| not tested |" in caplog.text
    assert "iris has no test part: this run cannot show" in caplog.text
    assert "how good these models are on new samples is not known" in caplog.text
    assert headline(result) == "complete: budget, 20 labels, not tested"
    assert not (folder / "curve.png").exists()
    assert dal.load(folder).predict(torch.zeros(1, 4))[0] in NAMES
    state = read_state(folder)
    assert (state.status, state.labels, state.value) == ("complete", 20, None)
    with pytest.raises(RunError, match="s0-00000000 has no test part, so there is nothing to"):
        read_run(folder)
