"""Whose label is worth asking for, against the numbers of cleanlab and cases made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dal.query import ActiveLab, Features, PoolView, Probs, activelab, least_confidence
from dal.query.crowd_quality import best_temperature, crowd_quality, tempered
from dal.query.needs import AnswersSoFar, Labels

EXPECTED = {
    "single": (
        [
            0.3576281,
            0.1148119,
            0.6680317,
            0.3413423,
            0.1403074,
            0.1407616,
            0.6379499,
            0.2387577,
            0.115966,
            0.398263,
            0.5345339,
            0.17131,
        ],
        [0.6405714, 0.6620065, 0.6095574, 0.5966739, 0.6076114, 0.4645558],
    ),
    "several": (
        [
            0.509498,
            0.8651227,
            0.6640923,
            0.5787523,
            0.7773135,
            0.7699309,
            0.6577616,
            0.6169596,
            0.8918979,
            0.4668004,
            0.5780999,
            0.4577651,
        ],
        [0.795748, 0.8965675, 0.6938493, 0.6708567, 0.7308072, 0.5301984],
    ),
    "pairs": (
        [
            0.3738572,
            0.5084448,
            0.4180012,
            0.4122204,
            0.4590718,
            0.449497,
            0.4345866,
            0.4027097,
            0.5124778,
            0.3614055,
            0.4224162,
            0.3663797,
        ],
        [0.4665347, 0.5178443, 0.423203, 0.4178805, 0.4610519, 0.4063414],
    ),
    "lonely": (
        [
            0.4977461,
            0.8108976,
            0.6954541,
            0.588996,
            0.7490046,
            0.7809997,
            0.6720238,
            0.6541342,
            0.8191551,
            0.4551522,
            0.6069738,
            0.5072011,
        ],
        [0.8030425, 0.8842394, 0.713758, 0.6904902, 0.7377075, 0.5304405],
    ),
}

"""What cleanlab 2.9.0 gives for `case`, labeled samples and others; lower is worth more there::

    import cleanlab.internal.multiannotator_utils as utils
    utils.value_counts = lambda x, num_classes: np.bincount(x.astype(int), minlength=num_classes)
    said, probs, pool = (values.numpy() for values in case(kind))
    said = np.where(said < 0, np.nan, said)
    cleanlab.multiannotator.get_active_learning_scores(said, probs, pool)

The second line counts each class where it belongs; see `dal.query.crowd_quality`.
"""


def case(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Answers of four people on twelve samples, predictions of these, and of six others."""
    row, column = torch.arange(12).double()[:, None], torch.arange(3).double()
    probs = (3 * torch.sin(1.7 * row + 2.3 * column**2 + 0.5)).softmax(1)
    pool = (4 * torch.cos(0.9 * row[:6] + 1.9 * column**2)).softmax(1)
    n, a = torch.arange(12)[:, None], torch.arange(4)
    truth = probs.argmax(1)[:, None]
    said = torch.where((n * 5 + a * 3) % 4 == 0, (truth + 1 + a) % 3, truth.expand(12, 4))
    asked = (n * 7 + a * a * 2 + a) % 3 != 0
    asked[torch.arange(12), torch.arange(12) % 4] = True
    if kind == "single":
        asked = a == n % 4
    if kind == "pairs":
        asked = (a == n % 4) | ((a == (n + 1) % 4) & (n % 3 == 0))
    if kind == "lonely":  # the last one shares no sample with anybody
        asked[:, 3] = False
        asked[5] = a == 3
    return torch.where(asked, said, -1), probs, pool


@pytest.mark.parametrize("kind", EXPECTED)
def test_scores_are_those_of_cleanlab(kind: str) -> None:
    labeled, others = activelab(*case(kind))
    want_labeled, want_others = (torch.tensor(each).double() for each in EXPECTED[kind])
    torch.testing.assert_close(-labeled, want_labeled, atol=1e-7, rtol=0)
    torch.testing.assert_close(-others, want_others, atol=1e-7, rtol=0)


def test_without_any_answer_it_ranks_as_least_confidence() -> None:
    _, probs, pool = case("single")
    labeled, others = activelab(torch.empty(0, 0).long(), probs[:0], pool)
    assert len(labeled) == 0
    assert torch.equal(others.argsort(), least_confidence(pool).argsort())


def test_of_tied_answers_the_one_that_the_model_holds_likelier_counts() -> None:
    said = torch.tensor([[0, 1, -1], [0, 0, 0], [1, 1, 1], [2, 2, 2]])
    probs = torch.tensor([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    assert crowd_quality(said, probs).consensus.tolist() == [1, 0, 1, 2]


def test_people_who_agree_with_nobody_weigh_next_to_nothing() -> None:
    truth = torch.arange(30) % 3
    said = torch.stack([truth, truth, (truth + 1) % 3], 1)
    probs = torch.nn.functional.one_hot(truth, 3) * 0.4 + 0.2
    found = crowd_quality(said, probs)
    assert torch.equal(found.consensus, truth)
    assert bool((found.annotators[:2] > 0.2).all())
    assert float(found.annotators[2]) == 1e-6


def test_the_temperature_is_the_best_of_those_that_are_tried() -> None:
    said, probs, _ = case("several")
    found = best_temperature(said, probs)

    def misfit(temperature: float) -> float:
        scaled, total = tempered(probs, temperature), 0.0
        for answers, row in zip(said.tolist(), scaled.tolist(), strict=True):
            given = [answer for answer in answers if answer >= 0]
            total -= sum(torch.tensor(row[answer]).log().item() for answer in given) / len(given)
        return total

    assert all(misfit(found) <= misfit(other) + 1e-6 for other in (0.5, 1.0, 2.0, 3.0, 8.0))


SIZE = 20


def make_view(wrong: bool = False, confident: bool = True, **answers: Any) -> PoolView:
    """Two classes far apart: ten labeled samples of each, and candidates 0 to 19.

    Args:
        wrong: The first labeled sample got the label of the other class.
        confident: Candidates lie within the classes, not between them.
        answers: Values of `AnswersSoFar` in place of one right answer a sample.
    """
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(SIZE) % 2
    centers = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    rows = centers[truth] + 0.3 * torch.randn(SIZE, 2, generator=rng)
    pool = centers[truth] * (1.0 if confident else 0.05) + 0.1 * torch.randn(SIZE, 2, generator=rng)
    labels = truth.clone()
    labels[0] = 1 - labels[0] if wrong else labels[0]
    said = torch.stack([torch.arange(SIZE), 100 + torch.arange(SIZE), 0 * truth, labels], 1)
    known = torch.nn.functional.one_hot(labels, 2).float() * 0.98 + 0.01
    return PoolView(
        torch.arange(SIZE),
        {
            Features(): pool,
            Features("labeled"): rows,
            Labels(): labels,
            AnswersSoFar(): answers.get("said", said),
            Probs("labeled"): known,
            Probs(): (pool @ torch.tensor([[-1.0, 1.0], [0.0, 0.0]])).softmax(1),
        },
        num_total=200,
        num_classes=2,
    )


def again(strategy: ActiveLab, view: PoolView, size: int = 3) -> list[int]:
    query = strategy.select(view, size, torch.Generator().manual_seed(1))
    assert query.again is not None
    assert len(query.indices) + len(query.again) == size
    assert len(query.scores) == len(query.indices)
    return query.again.tolist()


def test_a_label_that_a_model_without_it_doubts_is_asked_again() -> None:
    assert again(ActiveLab(), make_view(wrong=True), 1) == [100]


def test_a_model_that_knows_the_label_by_heart_does_not_doubt_it() -> None:
    assert 100 not in again(ActiveLab(folds=0), make_view(wrong=True), 1)


def test_where_labels_fit_and_candidates_are_open_these_are_asked_about() -> None:
    assert again(ActiveLab(), make_view(confident=False), 3) == []


def test_two_answers_that_contradict_each_other_call_for_a_third() -> None:
    said = make_view()[AnswersSoFar()]
    second = said.clone()
    second[:, 2] = 1
    second[4, 3] = 1 - second[4, 3]
    view = make_view(said=torch.cat([said, second]))
    assert again(ActiveLab(), view, 1) == [104]
    assert again(ActiveLab(most=2), view, 1) == []


def test_answers_decide_by_what_they_say_not_by_their_order() -> None:
    view = make_view(wrong=True)
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(3))
    other = view.with_result(AnswersSoFar(), view[AnswersSoFar()][order])
    first, second = (
        ActiveLab().select(each, 9, torch.Generator().manual_seed(1)) for each in (view, other)
    )
    assert torch.equal(first.indices, second.indices)
    assert first.again is not None
    assert second.again is not None
    assert torch.equal(first.again, second.again)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_labels_are_enough_to_begin_with(count: int) -> None:
    view = make_view()
    few = PoolView(
        view.indices,
        {
            Features(): view[Features()],
            Features("labeled"): view[Features("labeled")][:count],
            Labels(): view[Labels()][:count],
            AnswersSoFar(): view[AnswersSoFar()][:count],
        },
        num_total=200,
        num_classes=2,
    )
    again(ActiveLab(), few, 5)


def test_settings_that_cannot_be_are_refused() -> None:
    for folds in (1, -2):
        with pytest.raises(ValueError, match=rf"strategy\.folds={folds}; give 2 or more, or 0"):
            ActiveLab(folds=folds)
    with pytest.raises(ValueError, match=r"strategy\.most=0 must be at least 1"):
        ActiveLab(most=0)
