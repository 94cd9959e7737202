"""Who is asked about what."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from dal.oracles import Costly, Noisy, Oracle, Several, SimulatedOracle
from tests.helpers.people import ask, told

NAMES = ("a", "b", "c")
TARGETS = torch.arange(900) % 3
ALL = torch.arange(900)


def crowd(each: int = 2, seed: int = 0, **accuracy: float) -> Several:
    """Three people, who are right as often as said."""
    people: dict[str, Oracle] = {
        name: Noisy(SimulatedOracle(TARGETS), NAMES, seed=seed, accuracy=accuracy.get(name, 1.0))
        for name in ("ann", "bob", "eve")
    }
    return Several(people, seed=seed, annotators_per_sample=each)


def test_each_sample_gets_so_many_answers_of_different_people() -> None:
    answers = ask(crowd(each=2), ALL)
    assert answers.annotators is not None
    assert len(set(zip(answers.annotators, answers.indices.tolist(), strict=True))) == 1800
    assert set(Counter(answers.indices.tolist()).values()) == {2}
    assert all(500 < count < 700 for count in Counter(answers.annotators).values())
    assert crowd(each=2).answers_per_sample == 2


def test_who_is_asked_and_says_what_depends_on_the_sample_alone() -> None:
    whole = told(ask(crowd(ann=0.5, eve=0.3), ALL))
    part = told(ask(crowd(ann=0.5, eve=0.3), torch.tensor([700, 3, 41])))
    assert part.items() <= whole.items()
    assert told(ask(crowd(seed=1, ann=0.5), torch.tensor([700, 3, 41]))).keys() != part.keys()


def test_nobody_always_answers_last() -> None:
    answers = ask(crowd(each=2), ALL)
    assert answers.annotators is not None
    last = dict(zip(answers.indices.tolist(), answers.annotators, strict=True))
    assert all(250 < count < 350 for count in Counter(last.values()).values())


def test_people_have_qualities_and_errors_of_their_own() -> None:
    answers = told(ask(crowd(each=3, ann=0.9, bob=0.6, eve=0.6), ALL))
    right = {
        name: [said == TARGETS[n] for (who, n), said in answers.items() if who == name]
        for name in ("ann", "bob", "eve")
    }
    shares = [sum(map(bool, hits)) / 900 for hits in right.values()]
    assert shares == pytest.approx([0.9, 0.6, 0.6], abs=0.05)
    both = sum(bool(b) and bool(e) for b, e in zip(right["bob"], right["eve"], strict=True))
    assert both / 900 == pytest.approx(0.36, abs=0.05)


def test_asked_once_more_somebody_else_answers_first() -> None:
    oracle, index = crowd(each=2), torch.tensor([17])
    asked = [
        [who for who, _ in told(ask(oracle, index, torch.tensor([count])))]
        for count in (0, 2, 3, 4, 5)
    ]
    assert [len(names) for names in asked] == [2, 1, 1, 1, 1]
    assert {*asked[0], *asked[1]} == {"ann", "bob", "eve"}
    assert {*asked[2], *asked[3], *asked[4]} == {"ann", "bob", "eve"}


def test_the_same_person_asked_again_errs_anew() -> None:
    alone: dict[str, Oracle] = {"ann": Noisy(SimulatedOracle(TARGETS), NAMES, accuracy=0.5)}
    said = [
        ask(Several(alone), ALL[:300], torch.full((300,), count)).targets for count in (0, 1, 2)
    ]
    assert not torch.equal(said[0], said[1])
    assert not torch.equal(said[1], said[2])


def test_prices_around_and_within() -> None:
    within: dict[str, Oracle] = {
        "ann": Costly(SimulatedOracle(TARGETS), NAMES, cost=5.0, seconds=2.0),
        "bob": SimulatedOracle(TARGETS),
    }
    answers = ask(Several(within, annotators_per_sample=2), ALL[:4])
    assert answers.annotators is not None
    assert sorted(answers.annotators) == ["ann"] * 4 + ["bob"] * 4
    by_ann = [name == "ann" for name in answers.annotators]
    assert answers.cost.tolist() == [5.0 if ann else 1.0 for ann in by_ann]
    assert answers.seconds is not None
    assert (~answers.seconds.isnan()).tolist() == by_ann
    around = Costly(crowd(each=2), NAMES, cost=3.0)
    assert around.answers_per_sample == 2
    answers = ask(around, ALL[:4])
    assert answers.cost.tolist() == [3.0] * 8
    assert set(answers.annotators or ()) <= {"ann", "bob", "eve"}


@pytest.mark.parametrize("each", [0, 4])
def test_more_people_than_there_are_cannot_be_asked(each: int) -> None:
    with pytest.raises(ValueError, match=f"annotators_per_sample={each} with 3 people"):
        crowd(each=each)
