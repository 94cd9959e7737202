"""Uncertainty scores against SciPy and plain float64 loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from dal.query import (
    DensityWeighted,
    Entropy,
    Features,
    LeastConfidence,
    Margin,
    Parallel,
    PoolView,
    Probs,
    Random,
    ScoreStrategy,
    entropy,
    indecision,
    least_confidence,
    margin,
)
from dal.query.base import check_finite

Score = Callable[[Tensor], Tensor]


def loop_least_confidence(row: list[float]) -> float:
    return 1 - max(row)


def loop_margin(row: list[float]) -> float:
    first, second = sorted(row, reverse=True)[:2]
    return -(first - second)


def loop_entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


SCORES: list[tuple[Score, Callable[[list[float]], float]]] = [
    (least_confidence, loop_least_confidence),
    (margin, loop_margin),
    (entropy, loop_entropy),
]


def random_probs(classes: int, scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    rng = torch.Generator().manual_seed(classes)
    return (torch.randn(64, classes, generator=rng) * scale).to(dtype).softmax(1)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4], ids=["flat", "mild", "sure", "saturated"])
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("score", "loop"), SCORES)
def test_score_equals_loop(
    score: Score, loop: Callable[[list[float]], float], classes: int, scale: float
) -> None:
    probs = random_probs(classes, scale)
    if scale == 1e4:
        assert bool((probs == 0).any())
    copy = probs.clone()
    got = score(probs)
    assert torch.equal(probs, copy)
    assert got.shape == (64,)
    assert bool(torch.isfinite(got).all())
    want = torch.tensor([loop(row) for row in probs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    probs = random_probs(classes, scale, torch.float64)  # rows sum to one in float64 as well
    want = torch.tensor([loop(row) for row in probs.tolist()], dtype=torch.float64)
    exact = score(probs)
    torch.testing.assert_close(exact, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 10])
def test_entropy_is_in_nats(classes: int) -> None:
    probs = random_probs(classes, 2.0).double()
    want = torch.from_numpy(scipy_entropy(probs.numpy(), axis=1))
    torch.testing.assert_close(entropy(probs), want)
    uniform = torch.full((1, classes), 1 / classes, dtype=torch.float64)
    assert float(entropy(uniform)) == pytest.approx(math.log(classes))


@pytest.mark.parametrize(("score", "_"), SCORES)
def test_score_is_higher_where_the_model_is_less_sure(score: Score, _: object) -> None:
    rows = [[1.0, 0.0, 0.0], [0.9, 0.06, 0.04], [0.6, 0.25, 0.15], [0.36, 0.33, 0.31]]
    got = score(torch.tensor(rows))
    assert bool((got.diff() > 0).all())


@pytest.mark.parametrize(
    ("strategy", "loop"),
    [
        (LeastConfidence(), loop_least_confidence),
        (Margin(), loop_margin),
        (Entropy(), loop_entropy),
    ],
)
def test_strategy_takes_the_highest_of_its_scores(
    strategy: ScoreStrategy, loop: Callable[[list[float]], float]
) -> None:
    probs = random_probs(3, 1.0).double()
    view = PoolView(torch.arange(64) + 5, {Probs(): probs}, num_total=80, num_classes=3)
    query = strategy.select(view, 9, torch.Generator())
    want = sorted(((loop(row), i + 5) for i, row in enumerate(probs.tolist())), reverse=True)[:9]
    assert query.indices.tolist() == [index for _, index in want]
    assert query.scores.tolist() == pytest.approx([score for score, _ in want])


GAPS = torch.linspace(1, 80, 200)
"""Differences of two logits; above 17 the higher probability rounds to 1 in float32."""


def saturated(classes: int) -> PoolView:
    """Samples ever surer of their class, in float32: all but the two highest share what is left."""
    logits = torch.zeros(len(GAPS), classes)
    logits[:, 0] = GAPS
    logits[:, 2:] = -1.0
    probs = logits[:, torch.randperm(classes, generator=torch.Generator().manual_seed(0))].softmax(
        1
    )
    assert float((probs.max(1).values == 1).float().mean()) > 0.7
    return PoolView(
        torch.arange(len(GAPS)), {Probs(): probs}, num_total=len(GAPS), num_classes=classes
    )


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_values_keep_their_digits_where_the_highest_probability_rounds_to_one(
    classes: int,
) -> None:
    probs = saturated(classes)[Probs()]
    second = GAPS.double().neg().exp()
    others = second * (1 + (classes - 2) / math.e)
    close = torch.testing.assert_close
    close(least_confidence(probs), others / (1 + others), rtol=1e-5, atol=0)
    close(indecision(probs), (others + second) / (1 + others), rtol=1e-5, atol=0)
    close(margin(probs), (second - 1) / (1 + others), rtol=0, atol=1e-7)
    assert bool((margin(probs).diff()[GAPS[1:] < 34] < 0).all())


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(
    "strategy",
    [
        LeastConfidence(),
        Margin(),
        Parallel({"margin": Margin()}, {"margin": 1.0}, "ranks"),
        DensityWeighted(Margin(), beta=0.0),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_order_survives_where_the_highest_probability_rounds_to_one(
    strategy: ScoreStrategy, classes: int
) -> None:
    view = saturated(classes).with_result(Features(), GAPS.unsqueeze(1))
    for size in (len(GAPS), 100, 150):
        query = strategy.select(view, size, torch.Generator().manual_seed(0))
        assert query.indices.tolist() == list(range(size))
        assert query.info["tied"] == 0


def test_rows_of_the_same_numbers_tie_whatever_their_order() -> None:
    row = torch.tensor([0.1, 0.3, 0.37, 0.2, 0.03])
    rng = torch.Generator().manual_seed(0)
    rows = torch.stack([row[torch.randperm(5, generator=rng)] for _ in range(50)])
    for score in (least_confidence, margin):
        assert len(score(rows).unique()) == 1


@pytest.mark.parametrize("score", [least_confidence, margin])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_number_that_is_not_finite_makes_the_score_so(score: Score, bad: float) -> None:
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    for place in range(3):
        spoiled = rows.clone()
        spoiled[1, place] = bad
        assert torch.isfinite(score(spoiled)).tolist() == [True, False]


def test_margin_is_not_positive() -> None:
    assert margin(torch.tensor([[0.7, 0.2, 0.1]])).item() == pytest.approx(-0.5)
    assert margin(torch.tensor([[0.4, 0.2, 0.4]])).item() == 0


def test_two_classes_rank_alike() -> None:
    probs = random_probs(2, 1.0).double()
    order = least_confidence(probs).argsort()
    assert torch.equal(order, margin(probs).argsort())
    assert torch.equal(order, entropy(probs).argsort())


def test_check_finite_names_strategy_and_first_sample() -> None:
    indices = torch.tensor([11, 22, 33, 44])
    check_finite(torch.zeros(4), indices, "Mine")
    scores = torch.tensor([0.0, torch.inf, 1.0, torch.nan])
    with pytest.raises(ValueError, match=r"Mine scored sample 22 with inf \(2 of 4 scores"):
        check_finite(scores, indices, "Mine")


def test_random_covers_the_pool_evenly() -> None:
    view = PoolView(torch.arange(5, 15), {}, num_total=20, num_classes=2)
    rng = torch.Generator().manual_seed(0)
    counts = torch.zeros(20)
    for _ in range(1000):
        query = Random().select(view, 3, rng)
        assert query.info == {"random": True}
        counts[query.indices] += 1
    assert counts.sum() == 3000
    assert bool((counts[:5] == 0).all())
    assert bool((counts[15:] == 0).all())
    # Chi-square of 10 cells, inflated by no more than 1 for draws without replacement: p = 0.001.
    assert float((counts[5:15] - 300).square().sum() / 300) < 27.9


def test_view_refuses_what_was_not_computed() -> None:
    view = PoolView(torch.arange(3), {}, num_total=3, num_classes=2)
    with pytest.raises(KeyError, match="list it in the strategy's needs"):
        view[Probs()]
    assert torch.equal(view.with_result(Probs(), torch.ones(3, 2))[Probs()], torch.ones(3, 2))
    with pytest.raises(KeyError):
        view[Probs()]
