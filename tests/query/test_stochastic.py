"""Stochastic batches against the exact distribution of draws without replacement."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from dal.query import (
    BALD,
    Entropy,
    Members,
    PoolView,
    Probs,
    Random,
    ScoreStrategy,
    StochasticBatch,
)
from dal.query.stochastic import RULES, Rule, draw_without_replacement, gumbel, log_weights


class Given(ScoreStrategy):
    """Scores handed in as probabilities of the first class."""

    needs = frozenset({Probs()})

    def __init__(self, lower_bound: float = 0.0) -> None:
        self.lower_bound = lower_bound

    def score(self, view: PoolView) -> Tensor:
        return view[Probs()][:, 0]


def view_of(scores: list[float] | Tensor, indices: Tensor | None = None) -> PoolView:
    values = torch.as_tensor(scores, dtype=torch.float64).unsqueeze(1)
    indices = torch.arange(len(values)) if indices is None else indices
    return PoolView(indices, {Probs(): values}, num_total=50, num_classes=2)


def plackett_luce(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of every ordered draw of k without replacement."""
    table: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(len(weights)), k):
        left, p = math.fsum(weights), 1.0
        for position in order:
            p *= weights[position] / left
            left -= weights[position]
        table[order] = p
    return table


SCORES = [0.1, 0.9, 0.4, 0.25]


@pytest.mark.parametrize(
    ("rule", "beta", "weights"),
    [
        ("power", 1.0, SCORES),
        ("power", 2.5, [s**2.5 for s in SCORES]),
        ("power", 0.0, [1, 1, 1, 1]),
        ("softmax", 1.0, [math.exp(s) for s in SCORES]),
        ("softmax", 4.0, [math.exp(4 * s) for s in SCORES]),
        ("softrank", 1.0, [1 / 4, 1, 1 / 2, 1 / 3]),
        ("softrank", 2.0, [1 / 16, 1, 1 / 4, 1 / 9]),
    ],
)
def test_draws_follow_plackett_luce(rule: Rule, beta: float, weights: list[float]) -> None:
    strategy = StochasticBatch(Given(), rule, beta)
    rng = torch.Generator().manual_seed(11)
    draws = 1500
    counts = Counter(
        tuple(strategy.select(view_of(SCORES), 2, rng).indices.tolist()) for _ in range(draws)
    )
    table = plackett_luce(weights, 2)
    assert set(counts) <= set(table)
    common = [order for order, p in table.items() if p * draws >= 5]
    rest = [order for order in table if order not in common]
    observed = [counts[order] for order in common]
    expected = [table[order] * draws for order in common]
    if rest:
        observed.append(sum(counts[order] for order in rest))
        expected.append(sum(table[order] for order in rest) * draws)
    assert chisquare(observed, expected).pvalue > 1e-3


def test_draw_of_many_has_the_marginals_of_the_weights() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0, 7.0], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    noise = gumbel(80_000, rng).view(20_000, 4)
    first = torch.cat([draw_without_replacement(weights.log(), row, 1) for row in noise[:4000]])
    counts = first.bincount(minlength=4)
    assert counts[0] == 0
    assert chisquare(counts[1:].numpy(), [400, 800, 2800]).pvalue > 1e-3
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_power_shifts_scores_by_their_lower_bound() -> None:
    shifted = StochasticBatch(Given(lower_bound=-1.0), "power")
    plain = StochasticBatch(Given(), "power")
    for seed in range(20):
        queries = [
            strategy.select(view_of(scores), 3, torch.Generator().manual_seed(seed))
            for strategy, scores in [(shifted, [s - 1 for s in SCORES]), (plain, SCORES)]
        ]
        assert torch.equal(queries[0].indices, queries[1].indices)


def test_power_takes_worthless_samples_last_and_at_random() -> None:
    scores = [0.0, 0.3, 0.0, 1e-12, 0.0, 0.8]
    rng = torch.Generator().manual_seed(0)
    strategy = StochasticBatch(Given(), "power")
    orders = [strategy.select(view_of(scores), 6, rng).indices.tolist() for _ in range(200)]
    assert all(set(order[:3]) == {1, 3, 5} for order in orders)
    last = Counter(order[5] for order in orders)
    assert set(last) == {0, 2, 4}
    assert min(last.values()) > 40


def test_softrank_ranks_equal_scores_at_random() -> None:
    rng = torch.Generator().manual_seed(0)
    strategy = StochasticBatch(Given(), "softrank", beta=50.0)
    first = Counter(
        int(strategy.select(view_of([0.5, 0.5, 0.1]), 1, rng).indices) for _ in range(200)
    )
    assert set(first) == {0, 1}
    assert min(first.values()) > 60


@pytest.mark.parametrize("rule", RULES)
def test_large_beta_takes_the_top(rule: Rule) -> None:
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0))
    query = StochasticBatch(Given(), rule, beta=1e6).select(
        view_of(scores), 10, torch.Generator().manual_seed(0)
    )
    assert query.indices.tolist() == view_of(scores)[Probs()][:, 0].topk(10).indices.tolist()
    assert torch.equal(query.scores, scores.double()[query.indices])


@pytest.mark.parametrize("rule", RULES)
def test_a_draw_does_not_depend_on_the_order_of_the_pool(rule: Rule) -> None:
    scores = torch.rand(30, generator=torch.Generator().manual_seed(0))
    indices = torch.arange(30) + 7
    want = StochasticBatch(Given(), rule).select(
        view_of(scores, indices), 8, torch.Generator().manual_seed(3)
    )
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    got = StochasticBatch(Given(), rule).select(
        view_of(scores[order], indices[order]), 8, torch.Generator().manual_seed(3)
    )
    assert torch.equal(got.indices, want.indices)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=30),
    rule=st.sampled_from(RULES),
    beta=st.floats(0, 100),
    seed=st.integers(0, 2**20),
)
def test_every_sample_is_drawn_once(
    scores: list[float], rule: Rule, beta: float, seed: int
) -> None:
    values = torch.tensor(scores, dtype=torch.float64)
    rng = torch.Generator().manual_seed(seed)
    keys = torch.rand(len(values), generator=rng, dtype=torch.float64)
    weights = log_weights(values, keys, rule, 0.0)
    scaled = beta * weights if beta else torch.zeros_like(weights)
    drawn = draw_without_replacement(scaled, gumbel(len(values), rng), len(values))
    assert sorted(drawn.tolist()) == list(range(len(values)))
    if rule == "power" and beta:
        positive = int((scaled > -torch.inf).sum())
        assert bool((scaled[drawn[:positive]] > -torch.inf).all())


def test_takes_needs_and_readiness_from_its_score() -> None:
    strategy = StochasticBatch(BALD())
    assert strategy.needs == frozenset({Members()})
    one = torch.rand(1, 5, 3).softmax(-1)
    view = PoolView(torch.arange(5), {Members(): one}, num_total=5, num_classes=3)
    query = strategy.select(view, 2, torch.Generator().manual_seed(0))
    assert query.info == {"random": True}
    assert StochasticBatch(Entropy()).tasks == Entropy.tasks


@pytest.mark.parametrize(
    ("settings_", "error", "fact"),
    [
        ({"score": Given(), "rule": "hard"}, ValueError, "choose power, softmax, softrank"),
        ({"score": Given(), "beta": -1.0}, ValueError, "beta=-1.0"),
        ({"score": Given(), "beta": math.inf}, ValueError, "beta=inf"),
        ({"score": Given(), "beta": math.nan}, ValueError, "beta=nan"),
        ({"score": Given(-math.inf)}, ValueError, "Given has none; choose softmax or softrank"),
        ({"score": Random()}, TypeError, "Random scores no single candidates"),
    ],
)
def test_meaningless_settings_are_refused(
    settings_: dict[str, object], error: type[Exception], fact: str
) -> None:
    with pytest.raises(error, match=fact):
        StochasticBatch(**settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
def test_a_huge_beta_takes_the_highest_scores(rule: Rule) -> None:
    scores = torch.linspace(0.001, 0.1, 40)
    strategy = StochasticBatch(Given(), rule, beta=1e308)
    query = strategy.select(view_of(scores), 5, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == [39, 38, 37, 36, 35]
