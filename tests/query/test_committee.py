"""Committee scores and BALD against plain float64 definitions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr
from torch import Tensor

from dal.learners.committees import check_members
from dal.query import (
    BALD,
    ConsensusEntropy,
    MaxDisagreement,
    MeanStd,
    Members,
    PoolView,
    ScoreStrategy,
    VariationRatio,
    VoteEntropy,
    bald,
    consensus_entropy,
    entropy,
    least_confidence,
    margin,
    max_disagreement,
    mean_std,
    member_statistics,
    variation_ratio,
    vote_entropy,
)
from dal.query import committee as module

Rows = list[list[float]]
"""The probabilities of K members for one sample."""


def loop_mean(rows: Rows) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def loop_entropy(row: list[float]) -> float:
    return -math.fsum(p * math.log(p) for p in row if p > 0)


def loop_votes(rows: Rows) -> Counter[int]:
    return Counter(row.index(max(row)) for row in rows)


def loop_variation_ratio(rows: Rows) -> float:
    return 1 - loop_votes(rows).most_common(1)[0][1] / len(rows)


def loop_vote_entropy(rows: Rows) -> float:
    return loop_entropy([votes / len(rows) for votes in loop_votes(rows).values()])


def loop_consensus_entropy(rows: Rows) -> float:
    return loop_entropy(loop_mean(rows))


def loop_max_disagreement(rows: Rows) -> float:
    mean = loop_mean(rows)
    pairs = [(p, m) for row in rows for p, m in zip(row, mean, strict=True) if p > 0]
    return math.fsum(p * math.log(p / m) for p, m in pairs) / len(rows)


def loop_mean_std(rows: Rows) -> float:
    mean, columns = loop_mean(rows), list(zip(*rows, strict=True))
    variances = [
        math.fsum((p - m) ** 2 for p in column) / len(rows)
        for column, m in zip(columns, mean, strict=True)
    ]
    return math.fsum(math.sqrt(v) for v in variances) / len(mean)


def loop_bald(rows: Rows) -> float:
    return loop_consensus_entropy(rows) - math.fsum(map(loop_entropy, rows)) / len(rows)


SCORES: list[tuple[Callable[[Tensor], Tensor], Callable[[Rows], float]]] = [
    (variation_ratio, loop_variation_ratio),
    (vote_entropy, loop_vote_entropy),
    (consensus_entropy, loop_consensus_entropy),
    (max_disagreement, loop_max_disagreement),
    (mean_std, loop_mean_std),
    (bald, loop_bald),
]


def committee(size: int = 5, count: int = 40, classes: int = 3, scale: float = 2.0) -> Tensor:
    """Members around a common prediction."""
    rng = torch.Generator().manual_seed(size * classes)
    common = torch.randn(count, classes, generator=rng)
    return ((common + torch.randn(size, count, classes, generator=rng)) * scale).softmax(-1)


def by_sample(members_KNC: Tensor) -> list[Rows]:
    rows: list[Rows] = members_KNC.transpose(0, 1).tolist()
    return rows


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 1e4], ids=["flat", "near", "mild", "saturated"])
@pytest.mark.parametrize(("size", "classes"), [(2, 2), (5, 3), (20, 10)])
@pytest.mark.parametrize(("score", "loop"), SCORES)
def test_score_equals_loop(
    score: Callable[[Tensor], Tensor],
    loop: Callable[[Rows], float],
    size: int,
    classes: int,
    scale: float,
) -> None:
    members = committee(size, classes=classes, scale=scale)
    if scale == 1e4:
        assert bool((members == 0).any())
    copy = members.clone()
    got = score(members)
    assert torch.equal(members, copy)
    assert got.shape == (40,)
    want = torch.tensor([loop(rows) for rows in by_sample(members)], dtype=torch.float64)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    # A softmax of float32 sums to one up to 1e-7 only, which the two forms of BALD see otherwise.
    exact = members.double() / members.double().sum(-1, keepdim=True)
    want = torch.tensor([loop(rows) for rows in by_sample(exact)], dtype=torch.float64)
    torch.testing.assert_close(score(exact).double(), want, rtol=1e-9, atol=1e-14)


def test_scores_of_a_split_committee() -> None:
    """Three members sure of class 0, one sure of class 1, and one torn between 1 and 2."""
    sure, other, torn = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]
    members = torch.tensor([sure, sure, sure, other, torn]).unsqueeze(1).double()
    assert float(variation_ratio(members)) == pytest.approx(2 / 5)
    assert float(vote_entropy(members)) == pytest.approx(scipy_entropy([3, 2]))
    assert float(consensus_entropy(members)) == pytest.approx(scipy_entropy([6, 3, 1]))
    want = scipy_entropy([6, 3, 1]) - math.log(2) / 5
    assert float(bald(members)) == pytest.approx(want)
    deviations = [np.std([1, 1, 1, 0, 0]), np.std([0, 0, 0, 1, 0.5]), np.std([0, 0, 0, 0, 0.5])]
    assert float(mean_std(members)) == pytest.approx(np.mean(deviations))


def test_variation_ratio_counts_votes_not_probabilities() -> None:
    members = committee(scale=0.3)
    assert not torch.allclose(variation_ratio(members).float(), 1 - members.mean(0).max(1).values)
    sure = torch.tensor([[0.6, 0.4]]).expand(4, 1, 2)
    assert float(variation_ratio(sure)) == 0


def test_consensus_entropy_is_not_the_mean_of_the_members_entropies() -> None:
    members = committee(20, 200, 10)
    mean_of_entropies = entropy(members.flatten(0, 1)).view(20, 200).mean(0)
    assert bool((consensus_entropy(members) > mean_of_entropies).all())
    torch.testing.assert_close(
        consensus_entropy(members) - mean_of_entropies, bald(members), rtol=1e-4, atol=2e-6
    )
    assert spearmanr(consensus_entropy(members), mean_of_entropies).statistic < 0.9


def test_bald_does_not_rank_like_entropy() -> None:
    members = committee(20, 500, 10)
    assert spearmanr(bald(members), consensus_entropy(members)).statistic < 0.9
    noise = torch.full((20, 1, 10), 0.1)
    assert float(bald(noise)) == pytest.approx(0, abs=1e-7)
    assert float(consensus_entropy(noise)) == pytest.approx(math.log(10))


def test_small_disagreements_keep_their_digits() -> None:
    """A difference of two entropies would be rounding noise here."""
    members = committee(20, 300, 10, scale=0.003)
    exact = members.double()
    mean = exact.mean(0)
    want = (exact * (exact / mean).log()).sum(-1).mean(0)
    assert float(want.max()) < 2e-5
    torch.testing.assert_close(bald(members).double(), want, rtol=1e-4, atol=1e-12)
    assert spearmanr(bald(members), want).statistic > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics_of_one_pass_equal_the_single_scores(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = committee(7, 333, 4).to(dtype)
    members[:, :5] = torch.eye(4, dtype=dtype)[0]
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 7 * 4 * 50)
    got = member_statistics(members)
    mean = members.mean(0)
    close = torch.testing.assert_close
    close(got.mean, mean)
    close(got.least_confidence, least_confidence(mean))
    close(got.margin, margin(mean))
    close(got.entropy, entropy(mean), rtol=1e-5, atol=1e-6)
    close(got.disagreement, bald(members), rtol=0, atol=0)


def test_a_score_does_not_depend_on_the_place_in_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = committee(9, 101, 7)
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 9 * 7 * 32)
    for score, _ in SCORES:
        want = score(members)
        assert torch.equal(score(members.flip(1)), want.flip(0))
        assert torch.equal(score(members[:, 5:6]), want[5:6])
        assert torch.equal(score(members[:, 2:][:, ::3]), want[2:][::3])


def test_votes_of_equal_counts_tie_exactly() -> None:
    order = torch.tensor([[0, 0, 0, 1, 1, 2, 3], [3, 3, 3, 2, 2, 1, 0], [2, 2, 2, 0, 0, 3, 1]])
    scores = vote_entropy(torch.eye(4)[order.T])
    assert scores.unique().numel() == 1


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 6),
    classes=st.integers(2, 6),
    scale=st.floats(0, 200),
    seed=st.integers(0, 2**20),
)
def test_scores_stay_in_their_range(size: int, classes: int, scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    members = (torch.randn(size, 8, classes, generator=rng) * scale).softmax(-1)
    spread = math.log(min(size, classes)) + 1e-6
    limits = [1 - 1 / min(size, classes), spread, math.log(classes) + 1e-6, spread, 0.5, spread]
    for (score, _), high in zip(SCORES, limits, strict=True):
        scores = score(members)
        assert float(scores.min()) >= 0
        assert float(scores.max()) <= high
    shuffled = members[torch.randperm(size, generator=rng)]
    for score, _ in SCORES:
        torch.testing.assert_close(score(shuffled), score(members), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", [VariationRatio(), VoteEntropy()])
def test_votes_do_not_hide_what_is_not_finite(strategy: ScoreStrategy) -> None:
    members = committee()
    members[2, 7, 1] = torch.nan
    view = PoolView(torch.arange(40) + 100, {Members(): members}, num_total=200, num_classes=3)
    with pytest.raises(ValueError, match="members that are not finite for sample 107"):
        strategy.select(view, 1, torch.Generator())


def test_a_committee_of_one_queries_at_random() -> None:
    view = PoolView(torch.arange(40), {Members(): committee(1)}, num_total=40, num_classes=3)
    query = VoteEntropy().select(view, 5, torch.Generator().manual_seed(0))
    assert query.info == {"random": True}


STRATEGIES: list[tuple[ScoreStrategy, Callable[[Rows], float]]] = [
    (VariationRatio(), loop_variation_ratio),
    (VoteEntropy(), loop_vote_entropy),
    (ConsensusEntropy(), loop_consensus_entropy),
    (MaxDisagreement(), loop_max_disagreement),
    (MeanStd(), loop_mean_std),
    (BALD(), loop_bald),
]


def label_committee(size: int = 5, count: int = 40, labels: int = 6) -> Tensor:
    """Members' probabilities of labels, some of them decided: float32, (K, N, L)."""
    rng = torch.Generator().manual_seed(size * labels)
    common = 3 * torch.randn(count, labels, generator=rng) - 2
    members = (common + torch.randn(size, count, labels, generator=rng)).sigmoid()
    members[:, 0], members[:, 1, 0], members[:, 2] = 1.0, 0.0, 1e-12
    members[0, 2, 0] = 3e-12
    return members


def view_of_labels(members: Tensor) -> PoolView:
    count, labels = members.shape[1:]
    indices = torch.arange(count) + 100
    results = {Members(): members}
    return PoolView(indices, results, num_total=200, num_classes=labels, multilabel=True)


@pytest.mark.parametrize("at_once", [2**19, 5 * 6 * 7])
@pytest.mark.parametrize(("strategy", "loop"), STRATEGIES)
def test_several_labels_are_questions_of_their_own(
    strategy: ScoreStrategy,
    loop: Callable[[Rows], float],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Yes or no for each label, by plain loops, and the mean over the labels of a sample."""
    monkeypatch.setattr(module, "BLOCK_NUMBERS", at_once)
    members = label_committee()
    want = []
    for sample in range(members.shape[1]):
        columns = members[:, sample].double().T.tolist()  # a label, the probability of each member
        want.append(math.fsum(loop([[1 - p, p] for p in label]) for label in columns) / 6)
    got = strategy.score(view_of_labels(members))
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-15)
    assert strategy.tasks == {"multiclass", "multilabel"}


def test_information_in_independent_labels_is_the_sum_of_theirs() -> None:
    """By the joint distribution of all sets of three labels, of which there are eight."""
    members = label_committee(labels=3)
    sets = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    yes = members.double().unsqueeze(2)
    joint = torch.where(sets.bool(), yes, 1 - yes).prod(3)  # of members, samples and sets
    mean = members.double().mean(0).unsqueeze(1)
    apart = torch.where(sets.bool(), mean, 1 - mean).prod(2)
    shared = loop_entropies(apart) - loop_entropies(joint.flatten(0, 1)).view(5, -1).mean(0)
    got = 3 * BALD().score(view_of_labels(members))
    torch.testing.assert_close(got, shared, rtol=1e-6, atol=1e-9)


def loop_entropies(rows: Tensor) -> Tensor:
    return torch.tensor([loop_entropy(row) for row in rows.tolist()], dtype=torch.float64)


def test_members_that_are_the_same_model_are_found_where_rows_do_not_sum_to_one() -> None:
    members = label_committee()
    check_members(members, "")
    with pytest.raises(ValueError, match="all 4 members of the committee predict the same"):
        check_members(members[:1].expand(4, -1, -1), "")
    check_members(torch.ones(4, 5, 3), "")  # all rounded to 1 tell nothing
