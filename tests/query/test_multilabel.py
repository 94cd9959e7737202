"""Multi-label scores against plain loops and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import Tensor

from dal.query import (
    DensityWeighted,
    Features,
    MaxBinaryEntropy,
    MeanBinaryEntropy,
    MultilabelMargin,
    PoolView,
    Probs,
    ScoreStrategy,
    max_binary_entropy,
    mean_binary_entropy,
    multilabel_margin,
)
from dal.query.multilabel import binary_entropy


def probabilities(labels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(labels)
    probs = torch.rand(50, labels, generator=rng, dtype=torch.float64)
    probs[0], probs[1], probs[2] = 0, 1, 0.5
    probs[3, 0], probs[3, 1] = 0.0, 1.0
    return probs.to(dtype)


def view_of(probs: Tensor) -> PoolView:
    count, labels = probs.shape
    return PoolView(torch.arange(count), {Probs(): probs}, num_total=count, num_classes=labels)


def entropies(probs: Tensor) -> np.ndarray:
    rows = probs.double().numpy()
    return np.array([[scipy_entropy([p, 1 - p]) for p in row] for row in rows])


@pytest.mark.parametrize("labels", [2, 5, 28])
def test_multilabel_margin_equals_loop(labels: int) -> None:
    probs = probabilities(labels)
    want = [-sum(abs(p - 0.5) for p in row) for row in probs.tolist()]
    assert multilabel_margin(probs).tolist() == pytest.approx(want)


def test_multilabel_margin_of_logits_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(9), math.log(9)]], dtype=torch.float64)
    want = [-0.25, -0.8]
    assert multilabel_margin(logits.sigmoid()).tolist() == pytest.approx(want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("labels", [2, 5, 28])
def test_binary_entropies_equal_scipy(labels: int, dtype: torch.dtype) -> None:
    probs = probabilities(labels, dtype)
    want = entropies(probs)
    rel = 1e-12 if dtype == torch.float64 else 1e-5
    assert binary_entropy(probs).numpy() == pytest.approx(want, rel=rel, abs=1e-12)
    assert mean_binary_entropy(probs).tolist() == pytest.approx(want.mean(1).tolist(), rel=rel)
    assert max_binary_entropy(probs).tolist() == pytest.approx(want.max(1).tolist(), rel=rel)


def test_binary_entropy_of_a_tiny_probability_keeps_its_digits() -> None:
    p = 2.0**-30
    want = -p * math.log(p) - (1 - p) * math.log1p(-p)
    assert float(binary_entropy(torch.tensor(p))) == pytest.approx(want, rel=1e-6)


def test_binary_entropy_is_in_nats_and_highest_at_one_half() -> None:
    assert float(binary_entropy(torch.tensor(0.5))) == pytest.approx(math.log(2))
    assert binary_entropy(torch.tensor([0.0, 1.0])).tolist() == [0, 0]


def test_scores_are_no_entropy_of_a_distribution_over_labels() -> None:
    """Every label certain to hold: nothing is undecided, though the rows are far from one-hot."""
    sure = torch.ones(1, 4)
    assert mean_binary_entropy(sure).tolist() == max_binary_entropy(sure).tolist() == [0]
    assert multilabel_margin(sure).tolist() == [-2]


STRATEGIES: list[tuple[ScoreStrategy, list[int]]] = [
    (MultilabelMargin(), [2, 0, 1]),
    (MeanBinaryEntropy(), [2, 0, 1]),
    (MaxBinaryEntropy(), [0, 2, 1]),
]


@pytest.mark.parametrize(("strategy", "order"), STRATEGIES)
def test_strategies_query_the_least_decided_first(
    strategy: ScoreStrategy, order: list[int]
) -> None:
    """Sample 0 has one label at one half, sample 2 all of them near, sample 1 none."""
    probs = torch.tensor([[0.5, 0.01, 0.01], [0.99, 0.02, 0.99], [0.4, 0.6, 0.4]])
    query = strategy.select(view_of(probs), 3, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == order
    assert strategy.tasks == {"multilabel"}


@pytest.mark.parametrize("strategy", [strategy for strategy, _ in STRATEGIES])
@pytest.mark.parametrize("labels", [2, 7])
def test_heights_begin_at_the_lowest_score_there_can_be(
    strategy: ScoreStrategy, labels: int
) -> None:
    view = view_of(probabilities(labels))
    before = dict(vars(strategy))
    scores = strategy.score(view)
    lowest = -labels / 2 if isinstance(strategy, MultilabelMargin) else 0
    assert float(scores.min()) == lowest
    assert strategy.heights(view, scores).tolist() == pytest.approx((scores - lowest).tolist())
    assert vars(strategy) == before  # scoring leaves a strategy as it was


def test_margin_weighted_by_density_starts_at_its_lower_bound() -> None:
    """A denser candidate must never be worse for it, whatever the number of labels."""
    probs = probabilities(6)
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    view = view_of(probs).with_result(Features(), features)
    weighted = DensityWeighted(MultilabelMargin(), neighbors=5)
    assert weighted.tasks == {"multilabel"}
    want = (multilabel_margin(probs) + 3) * weighted.density.score(view)
    assert weighted.score(view).tolist() == pytest.approx(want.tolist())
    assert float(weighted.score(view).min()) == 0
