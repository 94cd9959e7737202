"""People who are wrong as often, and in the way, that they are told to be."""

from __future__ import annotations

import pytest
import torch

from dal.data import Source, make_source
from dal.data.dataset import Dataset
from dal.oracles import Noisy, SimulatedOracle
from dal.oracles.noisy import similar
from dal.pool import REJECTED
from tests.helpers.people import ask, told

NAMES = ("a", "b", "c")
TARGETS = torch.arange(3000) % 3
ALL = torch.arange(3000)


def test_errors_come_as_often_as_said_and_go_evenly() -> None:
    oracle = Noisy(SimulatedOracle(TARGETS), NAMES, seed=1, accuracy=0.7)
    answers = ask(oracle, ALL)
    shares = torch.zeros(3, 3).index_put_(
        (TARGETS, answers.targets), torch.tensor(1 / 1000), accumulate=True
    )
    expected = torch.full((3, 3), 0.15).fill_diagonal_(0.7)
    assert (shares - expected).abs().max() < 0.05  # three standard errors
    assert not answers.abstained.any()


def test_a_confusion_matrix_is_followed() -> None:
    confusion = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.9, 0.0, 0.1]]
    oracle = Noisy(SimulatedOracle(TARGETS), NAMES, seed=1, confusion=confusion)
    said = ask(oracle, ALL).targets
    shares = torch.zeros(3, 3).index_put_((TARGETS, said), torch.tensor(1 / 1000), accumulate=True)
    assert (shares - torch.tensor(confusion)).abs().max() < 0.05
    assert not shares[torch.tensor(confusion) == 0].any()


def test_an_answer_depends_on_the_sample_and_not_on_the_question() -> None:
    """Two strategies that come to the same sample, in whatever order and company, hear the same."""
    oracle = Noisy(SimulatedOracle(TARGETS), NAMES, seed=1, accuracy=0.5)
    all_at_once = ask(oracle, ALL[:300]).targets
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:50]
    assert torch.equal(ask(oracle, shuffled).targets, all_at_once[shuffled])
    other = Noisy(SimulatedOracle(TARGETS), NAMES, seed=2, accuracy=0.5)
    assert not torch.equal(ask(other, ALL[:300]).targets, all_at_once)


def test_asked_again_a_person_errs_anew() -> None:
    oracle = Noisy(SimulatedOracle(TARGETS), NAMES, seed=1, accuracy=0.5)
    first, again = (ask(oracle, ALL[:600], torch.full((600,), n)).targets for n in (0, 1))
    both_wrong = (first != TARGETS[:600]) & (again != TARGETS[:600])
    assert 0.15 < both_wrong.double().mean() < 0.35
    assert torch.equal(ask(oracle, ALL[:600], torch.full((600,), 1)).targets, again)


def test_what_is_no_label_stays() -> None:
    targets = torch.tensor([0, 1, 2, -1])
    for how, said in (("abstain", None), ("reject", REJECTED)):
        foreign = torch.tensor([False, False, False, True])
        inner = SimulatedOracle(targets, foreign, on_foreign=how)  # type: ignore[arg-type]
        answers = ask(Noisy(inner, NAMES, accuracy=0.0), torch.arange(4))
        assert told(answers)["?", 3] == said
        assert (answers.targets[:3] != targets[:3]).all()


def test_labels_are_flipped_one_by_one() -> None:
    targets = (torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    oracle = Noisy(SimulatedOracle(targets), NAMES, multilabel=True, seed=1, accuracy=0.9)
    wrong = (ask(oracle, torch.arange(2000)).targets != targets).double()
    assert wrong.mean(0).tolist() == pytest.approx([0.1] * 3, abs=0.025)
    together = float((wrong[:, 0] * wrong[:, 1]).mean())
    assert together == pytest.approx(0.01, abs=0.008)
    misses = [[1.0, 0.0], [0.5, 0.5]]
    oracle = Noisy(SimulatedOracle(targets), NAMES, multilabel=True, confusion=misses)
    said = ask(oracle, torch.arange(2000)).targets
    assert not said[targets == 0].any()
    assert float(said[targets == 1].double().mean()) == pytest.approx(0.5, abs=0.05)


def in_a_line() -> Source:
    """Classes at 0, 1, 3: the neighbor of each is known."""
    targets = torch.arange(30) % 3
    inputs = torch.tensor([0.0, 1.0, 3.0])[targets][:, None].repeat(1, 2)
    return make_source(Dataset("line", inputs, targets, NAMES), seed=0, kind="none")


def test_similar_classes_are_those_whose_means_are_near() -> None:
    source = in_a_line()
    third = 1 / 3
    expected = [0, 2 * third, third, 2 * third, 0, third, third, 2 * third, 0]
    assert similar(source.train, 3).flatten().tolist() == pytest.approx(expected)
    oracle = Noisy(SimulatedOracle(source.train.targets), NAMES, accuracy=0.0, confused="similar")
    oracle.open(source)
    answers = ask(oracle, torch.arange(len(source.train)))
    twos = answers.targets[source.train.targets == 2]
    assert set(twos.tolist()) == {0, 1}
    assert (answers.targets != source.train.targets).all()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"accuracy": 1.5}, "accuracy=1.5"),
        ({"confused": "often"}, "confused=often"),
        ({"confusion": [[1.0]]}, "1 rows of"),
        ({"confusion": [[1.0, 0, 0], [0, 0.5, 0], [0, 0, 1]]}, "the rows sum to 1, 0.5, 1"),
        ({"confusion": [[2.0, -1, 0], [0, 1, 0], [0, 0, 1]]}, "shares of 0 or more"),
    ],
)
def test_impossible_people_are_refused(wrong: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Noisy(SimulatedOracle(TARGETS), NAMES, **wrong)  # type: ignore[arg-type]
