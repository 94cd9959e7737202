"""A schedule of strategies: which one chooses, what a round computes for it, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from dal.data import iris, make_source
from dal.data.source import Source
from dal.models import MLP
from dal.query import (
    CoreSet,
    Entropy,
    Features,
    History,
    Instability,
    Margin,
    MultilabelMargin,
    PoolView,
    Probs,
    Query,
    Random,
    Schedule,
    Strategy,
)
from dal.query.needs import Labels
from dal.runs.loop import run
from dal.settings import Settings
from dal.training.trainer import Trainer


def view_of(labels: int) -> PoolView:
    probs = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    results = {Probs(): probs, Labels(): torch.zeros(labels, dtype=torch.int64)}
    return PoolView(torch.arange(30), results, num_total=90, num_classes=3)


def pick(strategy: Strategy, labels: int) -> list[int]:
    query = strategy.select(view_of(labels), 5, torch.Generator().manual_seed(1))
    return list(query.indices.tolist())


@pytest.mark.parametrize(("labels", "turn"), [(0, "first"), (49, "first"), (50, "then")])
def test_number_of_labels_decides_who_chooses(labels: int, turn: str) -> None:
    schedule = Schedule(Random(), Margin(), 50)
    query = schedule.select(view_of(labels), 5, torch.Generator().manual_seed(1))
    assert query.indices.tolist() == pick(Random() if turn == "first" else Margin(), labels)
    assert query.info["criterion"] == turn


def test_three_strategies_are_two_schedules() -> None:
    schedule = Schedule(Random(), Schedule(Entropy(), Margin(), 60), 50)
    for labels, one in [(10, Random()), (50, Entropy()), (59, Entropy()), (60, Margin())]:
        assert pick(schedule, labels) == pick(one, labels)
        assert type(schedule.current(labels)) is type(one)


def test_needs_are_those_of_both_and_a_round_s_those_of_one() -> None:
    schedule = Schedule(CoreSet(), Margin(), 50)
    assert schedule.needs == {Features(), Features("labeled"), Probs(), Labels()}
    assert schedule.current(49).needs == CoreSet.needs
    assert schedule.current(50).needs == Margin.needs


def test_tasks_are_those_of_both() -> None:
    assert Schedule(Random(), MultilabelMargin(), 5).tasks == {"multilabel"}
    with pytest.raises(ValueError, match="no kind of task suits all"):
        Schedule(Margin(), MultilabelMargin(), 5)


def models(*predicted: Tensor) -> PoolView:
    """A view with what models in a row predict, the last one now."""
    history = torch.stack([torch.nn.functional.one_hot(p, 3).float() for p in predicted])
    return view_of(10).with_result(History(2), history)


def turn(schedule: Schedule, view: PoolView) -> str:
    return str(schedule.select(view, 5, torch.Generator().manual_seed(1)).info["criterion"])


def test_models_that_agree_change_the_strategy_in_the_next_round_for_good() -> None:
    schedule = Schedule(Random(), Margin(), 50, kappa=0.7)
    one, other = torch.arange(30) % 3, torch.arange(30) // 10
    assert cohen_kappa_score(one, other) < 0.1
    nearly = torch.cat([one[:25], other[25:]])
    assert 0.7 < cohen_kappa_score(one, nearly) < 0.95
    assert [turn(schedule, models(*pair)) for pair in [(one,), (one, other), (one, nearly)]] == [
        "first",
        "first",
        "first",
    ]
    assert [turn(schedule, models(one, other)) for _ in range(2)] == ["then", "then"]
    assert type(schedule.current(10)) is Margin


def test_agreement_is_recorded_and_survives() -> None:
    one = torch.arange(30) % 3
    schedule = Schedule(Random(), Margin(), 50, kappa=0.95)
    query = schedule.select(models(one, one), 5, torch.Generator())
    assert query.info["kappa"] == 1.0
    other = Schedule(Random(), Margin(), 50, kappa=0.95)
    other.load_state_dict(schedule.state_dict())
    assert type(other.current(10)) is Margin


def test_models_that_predict_one_class_do_not_agree() -> None:
    schedule = Schedule(Random(), Margin(), 50, kappa=0.1)
    schedule.select(models(torch.zeros(30).long(), torch.zeros(30).long()), 5, torch.Generator())
    assert type(schedule.current(10)) is Random


def test_history_is_asked_for_where_agreement_is_measured_alone() -> None:
    assert History(2) not in Schedule(Random(), Margin(), 50).needs
    assert History(2) in Schedule(Random(), Margin(), 50, kappa=0.5).needs


def test_wrong_settings_are_refused() -> None:
    for wrong in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"strategy\.kappa="):
            Schedule(Random(), Margin(), 50, wrong)
    with pytest.raises(ValueError, match=r"strategy\.labels=-1"):
        Schedule(Random(), Margin(), -1)
    message = r"then=0\.5 is no strategy; set it by strategy@strategy\.then=entropy"
    with pytest.raises(TypeError, match=message):
        Schedule(Random(), 0.5, 5)  # type: ignore[arg-type]


class Recorded(Random):
    """Random, of what the pass computes; it writes down what it was shown."""

    def __init__(self, *needs: Any) -> None:
        self.needs = frozenset(needs)
        self.seen: list[tuple[int, bool, bool]] = []

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        shown = (len(view[Labels()]), Probs() in view, Features() in view)
        self.seen.append(shown)
        return super().select(view, query_size, rng)


def source() -> Source:
    return make_source(iris(), seed=0)


def mlp(shape: tuple[int, ...], classes: int) -> MLP:
    return MLP(shape, classes, [8])


def go(strategy: Strategy, run_dir: Path | None, budget: int) -> list[Any]:
    settings = Settings(query_size=5, budget=budget, device="cpu", figures=False)
    initial: Tensor = torch.arange(0, 60, 6)
    result = run(
        source(),
        mlp,
        strategy,
        trainer=Trainer(epochs=2),
        initial=initial,
        settings=settings,
        run_dir=run_dir,
    )
    return [event["index"] for event in result.job.pool.events()]


def test_each_round_computes_what_its_strategy_needs_alone() -> None:
    first, then = Recorded(Features()), Recorded(Probs())
    go(Schedule(first, then, 20), None, 20)
    assert first.seen == [(10, False, True), (15, False, True)]
    assert then.seen == [(20, True, False), (25, True, False)]


def test_a_measured_change_happens_at_the_same_place_in_a_run_in_two_parts(tmp_path: Path) -> None:
    def schedule() -> Schedule:
        return Schedule(Random(), Margin(), 1000, kappa=0.2)

    whole = go(schedule(), tmp_path / "whole", 40)
    assert whole != go(Random(), tmp_path / "random", 40)
    for budget in (20, 25, 40):
        parts = go(schedule(), tmp_path / "parts", budget)
    assert parts == whole


def test_a_run_in_two_parts_changes_where_one_in_one_does(tmp_path: Path) -> None:
    def schedule() -> Schedule:
        return Schedule(Random(), Instability(window=2), 20)

    whole = go(schedule(), tmp_path / "whole", 20)
    go(schedule(), tmp_path / "parts", 10)
    assert go(schedule(), tmp_path / "parts", 20) == whole
    assert whole != go(Random(), tmp_path / "random", 20)
    assert whole[:20] == go(Random(), tmp_path / "random", 20)[:20]
