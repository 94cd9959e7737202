"""Hybrid strategies against exact distributions, plain loops, SciPy and brute force."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from torch import Tensor

from dal.query import (
    ClusterMargin,
    Falcun,
    Features,
    MaxHerding,
    PoolView,
    Probs,
    Query,
    Strategy,
    UHerding,
)
from dal.query.hybrid import average_linkage, falcun_relevance, round_robin


def view_of(probs: Tensor, features: Tensor, labeled: Tensor | None = None) -> PoolView:
    return PoolView(
        torch.arange(len(probs)),
        {
            Probs(): probs,
            Features(): features,
            Features("labeled"): features[:0] if labeled is None else labeled,
        },
        num_total=len(probs) + 3,
        num_classes=probs.shape[1],
    )


def random_view(count: int = 60, scale: float = 1.0) -> PoolView:
    rng = torch.Generator().manual_seed(0)
    return view_of(
        (scale * torch.randn(count, 3, generator=rng)).softmax(1),
        torch.randn(count, 4, generator=rng),
        torch.randn(3, 4, generator=rng),
    )


def select(strategy: Strategy, view: PoolView, size: int, seed: int = 0) -> Query:
    return strategy.select(view, size, torch.Generator().manual_seed(seed))


FEW = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.45, 0.1, 0.45], [0.2, 0.35, 0.45]])


def falcun_weights(picked: list[int], gamma: float) -> np.ndarray:
    """Probability of each next pick, by the paper's formulas in float64."""
    probs = FEW.double().numpy()
    top = np.sort(probs, axis=1)
    unsure = 1 - (top[:, -1] - top[:, -2])
    distances = unsure.copy()
    for pick in picked:
        distances = np.minimum(distances, np.abs(probs - probs[pick]).sum(1))
    free = np.array([n not in picked for n in range(len(probs))])
    low, high = distances[free].min(), distances[free].max()
    scaled = (distances - low) / (high - low) if high > low else 0 * distances
    weights = np.where(free, (unsure + scaled) ** gamma, 0)
    return weights / weights.sum()


@pytest.mark.parametrize("gamma", [0.0, 3.0])
def test_falcun_draws_follow_the_relevance(gamma: float) -> None:
    runs, view = 1000, view_of(FEW, FEW)
    counts = Counter(
        tuple(select(Falcun(gamma), view, 3, seed).indices.tolist()) for seed in range(runs)
    )
    exact = {
        picks: np.prod([falcun_weights(list(picks[:n]), gamma)[picks[n]] for n in range(3)])
        for picks in itertools.permutations(range(4), 3)
    }
    assert sum(exact.values()) == pytest.approx(1)
    observed = [counts[picks] for picks in exact]
    assert sum(observed) == runs
    common = [n for n, p in enumerate(exact.values()) if runs * p > 2]
    expected = np.array([runs * p for p in exact.values()])
    rest = expected.sum() - expected[common].sum()
    seen = [observed[n] for n in common]
    if rest > 1e-9:
        pooled = chisquare([*seen, runs - sum(seen)], [*expected[common], rest])
    else:
        pooled = chisquare(seen, expected[common])
    assert pooled.pvalue > 0.01


def test_falcun_with_a_large_exponent_takes_the_most_relevant() -> None:
    want: list[int] = []
    for _ in range(4):
        want.append(int(falcun_weights(want, 1.0).argmax()))
    query = select(Falcun(5000.0), view_of(FEW, FEW), 4)
    assert query.indices.tolist() == want
    assert query.scores[0].item() == pytest.approx(1 - (0.45 - 0.45) + 1)


def test_falcun_relevance_is_0_where_picked() -> None:
    unsure, distances = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.0, 2.0, 1.0])
    free = torch.tensor([True, False, True])
    got = falcun_relevance(unsure, distances, free)
    torch.testing.assert_close(got, torch.tensor([0.2, 0.0, 1.9]))


def test_falcun_of_copies_and_certain_predictions_takes_each_once() -> None:
    sure = torch.eye(3).repeat(4, 1)
    for probs in (sure, sure[:1].repeat(12, 1), torch.full((12, 3), 1 / 3)):
        query = select(Falcun(), view_of(probs, probs), 12)
        assert sorted(query.indices.tolist()) == list(range(12))


@pytest.mark.parametrize("gamma", [-1.0, float("inf"), float("nan")])
def test_falcun_refuses_exponents_out_of_range(gamma: float) -> None:
    with pytest.raises(ValueError, match=r"strategy\.gamma="):
        Falcun(gamma)


def loop_round_robin(labels: list[int], size: int, keys: list[float]) -> list[int]:
    members = {
        label: sorted((n for n in range(len(labels)) if labels[n] == label), key=lambda n: keys[n])
        for label in set(labels)
    }
    queues = sorted(members.values(), key=lambda queue: (len(queue), keys[queue[0]]))
    taken: list[int] = []
    while len(taken) < size:
        for queue in queues:
            if queue and len(taken) < size:
                taken.append(queue.pop(0))
    return taken


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 1000), st.data())
def test_round_robin_equals_loop(labels: list[int], seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(labels)))
    keys = torch.rand(
        len(labels), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    got = round_robin(torch.tensor(labels), size, keys)
    assert got.tolist() == loop_round_robin(labels, size, keys.tolist())


@pytest.mark.parametrize("num_clusters", [1, 4, 30])
def test_average_linkage_equals_scipy(num_clusters: int) -> None:
    rows = random_view(30)[Features()]
    tree = linkage(rows.double().numpy(), method="average")
    want = fcluster(tree, num_clusters, "maxclust")
    got = average_linkage(rows, num_clusters).numpy()
    assert len(set(zip(got, want, strict=True))) == len(set(want)) == num_clusters


def test_cluster_margin_takes_one_of_each_blob_among_the_smallest_margins() -> None:
    rng = torch.Generator().manual_seed(0)
    blob = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3])
    features = 50 * torch.eye(4)[blob] + torch.rand(15, 4, generator=rng)
    unsure = torch.tensor([[0.5, 0.5]]).repeat(15, 1)
    unsure[10:] = torch.tensor([0.9, 0.1])
    view = view_of(unsure, features)
    for seed in range(5):
        query = select(ClusterMargin(factor=10 / 3), view, 3, seed)
        assert blob[query.indices].tolist() == [2, 1, 0]  # the smallest cluster first
        assert query.info == {"kept": 10}
        query = select(ClusterMargin(factor=2.5, clusters=0.75), view, 4, seed)
        assert blob[query.indices].tolist() == [2, 1, 0, 2]
    seen = {int(select(ClusterMargin(factor=10 / 3), view, 3, s).indices[2]) for s in range(60)}
    assert seen == {0, 1, 2, 3, 4}


def test_cluster_margin_limits_what_it_clusters() -> None:
    view = random_view()
    margins = view[Probs()].topk(2, dim=1).values.diff(dim=1).squeeze(1)  # -(p1 - p2)
    for limit, kept in [(7, 7), (3, 5), (1000, 50)]:
        query = select(ClusterMargin(limit=limit), view, 5)
        assert query.info == {"kept": kept}
        assert set(query.indices.tolist()) <= set(margins.topk(kept).indices.tolist())
        torch.testing.assert_close(query.scores, margins[query.indices])


@pytest.mark.parametrize("values", [{"factor": 0.5}, {"clusters": 0.0}, {"clusters": 2.0}])
def test_cluster_margin_refuses_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"strategy\.{next(iter(values))}="):
        ClusterMargin(**values)
    with pytest.raises(ValueError, match=r"strategy\.limit=0"):
        ClusterMargin(limit=0)


def brute_uherding(
    probs: np.ndarray, rows: np.ndarray, labeled: np.ndarray, width: float, size: int
) -> tuple[list[int], list[float]]:
    """Greedy choice by the objective itself, over all candidates, in float64."""
    top = np.sort(probs, axis=1)
    unsure = 1 - (top[:, -1] - top[:, -2])

    def objective(chosen: list[int]) -> float:
        centers = np.concatenate([labeled, rows[chosen]])
        if not len(centers):
            return 0.0
        kernel = np.exp(-(cdist(rows, centers) ** 2) / (2 * width**2))
        return float((unsure * kernel.max(1)).mean())

    chosen: list[int] = []
    gains = []
    for _ in range(size):
        free = [n for n in range(len(rows)) if n not in chosen]
        values = [objective([*chosen, n]) for n in free]
        gains.append(max(values) - objective(chosen))
        chosen.append(free[int(np.argmax(values))])
    return chosen, gains


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_uherding_equals_brute_force(normalize: bool, with_labels: bool, scale: float) -> None:
    view = random_view(40, scale)
    if not with_labels:
        view = view.with_result(Features("labeled"), view[Features()][:0])
    rows, labeled = (view[need].double().numpy() for need in (Features(), Features("labeled")))
    if normalize:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        labeled = labeled / np.linalg.norm(labeled, axis=1, keepdims=True)
    want, gains = brute_uherding(view[Probs()].double().numpy(), rows, labeled, 0.5, 8)
    query = select(UHerding(0.5, normalize), view, 8)
    assert query.indices.tolist() == want
    np.testing.assert_allclose(query.scores.double().numpy(), gains, rtol=1e-4, atol=1e-7)


def test_uherding_weighs_a_reference_sample_by_its_own_uncertainty() -> None:
    view = random_view(40, 6.0)
    rng = torch.Generator().manual_seed(4)
    torch.rand(view.num_total, generator=rng, dtype=torch.float64)
    draws = torch.rand(view.num_total, generator=rng, dtype=torch.float64)[view.indices]
    sample = draws.argsort()[:15].numpy()
    probs, rows = view[Probs()].double().numpy(), view[Features()].double().numpy()
    top = np.sort(probs[sample], axis=1)
    kernel = np.exp(-(cdist(rows, rows[sample]) ** 2) / 2)
    covered = np.exp(-(cdist(rows[sample], view[Features("labeled")].double()) ** 2) / 2).max(1)
    gains = np.maximum(kernel - covered, 0) @ (1 - top[:, -1] + top[:, -2]) / 15
    query = select(UHerding(1.0, False, reference=15), view, 1, 4)
    assert int(query.indices[0]) == gains.argmax()
    assert query.scores[0].item() == pytest.approx(gains.max(), rel=1e-4)


def test_uherding_is_maxherding_when_all_are_equally_uncertain() -> None:
    view = random_view()
    flat = view.with_result(Probs(), torch.full((60, 3), 1 / 3))
    want = select(MaxHerding(), view, 10)
    got = select(UHerding(), flat, 10)
    assert torch.equal(got.indices, want.indices)
    torch.testing.assert_close(got.scores, want.scores)


def test_uherding_turns_to_the_uncertain() -> None:
    features = torch.cat([torch.zeros(10, 2), torch.full((5, 2), 9.0)])
    probs = torch.cat([torch.tensor([[0.999, 0.001]]).repeat(10, 1), torch.full((5, 2), 0.5)])
    query = select(UHerding(1.0, normalize=False), view_of(probs, features), 2)
    assert query.indices[0] >= 10
    assert query.indices[1] < 10


@pytest.mark.parametrize("values", [{"bandwidth": 1e-30}, {"bandwidth": -1.0}, {"reference": 0}])
def test_uherding_refuses_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(values))}="):
        UHerding(**values)
