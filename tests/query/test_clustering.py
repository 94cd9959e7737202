"""k-means++ draws against their distribution, k-means against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.cluster import KMeans
from torch import Tensor

from dal.query import clustering, distances
from dal.query.clustering import assign, d_squared_sampling, greedy_start, kmeans, lloyd
from dal.query.distances import Points


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int, width: int = 5, centers: int = 6, seed: int = 0) -> Tensor:
    rng = generator(seed)
    middle = 2 * torch.randn(centers, width, generator=rng)
    which = torch.randint(centers, (count,), generator=rng)
    return middle[which] + torch.randn(count, width, generator=rng) + 3


def inertia(rows: Tensor, centers: Tensor) -> float:
    return float(torch.cdist(rows.double(), centers.double()).amin(1).square().sum())


def nearest_in(table: Tensor) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Distances to the nearest of some points, from those between all."""
    return lambda to, among: table[to].amin(0)[slice(None) if among is None else among]


@pytest.mark.parametrize("width", [1, 2, 16])
def test_draws_follow_the_distribution_of_k_means_plus_plus(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "WIDTH", width)
    rows = torch.tensor([[0.0], [1.0], [3.0], [7.0], [7.5]], dtype=torch.float64)
    table = (rows - rows.T) ** 2
    outcomes = list(permutations([0, 1, 3, 4], 2))
    expected = []
    for second, third in outcomes:  # the first is row 2
        left = torch.minimum(table[2], table[second])
        expected.append(table[2, second] / table[2].sum() * left[third] / left.sum())
    assert float(sum(expected)) == pytest.approx(1)
    rng = generator(3)
    counts = dict.fromkeys(outcomes, 0)
    for _ in range(2000):
        first, second, third = d_squared_sampling(nearest_in(table), 2, 3, rng).tolist()
        assert first == 2
        counts[second, third] += 1
    assert chisquare(list(counts.values()), 2000 * np.array(expected)).pvalue > 1e-3


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 99), st.data())
def test_draws_are_distinct_even_among_duplicates(
    count: int, distinct: int, seed: int, data: st.DataObject
) -> None:
    rows = torch.arange(count, dtype=torch.float32)[:, None] % distinct
    first = data.draw(st.integers(0, count - 1))
    wanted = data.draw(st.integers(1, count))
    points = Points(rows)
    table = points.squared_distances(points.take(torch.arange(count)))
    got = d_squared_sampling(nearest_in(table), first, wanted, generator(seed))
    assert got[0] == first
    assert len(got) == len(got.unique()) == wanted
    groups = {int(i) % distinct for i in got[: min(distinct, count)]}
    assert len(groups) == min(wanted, distinct, count), "a duplicate before something new"


def test_what_coincides_is_drawn_uniformly() -> None:
    rng = generator()
    zero = torch.zeros(4)
    seconds = [int(d_squared_sampling(lambda *_: zero, 1, 2, rng)[1]) for _ in range(3000)]
    assert chisquare(np.bincount(seconds, minlength=4)[[0, 2, 3]]).pvalue > 1e-3


def test_draws_take_few_passes_over_the_points() -> None:
    points = Points(torch.randn(2000, 5, generator=generator()))
    table = points.squared_distances(points.take(torch.arange(2000)))
    passes = 0

    def nearest(to: Tensor, among: Tensor | None) -> Tensor:
        nonlocal passes
        passes += among is None
        return nearest_in(table)(to, among)

    assert len(d_squared_sampling(nearest, 0, 100, generator()).unique()) == 100
    assert passes <= 12


def test_distances_of_the_caller_are_not_modified() -> None:
    table = torch.rand(6, 6, generator=generator()) + 1
    before = table.clone()
    d_squared_sampling(nearest_in(table), 0, 6, generator())
    assert torch.equal(table, before)
    with pytest.raises(ValueError, match="query_size=7"):
        d_squared_sampling(nearest_in(table), 0, 7, generator())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("streamed", [False, True])
def test_lloyd_ends_where_scikit_learn_does(
    dtype: torch.dtype, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(distances, "CACHE", 0)
        monkeypatch.setattr(distances, "TILE", 1)
    rows = blobs(400).to(dtype)
    start = rows[:8].double()
    peer = KMeans(8, init=start.numpy(), n_init=1, max_iter=300, tol=0).fit(rows.double().numpy())
    points = Points(rows)
    assert points.origin_D is not None
    centers, assignment = lloyd(points, points.take(torch.arange(8)), 300)
    moved = centers + points.origin_D
    assert inertia(rows, moved) == pytest.approx(peer.inertia_, rel=1e-5)
    assert assignment.tolist() == peer.labels_.tolist()
    torch.testing.assert_close(
        moved.double(), torch.from_numpy(peer.cluster_centers_), atol=1e-4, rtol=1e-4
    )


def test_start_is_as_good_as_that_of_scikit_learn() -> None:
    rows = blobs(600, centers=12)
    points = Points(rows)
    assert points.origin_D is not None
    ours = [
        inertia(rows, kmeans(points, 12, generator(seed), 100)[0] + points.origin_D)
        for seed in range(8)
    ]
    theirs = [
        KMeans(12, n_init=1, random_state=seed).fit(rows.numpy()).inertia_ for seed in range(8)
    ]
    assert np.mean(ours) < 1.03 * np.mean(theirs)


def test_start_finds_every_cluster() -> None:
    rng = generator()
    which = torch.arange(400) % 16
    rows = 20 * torch.eye(16)[which] + torch.randn(400, 16, generator=rng)
    found = [
        len(which[greedy_start(Points(rows), 16, generator(seed))].unique()) for seed in range(10)
    ]
    assert np.mean(found) > 15.9


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 99), st.data())
def test_start_is_distinct_even_among_duplicates(
    count: int, distinct: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, count))
    rows = torch.arange(count, dtype=torch.float32)[:, None] % distinct
    start = greedy_start(Points(rows), k, generator(seed))
    assert len(start.unique()) == k
    assert len(rows[start].unique()) == min(k, distinct, count)


def test_assignment_is_to_the_nearest_of_the_centers_returned() -> None:
    points = Points(blobs(300))
    for iterations in (0, 1, 3, 100):
        centers, assignment = kmeans(points, 7, generator(), iterations)
        table = torch.cdist(points.take(torch.arange(300)), centers)
        assert torch.equal(assignment, table.argmin(1))
        nearest, squared = assign(points, centers)
        assert torch.equal(nearest, assignment)
        torch.testing.assert_close(squared, table.amin(1) ** 2, atol=1e-4, rtol=1e-4)


def test_clusters_do_not_stay_empty() -> None:
    rows = blobs(60)
    points = Points(rows)
    far = torch.full((4, 5), 1e3) + torch.arange(4)[:, None]
    start = torch.cat([points.take(torch.tensor([0])), far])
    _, assignment = lloyd(points, start, 50)
    assert len(assignment.unique()) == 5


def test_fewer_distinct_points_than_clusters() -> None:
    points = Points(torch.tensor([[0.0], [5.0]]).repeat(10, 1))
    centers, assignment = kmeans(points, 6, generator())
    assert centers.isfinite().all()
    assert len(assignment.unique()) == 2
    assert bool((assign(points, centers)[1] == 0).all())


def test_fitted_on_a_sample_all_are_assigned() -> None:
    rows = blobs(2000, centers=4, seed=5)
    points = Points(rows)
    assert points.origin_D is not None
    whole = inertia(rows, kmeans(points, 4, generator())[0] + points.origin_D)
    centers, assignment = kmeans(points, 4, generator(), sample=200)
    assert assignment.shape == (2000,)
    assert inertia(rows, centers + points.origin_D) < 1.3 * whole


def test_seed_decides_and_nothing_else() -> None:
    points = Points(blobs(500))
    state = torch.get_rng_state()
    first, again, other = (kmeans(points, 9, generator(s), sample=300)[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_file_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = blobs(800)
    rows.half().numpy().tofile(tmp_path / "rows")
    file = torch.from_numpy(np.memmap(tmp_path / "rows", np.float16, "r+", shape=(800, 5)))
    want = kmeans(Points(rows.half()), 6, generator())[1]
    monkeypatch.setattr(distances, "CACHE", 0)
    got = kmeans(Points(file), 6, generator())[1]
    assert torch.equal(got, want)
    assert torch.equal(file, rows.half())


@pytest.mark.parametrize("k", [0, 11])
def test_number_of_clusters_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} clusters of 10 points"):
        kmeans(Points(blobs(10)), k, generator())
