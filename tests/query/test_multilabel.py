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
from dal.query.multilabel import binary_entropy, label_weights
from dal.query.needs import Labels


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


LABELS_SO_FAR = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("balance", [0.5, 1.0, 2.0])
def test_weights_are_inverse_frequencies_with_one_of_each_kind_added(balance: float) -> None:
    want = [(6 / (n + 1)) ** balance for n in (3, 1, 0)]
    got = label_weights(LABELS_SO_FAR, balance)
    assert got.tolist() == pytest.approx([3 * w / sum(want) for w in want])
    assert float(got.mean()) == pytest.approx(1)


def test_before_the_first_label_all_count_alike() -> None:
    assert label_weights(torch.zeros(0, 3, dtype=torch.int64), 1.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("balance", [0.5, 1.0])
@pytest.mark.parametrize("kind", [MultilabelMargin, MeanBinaryEntropy, MaxBinaryEntropy])
def test_balanced_scores_equal_loops(kind: type[ScoreStrategy], balance: float) -> None:
    probs = probabilities(3)
    strategy = kind(balance)  # type: ignore[call-arg]
    assert strategy.needs == {Probs(), Labels()}
    view = view_of(probs).with_result(Labels(), LABELS_SO_FAR)
    raw = [(6 / (n + 1)) ** balance for n in (3, 1, 0)]
    weights = np.array([3 * w / sum(raw) for w in raw])
    if kind is MultilabelMargin:
        want = -(np.abs(probs.numpy() - 0.5) * weights).sum(1)
    else:
        terms = entropies(probs) * weights
        want = terms.mean(1) if kind is MeanBinaryEntropy else terms.max(1)
    scores = strategy.score(view)
    assert scores.tolist() == pytest.approx(want.tolist(), abs=1e-12)
    lowest = -1.5 if kind is MultilabelMargin else 0
    assert strategy.heights(view, scores).tolist() == pytest.approx((want - lowest).tolist())


def test_of_two_doubts_that_about_the_rarer_label_comes_first() -> None:
    probs = torch.tensor([[0.5, 0.1, 0.1], [0.1, 0.1, 0.5], [0.1, 0.1, 0.1]])
    view = view_of(probs).with_result(Labels(), LABELS_SO_FAR)
    for kind in (MultilabelMargin, MeanBinaryEntropy, MaxBinaryEntropy):
        query = kind(1.0).select(view, 3, torch.Generator().manual_seed(0))
        assert query.indices.tolist()[0] == 1


def test_balance_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"strategy\.balance=-1"):
        MultilabelMargin(-1)
