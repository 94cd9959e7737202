"""Agreement against its definition in plain loops, and against published numbers."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from dal.agreement import krippendorff_alpha, of_labels
from dal.consensus import Votes


def votes_of(table: list[list[int | None]]) -> Votes:
    """A row for each person, a column for each sample."""
    cells = [
        (sample, person, said)
        for person, row in enumerate(table)
        for sample, said in enumerate(row)
        if said is not None
    ]
    return Votes(*torch.tensor(cells).long().view(-1, 3).unbind(1))


def alpha_by_pairs(votes: Votes) -> float:
    """From the matrix of coincidences, pair by pair."""
    units: dict[int, list[int]] = {}
    for sample, said in zip(votes.samples.tolist(), votes.targets.tolist(), strict=True):
        units.setdefault(sample, []).append(said)
    together: dict[tuple[int, int], float] = {}
    for said in units.values():
        for a, b in permutations(range(len(said)), 2):
            key = said[a], said[b]
            together[key] = together.get(key, 0.0) + 1 / (len(said) - 1)
    total = sum(together.values())
    margin: dict[int, float] = {}
    for (a, _), count in together.items():
        margin[a] = margin.get(a, 0.0) + count
    observed = sum(count for (a, b), count in together.items() if a != b) / total
    pairs = sum(margin[a] * margin[b] for a in margin for b in margin if a != b)
    return 1 - observed / (pairs / (total * (total - 1)))


def test_alpha_of_krippendorff_s_own_example() -> None:
    """Krippendorff 2011, C: four observers, twelve units, missing values; nominal 0.743."""
    nothing = None
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nothing, nothing, nothing],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nothing, 3],
        [nothing, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nothing],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nothing],
    ]
    assert krippendorff_alpha(votes_of(table)) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(votes_of(table)) == pytest.approx(alpha_by_pairs(votes_of(table)))


def test_alpha_of_random_answers_is_near_zero() -> None:
    rng = torch.Generator().manual_seed(0)
    table = torch.randint(-2, 3, (3, 2000), generator=rng).tolist()
    votes = votes_of(table)
    assert krippendorff_alpha(votes) == pytest.approx(alpha_by_pairs(votes))
    assert abs(krippendorff_alpha(votes)) < 0.05


def test_alpha_of_those_who_agree_is_one() -> None:
    assert krippendorff_alpha(votes_of([[0, 1, 2], [0, 1, 2], [None, 1, None]])) == 1


@pytest.mark.parametrize("table", [[[0, 1, None], [None, None, 2]], [[4, 4], [4, 4]]])
def test_alpha_of_nothing_to_compare_is_nan(table: list[list[int | None]]) -> None:
    assert math.isnan(krippendorff_alpha(votes_of(table)))


def test_each_label_is_a_sample_of_its_own() -> None:
    targets = torch.tensor([[0, 1], [1, 1], [0, 0]])
    votes = of_labels(Votes(torch.tensor([5, 5, 9]), torch.tensor([0, 1, 0]), targets))
    assert votes.samples.tolist() == [10, 11, 10, 11, 18, 19]
    assert votes.annotators.tolist() == [0, 0, 1, 1, 0, 0]
    assert votes.targets.tolist() == [0, 1, 1, 1, 0, 0]
