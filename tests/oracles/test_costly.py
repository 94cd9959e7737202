"""Prices and times of answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dal.oracles import Abstaining, Answers, Costly, SimulatedOracle
from tests.helpers.people import ask

NAMES = ("a", "b", "c")
TARGETS = torch.arange(300) % 3
ALL = torch.arange(300)


def test_prices_by_class_and_of_abstentions() -> None:
    inner = Abstaining(SimulatedOracle(TARGETS), seed=1, share=0.3)
    answers = ask(Costly(inner, NAMES, cost=2.0, by_class={"b": 5.0}, abstention=0.5), ALL)
    expected = [
        0.5 if gone else 5.0 if target == 1 else 2.0
        for gone, target in zip(answers.abstained.tolist(), TARGETS.tolist(), strict=True)
    ]
    assert answers.cost.tolist() == expected
    assert set(expected) == {0.5, 2.0, 5.0}
    assert answers.seconds is None


def test_labels_that_hold_add_up() -> None:
    targets = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0]])
    oracle = Costly(SimulatedOracle(targets), NAMES, cost=1.0, by_class={"a": 0.5, "b": 2.0})
    assert ask(oracle, torch.arange(3)).cost.tolist() == [1.0, 1.5, 3.5]


def test_times_are_log_normal_around_their_median() -> None:
    times = ask(Costly(SimulatedOracle(TARGETS), NAMES, seed=3, seconds=4.0, spread=0.5), ALL)
    assert times.seconds is not None
    logs = times.seconds.log()
    assert float(logs.mean()) == pytest.approx(math.log(4.0), abs=0.1)
    assert float(logs.std()) == pytest.approx(0.5, abs=0.07)
    assert torch.equal(times.cost, torch.ones(300, dtype=torch.float64))
    some = ask(Costly(SimulatedOracle(TARGETS), NAMES, seed=3, seconds=4.0), ALL[100:110])
    assert some.seconds is not None
    assert some.seconds.tolist() == times.seconds[100:110].tolist()


def test_a_time_that_was_measured_stays() -> None:
    class Measured(SimulatedOracle):
        def collect(self, ticket: dict[str, object]) -> Answers:
            seconds = torch.full((2,), 7.0)
            seconds[1] = math.nan
            return replace(super().collect(ticket), seconds=seconds)

    answers = ask(Costly(Measured(TARGETS), NAMES, seconds=4.0), torch.tensor([5, 6]))
    assert answers.seconds is not None
    assert answers.seconds[0] == 7.0
    assert 0 < answers.seconds[1] < 100


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cost": -1.0}, "cost=-1.0"),
        ({"seconds": math.inf}, "seconds=inf"),
        ({"spread": 1e308}, "spread=1e\\+308.*up to 10"),
        ({"by_class": {"a": -2.0}}, "by_class.a=-2.0"),
        ({"by_class": {"z": 2.0}}, "no class 'z'; the classes are a, b, c"),
    ],
)
def test_impossible_prices_are_refused(wrong: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Costly(SimulatedOracle(TARGETS), NAMES, **wrong)  # type: ignore[arg-type]
