"""Diversity strategies against brute force on full float64 matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dal.query import (
    BatchStrategy,
    CoreSet,
    Features,
    KMeans,
    MaxHerding,
    PoolView,
    ProbCover,
    TypiClust,
    distances,
)
from dal.query.distances import METRICS, Metric, Points
from dal.query.diversity import k_center, nearest_members, typicality

SCIPY = {"euclidean": "euclidean", "cosine": "cosine", "pearson": "correlation"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keys_of(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=generator(seed), dtype=torch.float64)


def blobs(count: int, width: int = 4, centers: int = 5, seed: int = 0) -> Tensor:
    rng = generator(seed)
    middle = 5 * torch.randn(centers, width, generator=rng)
    which = torch.randint(centers, (count,), generator=rng)
    return middle[which] + torch.randn(count, width, generator=rng)


def table(rows: Tensor, others: Tensor, metric: str = "euclidean") -> Tensor:
    return torch.from_numpy(cdist(rows.double().numpy(), others.double().numpy(), SCIPY[metric]))


def view_of(rows: Tensor, labeled: Tensor, order: Tensor | None = None) -> PoolView:
    """Candidates have every third index, so that positions, indices and labels differ."""
    order = torch.arange(len(rows)) if order is None else order
    return PoolView(
        3 * order + 2,
        {Features(): rows[order], Features("labeled"): labeled},
        num_total=3 * len(rows) + 2,
        num_classes=4,
    )


def positions_of(indices: Tensor) -> list[int]:
    return ((indices - 2) // 3).tolist()


def farthest_first(
    rows: Tensor, labeled: Tensor, count: int, metric: str
) -> tuple[list[int], list[float]]:
    """k-center greedy with the full matrix of distances of all samples, labeled ones first."""
    everything = torch.cat([labeled, rows])
    apart = table(everything, everything, metric)
    centers = list(range(len(labeled)))
    scores = []
    for _ in range(count):
        nearest = apart[:, centers].amin(1)
        nearest[centers] = -1
        centers.append(int(nearest.argmax()))
        scores.append(float(nearest.max()))
    return [c - len(labeled) for c in centers[len(labeled) :]], scores


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_coreset_is_the_sequence_of_the_full_matrix(
    metric: Metric, dtype: torch.dtype, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(distances, "CACHE", 0)
        monkeypatch.setattr(distances, "TILE", 1)
    rows, labeled = blobs(300, 12).to(dtype), blobs(20, 12, seed=1).to(dtype)
    query = CoreSet(metric).select(view_of(rows, labeled), 60, generator())
    want, scores = farthest_first(rows, labeled, 60, metric)
    assert positions_of(query.indices) == want
    assert query.scores.tolist() == pytest.approx(scores, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 4), st.integers(0, 999))
def test_coreset_of_random_pools(count: int, labeled: int, width: int, seed: int) -> None:
    rng = generator(seed)
    rows = torch.randn(count, width, generator=rng, dtype=torch.float64)
    centers = torch.randn(labeled, width, generator=rng, dtype=torch.float64)
    wanted = 1 + seed % count
    query = CoreSet().select(view_of(rows, centers), wanted, generator(seed))
    want, scores = farthest_first(rows, centers, wanted, "euclidean")
    assert positions_of(query.indices) == want
    assert query.scores.tolist() == pytest.approx(scores)


def test_coreset_without_labels_starts_at_random() -> None:
    rows = torch.tensor([[0.0], [1.0], [5.0]])
    firsts = np.zeros(3)
    for seed in range(300):
        query = CoreSet().select(view_of(rows, rows[:0]), 3, generator(seed))
        first = positions_of(query.indices)[0]
        assert len(query.indices.unique()) == 3
        assert float(query.scores[0]) == pytest.approx([5, 4, 5][first])
        firsts[first] += 1
    assert chisquare(firsts).pvalue > 1e-3
    alone = CoreSet().select(view_of(rows[:1], rows[:0]), 1, generator())
    assert alone.scores.tolist() == [0.0]


def test_coreset_never_repeats_a_pick_and_leaves_duplicates_for_last() -> None:
    rows = blobs(30).repeat(3, 1)
    query = CoreSet().select(view_of(rows, blobs(2, seed=1)), 90, generator())
    assert len(query.indices.unique()) == 90
    assert len({p % 30 for p in positions_of(query.indices[:30])}) == 30
    assert bool((query.scores[30:] == 0).all())


def test_equal_distances_are_decided_by_the_keys() -> None:
    points = Points(torch.tensor([[0.0], [2.0], [-2.0], [1.0]]))
    nearest = points.squared_distances_to(0)
    keys = torch.tensor([0.1, 0.9, 0.2, 0.3], dtype=torch.float64)
    before = nearest.clone()
    assert k_center(points, nearest, 2, keys)[0].tolist() == [2, 1]
    assert k_center(points, nearest, 2, 1 - keys)[0].tolist() == [1, 2]
    assert torch.equal(nearest, before)
    with pytest.raises(ValueError, match="query_size=5"):
        k_center(points, nearest, 5, keys)


@pytest.mark.parametrize("metric", METRICS)
def test_kmeans_takes_one_of_each_cluster_largest_first(metric: Metric) -> None:
    rng = generator()
    middle = torch.eye(5) * 10
    which = torch.repeat_interleave(torch.arange(5), torch.tensor([10, 50, 30, 40, 20]))
    rows = middle[which] + 0.1 * torch.randn(150, 5, generator=rng)
    query = KMeans(metric).select(view_of(rows, rows[:0]), 5, generator(1))
    picked = positions_of(query.indices)
    assert which[picked].tolist() == [1, 3, 2, 4, 0]
    assert query.scores.tolist() == pytest.approx(
        [50 / 150, 40 / 150, 30 / 150, 20 / 150, 10 / 150]
    )
    if metric == "euclidean":
        for cluster, pick in zip([1, 3, 2, 4, 0], picked, strict=True):
            members = (which == cluster).nonzero().squeeze(1)
            apart = table(rows[members], rows[members].double().mean(0, keepdim=True))[:, 0]
            assert pick == int(members[apart.argmin()])


def test_kmeans_fills_up_where_clusters_are_empty() -> None:
    rows = torch.tensor([[0.0], [4.0]]).repeat(6, 1)
    query = KMeans().select(view_of(rows, rows[:0]), 9, generator())
    assert len(query.indices.unique()) == 9
    assert query.info["uninformed"] == 7
    assert query.scores[2:].tolist() == [0.0] * 7


def test_nearest_members_by_hand() -> None:
    clusters = torch.tensor([2, 0, 2, 0, 3, 2])
    squared = torch.tensor([3.0, 1.0, 2.0, 1.0, 0.0, 2.0])
    keys = torch.tensor([0.1, 0.5, 0.6, 0.4, 0.2, 0.3], dtype=torch.float64)
    positions, shares = nearest_members(clusters, squared, keys, 5)
    assert positions.tolist() == [5, 3, 4]
    assert shares.tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize("neighbors", [1, 5, 1000])
def test_typicality_is_the_inverse_mean_distance_to_neighbors(neighbors: int) -> None:
    rows = blobs(120)
    members = torch.arange(0, 120, 2)
    got = typicality(Points(rows), members, neighbors, keys_of(120), 10_000)
    apart = table(rows[members], rows[members]).fill_diagonal_(torch.inf)
    want = 1 / apart.sort(1).values[:, : min(neighbors, 30)].mean(1)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=0)


def test_typicality_of_duplicates_and_of_a_single_member() -> None:
    points = Points(torch.ones(8, 3))
    every = torch.arange(8)
    assert bool(typicality(points, every, 3, keys_of(8), 99).isfinite().all())
    assert typicality(points, every[:1], 3, keys_of(8), 99).tolist() == [0.0]


def test_typicality_from_a_sample_of_neighbors_ranks_alike() -> None:
    rows = torch.randn(2000, 2, generator=generator())
    every = torch.arange(2000)
    whole = typicality(Points(rows), every, 20, keys_of(2000), 10_000)
    part = typicality(Points(rows), every, 20, keys_of(2000), 500)
    assert float(torch.corrcoef(torch.stack([whole, part]).log())[0, 1]) > 0.9


def test_typiclust_queries_uncovered_clusters_the_largest_first() -> None:
    rng = generator()
    middle = torch.eye(6) * 10
    which = torch.repeat_interleave(torch.arange(6), torch.tensor([60, 20, 50, 30, 40, 10]))
    rows = middle[which] + torch.randn(210, 6, generator=rng)
    labeled = middle[[0, 4]]
    strategy = TypiClust(neighbors=7, normalize=False)
    query = strategy.select(view_of(rows, labeled), 4, generator(3))
    picked = positions_of(query.indices)
    assert which[picked].tolist() == [2, 3, 1, 5], "0 and 4 are covered"
    for pick, score in zip(picked, query.scores.tolist(), strict=True):
        members = (which == which[pick]).nonzero().squeeze(1)
        apart = table(rows[members], rows[members]).fill_diagonal_(torch.inf).sort(1).values
        typical = 1 / apart[:, : min(7, len(members) // 2)].mean(1)
        assert pick == int(members[typical.argmax()])
        assert score == pytest.approx(float(typical.max()), rel=1e-4)


def test_typiclust_goes_round_when_clusters_are_fewer_than_queries() -> None:
    which = torch.repeat_interleave(torch.arange(2), torch.tensor([40, 20]))
    rows = torch.eye(2)[which] * 10 + torch.randn(60, 2, generator=generator())
    strategy = TypiClust(max_clusters=2, normalize=False)
    query = strategy.select(view_of(rows, rows[:0]), 6, generator())
    assert which[positions_of(query.indices)].tolist() == [0, 1, 0, 1, 0, 1]


def test_typiclust_small_clusters_come_last_but_are_reached() -> None:
    which = torch.repeat_interleave(torch.arange(3), torch.tensor([8, 5, 6]))
    rows = torch.eye(3)[which] * 30 + torch.randn(19, 3, generator=generator())
    strategy = TypiClust(max_clusters=3, normalize=False)
    query = strategy.select(view_of(rows, rows[:0]), 19, generator())
    order = which[positions_of(query.indices)].tolist()
    assert set(order[:14]) == {0, 2}
    assert order[14:] == [1] * 5


def test_typiclust_of_directions_ignores_lengths() -> None:
    rows, labeled = blobs(100) + 4, blobs(3, seed=1) + 4
    want = TypiClust().select(view_of(rows, labeled), 8, generator())
    got = TypiClust().select(
        view_of(rows * (1 + torch.arange(100)[:, None]), labeled), 8, generator()
    )
    assert torch.equal(got.indices, want.indices)


STRATEGIES = [
    CoreSet(),
    CoreSet("pearson"),
    KMeans(),
    KMeans("cosine", sample=40),
    TypiClust(),
    TypiClust(neighbors=3, max_clusters=6, reference=10),
]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_order_of_the_pool_does_not_matter(strategy: BatchStrategy) -> None:
    rows, labeled = blobs(100), blobs(6, seed=1)
    want = strategy.select(view_of(rows, labeled), 20, generator())
    for seed in range(3):
        order = torch.randperm(100, generator=generator(seed))
        got = strategy.select(view_of(rows, labeled, order), 20, generator())
        assert torch.equal(got.indices, want.indices)
        assert torch.equal(got.scores, want.scores)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("labeled", [0, 6])
def test_all_can_be_chosen_each_once(strategy: BatchStrategy, labeled: int) -> None:
    rows = blobs(70).round()  # with duplicates
    before = rows.clone()
    query = strategy.select(view_of(rows, blobs(labeled)), 70, generator())
    assert len(query.indices.unique()) == 70
    assert bool(query.scores.isfinite().all())
    assert torch.equal(rows, before)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_file_in_half_precision_is_read_in_blocks(
    strategy: BatchStrategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labeled = blobs(600).half(), blobs(7, seed=1).half()
    rows.numpy().tofile(tmp_path / "rows")
    file = torch.from_numpy(np.memmap(tmp_path / "rows", np.float16, "r+", shape=(600, 4)))
    want = strategy.select(view_of(rows, labeled), 15, generator())
    monkeypatch.setattr(distances, "CACHE", 0)
    got = strategy.select(view_of(file, labeled), 15, generator())
    assert torch.equal(got.indices, want.indices)


class Largest(TorchDispatchMode):
    """Remembers the most bytes that an operation allocated for one result."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in tree_leaves(args) if isinstance(a, Tensor)}
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                storage = result.untyped_storage()
                if storage.data_ptr() not in given:
                    self.bytes = max(self.bytes, storage.nbytes())
        return results


@pytest.mark.parametrize(
    "strategy",
    [
        CoreSet("cosine"),
        KMeans(sample=300),
        TypiClust(reference=100),
        ProbCover(reference=100),
        MaxHerding(reference=100),
    ],
)
def test_rows_in_half_precision_are_never_held_in_full(
    strategy: BatchStrategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("coverage", "diversity"):
        monkeypatch.setattr(f"dal.query.{module}.FIT", 300)
    monkeypatch.setattr("dal.query.base.BLOCK", 64)
    monkeypatch.setattr("dal.query.coverage.SAMPLE", 100)
    monkeypatch.setattr(distances, "CACHE", 0)
    monkeypatch.setattr("dal.query.coverage.TILE", 2**13)
    monkeypatch.setattr(distances, "TILE", 2**13)
    rows, labeled = blobs(4000, 256).half(), blobs(9, 256, seed=1).half()
    view = view_of(rows, labeled)
    with Largest() as largest:
        query = strategy.select(view, 20, generator())
    assert len(query.indices.unique()) == 20
    assert largest.bytes <= rows.numel() * 4 / 7, "32 numbers a candidate at most"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labeled_features_that_are_not_finite_are_refused(strategy: BatchStrategy) -> None:
    if Features("labeled") not in strategy.needs:
        pytest.skip("looks at no labeled sample")
    labeled = blobs(5)
    labeled[3, 1] = torch.nan
    with pytest.raises(ValueError, match="features are not finite: 1, first number 3"):
        strategy.select(view_of(blobs(20), labeled), 2, generator())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoreSet("manhattan"), "choose euclidean, cosine, pearson"),
        (lambda: KMeans("l1"), "choose euclidean, cosine, pearson"),
        (lambda: KMeans(iterations=0), "iterations=0"),
        (lambda: KMeans(sample=0), "sample=0"),
        (lambda: TypiClust(neighbors=0), "neighbors=0"),
        (lambda: TypiClust(max_clusters=0), "max_clusters=0"),
        (lambda: TypiClust(reference=0), "reference=0"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
