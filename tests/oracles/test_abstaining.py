"""People who cannot always tell."""

from __future__ import annotations

import pytest
import torch

from dal.oracles import Abstaining, Oracle, Several, SimulatedOracle
from tests.helpers.people import ask, told

TARGETS = torch.arange(1000) % 3
ALL = torch.arange(1000)


def test_a_share_of_the_answers_is_taken_back() -> None:
    oracle = Abstaining(SimulatedOracle(TARGETS), seed=1, share=0.3)
    first = ask(oracle, ALL)
    assert float(first.abstained.double().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(first.targets, TARGETS)
    assert torch.equal(ask(oracle, ALL.flip(0)).abstained.flip(0), first.abstained)
    again = ask(oracle, ALL, torch.ones(1000).long())
    assert float((again.abstained & first.abstained).double().mean()) < 0.15


def test_hard_samples_are_hard_for_everybody() -> None:
    people: dict[str, Oracle] = {
        name: Abstaining(SimulatedOracle(TARGETS), seed=1, share=0.0, hard=0.2) for name in "ab"
    }
    answers = told(ask(Several(people, annotators_per_sample=2), ALL))
    gone = [
        {n for (who, n), said in answers.items() if who == name and said is None} for name in "ab"
    ]
    assert gone[0] == gone[1]
    assert 150 < len(gone[0]) < 250


@pytest.mark.parametrize("name", ["share", "hard"])
def test_more_than_all_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=1.5"):
        Abstaining(SimulatedOracle(TARGETS), **{name: 1.5})
