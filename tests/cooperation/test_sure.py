"""What becomes a guess, by each rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dal.cooperation import (
    AgreeingRounds,
    AnswersAlone,
    FixedThreshold,
    FlexibleThresholds,
    QuantileByClass,
)
from dal.cooperation.sure import Confident

MANY = torch.full((3,), 1000)
PROBS = torch.tensor(
    [
        [0.97, 0.02, 0.01],
        [0.30, 0.40, 0.30],
        [0.01, 0.98, 0.01],
        [0.02, 0.02, 0.96],
        [0.90, 0.05, 0.05],
        [0.99, 0.01, 0.00],
    ]
)


def test_one_threshold() -> None:
    guesses = FixedThreshold(0.95, weight=0.25).choose(PROBS, None, MANY)
    assert guesses.places.tolist() == [0, 2, 3, 5]
    assert guesses.targets.tolist() == [0, 1, 2, 0]
    assert guesses.weights.tolist() == [0.25] * 4


def test_a_threshold_of_0_takes_everything_and_one_of_1_hardly_anything() -> None:
    assert FixedThreshold(0.0).choose(PROBS, None, MANY).places.tolist() == list(range(6))
    assert FixedThreshold(1.0).choose(PROBS, None, MANY).places.tolist() == []


def test_a_class_gets_so_many_guesses_for_each_answer_that_it_has() -> None:
    rule = FixedThreshold(0.5, per_answer=1.5)
    guesses = rule.choose(PROBS, None, torch.tensor([1, 0, 1]))
    assert guesses.places.tolist() == [3, 5]  # one of class 0, none of class 1
    guesses = rule.choose(PROBS, None, torch.tensor([2, 1, 0]))
    assert guesses.places.tolist() == [0, 2, 4, 5]
    assert len(FixedThreshold(0.5, per_answer=None).choose(PROBS, None, 0 * MANY).places) == 5


def test_a_model_that_collapses_on_one_class_is_held_back() -> None:
    probs = torch.tensor([[0.99, 0.01]]).expand(500, 2)
    answers = torch.tensor([4, 6])
    assert len(FixedThreshold(per_answer=5).choose(probs, None, answers).places) == 20
    assert len(FixedThreshold(per_answer=None).choose(probs, None, answers).places) == 500


@pytest.mark.parametrize(("most", "kept"), [(2, [2, 5]), (0.5, [0, 2, 5]), (0.1, []), (1, [5])])
def test_a_cap_keeps_the_surest(most: float, kept: list[int]) -> None:
    assert FixedThreshold(0.5, most=most).choose(PROBS, None, MANY).places.tolist() == kept


def test_several_labels_must_all_be_sure() -> None:
    probs = torch.tensor([[0.97, 0.01], [0.97, 0.5], [0.02, 0.04], [0.99, 0.96]])
    guesses = FixedThreshold(0.95).choose(probs, None, torch.zeros(2).long(), exclusive=False)
    assert guesses.places.tolist() == [0, 2, 3]
    assert guesses.targets.tolist() == [[1, 0], [0, 0], [1, 1]]


def test_two_rounds_must_agree_and_both_be_sure() -> None:
    rule, nan = AgreeingRounds(0.95), float("nan")
    assert rule.rounds == 2
    assert rule.choose(PROBS, None, MANY).places.tolist() == []
    before = PROBS.clone()
    before[0] = torch.tensor([0.01, 0.98, 0.01])  # it changed its mind
    before[3] = torch.tensor([0.1, 0.1, 0.8])  # it was not sure
    before[5] = nan  # it was no candidate
    guesses = rule.choose(PROBS, before, MANY)
    assert guesses.places.tolist() == [2]
    assert guesses.targets.tolist() == [1]


def test_several_labels_of_two_rounds_must_all_agree() -> None:
    probs = torch.tensor([[0.97, 0.01], [0.97, 0.01]])
    before = torch.tensor([[0.98, 0.02], [0.98, 0.99]])
    none = torch.zeros(2).long()
    guesses = AgreeingRounds(0.95).choose(probs, before, none, exclusive=False)
    assert guesses.places.tolist() == [0]


def test_a_class_learned_less_has_a_lower_threshold() -> None:
    probs = torch.tensor([[0.99, 0.01]] * 6 + [[0.01, 0.99]] * 2 + [[0.2, 0.8], [0.45, 0.55]])
    many = torch.tensor([100, 100])
    # Of class 1 are 2 of 6 sure: b = 1/3, threshold 0.95 * (1/3) / (5/3) = 0.19.
    published = FlexibleThresholds(0.95, least=0.0).choose(probs, None, many)
    assert published.places.tolist() == list(range(10))
    bounded = FlexibleThresholds(0.95, least=0.7).choose(probs, None, many)
    assert bounded.places.tolist() == list(range(9))
    assert FixedThreshold(0.95).choose(probs, None, many).places.tolist() == list(range(8))


def test_the_surest_share_of_each_class_where_it_is_sure_enough() -> None:
    probs = torch.tensor([[0.99, 0.01], [0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.3, 0.7]])
    many = torch.tensor([100, 100])
    rule = QuantileByClass(share=0.75, threshold=0.8)
    assert rule.choose(probs, None, many).places.tolist() == [0, 1]
    assert QuantileByClass(share=0.25, threshold=0.8).choose(probs, None, many).places.tolist() == [
        0
    ]
    lower = QuantileByClass(share=0.75, threshold=0.0).choose(probs, None, many)
    assert lower.places.tolist() == [0, 1, 2]  # three of four, and none of one


@pytest.mark.parametrize("exclusive", [True, False])
def test_answers_alone_guess_nothing(exclusive: bool) -> None:
    guesses = AnswersAlone().choose(PROBS, None, MANY, exclusive)
    assert not AnswersAlone().active
    assert len(guesses.places) == len(guesses.weights) == 0
    assert guesses.targets.shape == ((0,) if exclusive else (0, 3))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FixedThreshold, {"threshold": 1.5}, "cooperative.threshold=1.5; give a number from 0"),
        (FixedThreshold, {"weight": 0}, "cooperative.weight=0; give a positive number"),
        (FixedThreshold, {"per_answer": -1}, "cooperative.per_answer=-1; give a positive number"),
        (FixedThreshold, {"most": 0}, "cooperative.most=0; give at least 1, a share"),
        (FixedThreshold, {"most": 1.5}, "cooperative.most=1.5; give a number from 0 to 1"),
        (FlexibleThresholds, {"least": 2.0}, "cooperative.least=2.0; give a number from 0 to 1"),
        (QuantileByClass, {"share": -0.1}, "cooperative.share=-0.1; give a number of 0 or more"),
    ],
)
def test_numbers_out_of_range(
    kind: Callable[..., Confident], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        kind(**options)


def test_a_weight_other_than_1_is_told() -> None:
    assert FixedThreshold(weight=0.5).weighs
    assert not FixedThreshold(weight=1).weighs
