"""The loop on multi-label targets: resume, people as the oracle, refusals, what is recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.modules.module import register_module_forward_pre_hook

import dal
from dal import checkpoint
from dal.data import initial_labels, make_multilabel_classification, make_source
from dal.data.source import Source
from dal.models import MLP
from dal.oracles import Answers, FilesOracle, SimulatedOracle
from dal.query import (
    Entropy,
    ExpectedGradientLength,
    MaxBinaryEntropy,
    MeanBinaryEntropy,
    MultilabelMargin,
    PoolView,
    Query,
    Random,
    Strategy,
)
from dal.query.needs import Labels
from dal.runs.summary import summary
from dal.training.early_stopping import EarlyStopping
from dal.training.trainer import Trainer

DATASET = make_multilabel_classification(300, n_features=10, n_classes=4)
SOURCE = make_source(DATASET, seed=0, validation=30)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, per_class=2)
NAMES = SOURCE.class_names


def run(
    strategy: Strategy | None = None,
    run_dir: Path | None = None,
    source: Source = SOURCE,
    initial: torch.Tensor = INITIAL,
    oracle: Any = None,
    trainer: Trainer | None = None,
    **settings: Any,
) -> dal.Result:
    rule = EarlyStopping(monitor="val/micro_f1", mode="max", patience=3, min_epochs=1)
    return dal.run(
        source,
        MLP,
        strategy or MultilabelMargin(),
        initial=initial,
        trainer=trainer or Trainer(epochs=5, batch_size=8, early_stopping=rule),
        oracle=oracle,
        settings=dal.Settings(
            **{"budget": 12, "query_size": 6, "threads": 1, "figures": False} | settings
        ),
        run_dir=run_dir,
    )


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


@pytest.mark.parametrize(
    "strategy", [MultilabelMargin(), MeanBinaryEntropy(), MaxBinaryEntropy(), Random()]
)
def test_run_spends_the_budget_and_measures_label_sets(strategy: Strategy) -> None:
    result = run(strategy)
    assert (result.status, result.reason) == ("complete", "budget")
    first = len(INITIAL)
    assert [row["labels"] for row in result.rows] == [first, first + 6, first + 12]
    wanted = {"accuracy", "loss", "micro_f1", "macro_f1", "sample_f1", "hamming_loss", "map"}
    wanted |= {"recall"}
    assert {name for name in result.rows[0] if name.startswith("test/")} == {
        f"test/{name}" for name in wanted
    }
    values = [row["test/micro_f1"] for row in result.rows]
    assert result.aubc == pytest.approx((values[0] + 2 * values[1] + values[2]) / 4)
    confusion = result.job.state.confusion
    assert confusion is not None
    assert confusion.shape == (4, 2, 2)
    assert confusion.sum((1, 2)).tolist() == [len(SOURCE.test)] * 4


def test_run_learns_the_labels() -> None:
    everything = torch.arange(len(SOURCE.train))
    result = run(Random(), initial=everything, trainer=Trainer(epochs=60), budget=1, query_size=1)
    assert result.reason == "pool_exhausted"
    share = SOURCE.test.targets.double().mean(0)
    of_constant = float(torch.minimum(share, 1 - share).mean())
    row = result.rows[-1]
    assert row["test/hamming_loss"] < 0.8 * of_constant
    assert row["test/micro_f1"] > 0.6


class StopError(BaseException):
    """Ends a run in the middle, as a kill would."""


class Countdown:
    """Stops at the last of so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopError


class StoppingStrategy(MultilabelMargin):
    """Stops before its second choice."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Countdown(2)

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        self.count()
        return super().select(view, query_size, rng)


class StoppingOracle(SimulatedOracle):
    """Stops before its second answers."""

    def __init__(self) -> None:
        super().__init__(SOURCE.train.targets)
        self.count = Countdown(2)

    def collect(self, ticket: dict[str, Any]) -> Answers:
        self.count()
        return super().collect(ticket)


@contextmanager
def stopping_step(number: int) -> Iterator[None]:
    """A block in which training stops before a step."""
    count = Countdown(number)
    hook = register_module_forward_pre_hook(
        lambda module, inputs: count() if isinstance(module, MLP) and module.training else None
    )
    try:
        yield
    finally:
        hook.remove()


def test_run_stopped_and_continued_equals_a_straight_one(tmp_path: Path) -> None:
    straight = run(run_dir=tmp_path / "straight", budget=36)
    parts = {"run_dir": tmp_path / "parts", "budget": 36}
    with pytest.raises(StopError):
        run(oracle=StoppingOracle(), **parts)
    with stopping_step(20), pytest.raises(StopError):
        run(**parts)
    with pytest.raises(StopError):
        run(StoppingStrategy(), **parts)
    assert run(run_dir=tmp_path / "parts", budget=18).reason == "budget"
    resumed = run(run_dir=tmp_path / "parts", budget=36)
    assert timeless(resumed.rows) == timeless(straight.rows)
    one, other = (tmp_path / name for name in ("straight", "parts"))
    assert (one / "queries.csv").read_bytes() == (other / "queries.csv").read_bytes()
    weights = [checkpoint.load(path / "model.pt")["weights"] for path in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    answers = [result.job.pool.train_set() for result in (straight, resumed)]
    assert torch.equal(answers[0].targets, answers[1].targets)
    again = run(run_dir=tmp_path / "parts", budget=36)
    assert timeless(again.rows) == timeless(straight.rows)


def test_run_saved_inside_a_fit_goes_on_exactly(tmp_path: Path) -> None:
    straight = run(run_dir=tmp_path / "straight")
    parts = run(run_dir=tmp_path / "parts", save_every=2, keep_history=True)
    assert timeless(parts.rows) == timeless(straight.rows)
    assert parts.job.history.of_sample(int(parts.job.pool.unlabeled_idx[0])).shape == (2, 4)


def test_run_leaves_what_people_read(tmp_path: Path) -> None:
    result = run(run_dir=tmp_path, figures=True)
    with (tmp_path / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        target = DATASET.targets[int(row["sample"])].tolist()
        assert target == SOURCE.train.targets[int(row["index"])].tolist()
        held = [name for name, holds in zip(NAMES, target, strict=True) if holds]
        assert row["label"] == (";".join(held) or "-")
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["micro_f1"] == result.rows[-1]["test/micro_f1"]
    assert (tmp_path / "curve.png").stat().st_size > 0
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    curve = [event.value for event in events.Scalars("1_learning_curve/micro_f1")]
    assert curve == pytest.approx([row["test/micro_f1"] for row in result.rows])
    assert "4_test/accuracy" in events.Tags()["scalars"]
    text = summary(result, tmp_path)
    assert "test micro F1" in text
    assert "area under the learning curve (micro F1 over labels)" in text
    assert f"Hamming loss):          {result.rows[-1]['test/hamming_loss']:.4f}" in text
    assert "mean over labels (mAP): " in text
    assert "above a probability of one half (thresholds=half)" in text
    row = result.rows[-1]
    result.rows[-1] = row | {"thresholds": {"a": 0.125, "b": 0.5}}
    del result.rows[-1]["test/map"]  # as a version before left it
    told = summary(result, tmp_path)
    assert "above a probability of its own, 0.12 to 0.50 (thresholds=fitted)" in told
    assert "(mAP)" not in told
    assert "micro avg" in text
    log = (tmp_path / "train.log").read_text()
    assert "test micro F1" in log
    probs = dal.load(tmp_path).predict_proba(SOURCE.test.inputs)
    predicted = (probs > 0.5).long()
    right = float((predicted == SOURCE.test.targets).all(1).double().mean())
    assert right == pytest.approx(result.rows[-1]["test/accuracy"])


def fill_in(path: Path, labels: dict[int, str]) -> None:
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{li}{labels[int(li.split(',')[0])]}" for li in lines)]))


def test_run_by_people_equals_simulated(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path / "queries", NAMES, SOURCE.train.positions, multilabel=True)
    waiting = run(run_dir=tmp_path / "run", oracle=oracle, budget=6)
    assert (waiting.status, waiting.reason) == ("waiting", "answers")
    names = {
        position: SOURCE.target_name(target.tolist())
        for position, target in zip(
            SOURCE.train.original(torch.arange(len(SOURCE.train))),
            SOURCE.train.targets,
            strict=True,
        )
    }
    fill_in(tmp_path / "queries" / "round_0000.csv", names)
    by_hand = run(run_dir=tmp_path / "run", oracle=oracle, budget=6)
    assert timeless(by_hand.rows)[-1] == timeless(run(budget=6).rows)[-1]


def test_run_abstentions_are_recorded_and_not_trained_on(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path / "queries", NAMES, multilabel=True)
    run(run_dir=tmp_path / "run", oracle=oracle, budget=6)
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    labels = ["?", "-", "0;3", "1", "?", "2;1"]
    filled = [line + label for line, label in zip(lines, labels, strict=True)]
    path.write_text("\n".join([header, *filled]))
    result = run(run_dir=tmp_path / "run", oracle=oracle, budget=6)
    assert result.rows[-1]["labels"] == len(INITIAL) + 6
    assert result.rows[-1]["trained_on"] == len(INITIAL) + 4
    kept = [[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert result.job.pool.train_set().targets[-4:].tolist() == kept
    rows = (tmp_path / "run" / "queries.csv").read_text().splitlines()[1:]
    assert [row.split(",")[3] for row in rows] == ["?", "-", "0;3", "1", "?", "1;2"]


@pytest.mark.parametrize("strategy", [Entropy(), ExpectedGradientLength()])
def test_run_strategy_for_classes_is_refused_on_label_sets(strategy: Strategy) -> None:
    name = type(strategy).__name__
    message = rf"{name} is meant for multiclass targets, and those of .* are multilabel"
    with pytest.raises(TypeError, match=message):
        run(strategy)


@pytest.mark.parametrize("strategy", [MultilabelMargin(), MeanBinaryEntropy(), MaxBinaryEntropy()])
def test_run_strategy_for_label_sets_is_refused_on_classes(strategy: Strategy) -> None:
    source = make_source(dal.data.iris(), seed=0, validation=15)
    message = rf"{type(strategy).__name__} is meant for multilabel targets, .* iris are multiclass"
    with pytest.raises(TypeError, match=message):
        run(strategy, source=source, initial=torch.arange(10), trainer=Trainer(1))


@pytest.mark.parametrize("kind", [MultilabelMargin, MeanBinaryEntropy, MaxBinaryEntropy])
def test_run_whose_picks_are_balanced_sees_the_labels_so_far(kind: Any) -> None:
    seen: list[torch.Tensor] = []

    class Watched(kind):  # type: ignore[misc]
        def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
            seen.append(view[Labels()])
            query: Query = super().select(view, query_size, rng)
            return query

    result = run(Watched(balance=1.0), budget=12)
    rows = result.job.pool.train_set().targets
    assert all(torch.equal(one, rows[: len(one)]) for one in seen)
    assert [len(one) for one in seen] == [len(INITIAL), len(INITIAL) + 6]


class Liar(SimulatedOracle):
    def collect(self, ticket: dict[str, Any]) -> Answers:
        answers = super().collect(ticket)
        return Answers(answers.indices, answers.targets + 1, answers.abstained, answers.cost)


def test_run_answer_that_is_no_label_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is neither 1 .* nor 0"):
        run(oracle=Liar(SOURCE.train.targets))


def test_run_label_without_a_sample_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    without = (SOURCE.train.targets[:, 2] == 0).nonzero().squeeze(1)[:10]
    run(Random(), initial=without)
    assert "no label yet for 1 of 4 classes: '2'" in caplog.text
