"""Distances against float64 definitions from SciPy, in memory and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from dal.query import distances
from dal.query.distances import (
    METRICS,
    Metric,
    Points,
    check_metric,
    gaussian_sums,
    nearest_neighbors,
    nearest_squared_distances,
    prepare,
    rows_per_block,
    squared_distances_to,
    squared_norms,
)

SCIPY = {"euclidean": "sqeuclidean", "cosine": "cosine", "pearson": "correlation"}


def rows_of(count: int, width: int = 16, seed: int = 0, offset: float = 0.5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=rng) + offset


def exact(rows: Tensor, others: Tensor, metric: str = "euclidean") -> Tensor:
    """What SciPy measures, as squared Euclidean distances."""
    found = torch.from_numpy(cdist(rows.double().numpy(), others.double().numpy(), SCIPY[metric]))
    return found if metric == "euclidean" else 2 * found


@pytest.fixture(params=[True, False], ids=["kept", "streamed"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With a prepared copy, and without one in several small blocks."""
    if not request.param:
        monkeypatch.setattr(distances, "CACHE", 0)
        monkeypatch.setattr(distances, "TILE", 1)
    return bool(request.param)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("metric", METRICS)
def test_squared_distances_of_every_metric(metric: Metric, dtype: torch.dtype, kept: bool) -> None:
    rows = rows_of(150).to(dtype)
    want = exact(rows, rows, metric)
    points = Points(rows, metric)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for position in (0, 77, 149):
        got = points.squared_distances_to(position)
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(got.double(), want[position], atol=tolerance, rtol=tolerance)
        assert got[position] == 0
    some = points.squared_distances(points.take(torch.tensor([3, 140])))
    torch.testing.assert_close(some.double(), want[[3, 140]], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_squared_distances_to_a_point(dtype: torch.dtype) -> None:
    rows = rows_of(9000, 3).to(dtype)
    before = rows.clone()
    point = rows[4].double() if dtype == torch.float64 else rows[4].float()
    got = squared_distances_to(rows, squared_norms(rows), point)
    torch.testing.assert_close(got.double(), exact(rows, rows[4:5])[:, 0], atol=1e-5, rtol=1e-5)
    assert got[4] == 0
    assert torch.equal(rows, before)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_not_modified_and_no_row_depends_on_the_cache(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(100)
    before = rows.clone()
    kept = Points(rows, metric)
    monkeypatch.setattr(distances, "CACHE", 0)
    streamed = Points(rows, metric)
    for position in (0, 99):
        torch.testing.assert_close(
            kept.squared_distances_to(position),
            streamed.squared_distances_to(position),
            atol=1e-5,
            rtol=1e-5,
        )
    assert torch.equal(rows, before)


@pytest.mark.parametrize("width", [2, 64, 512, 4096])
@pytest.mark.parametrize("metric", METRICS)
def test_duplicates_are_exactly_at_distance_zero(metric: Metric, width: int) -> None:
    rows = rows_of(40, width).repeat(2, 1)
    points = Points(rows, metric)
    assert points.squared_distances_to(7)[47] == 0
    assert bool((points.squared_distances(points.take(torch.arange(80))).diagonal(40) == 0).all())
    assert bool((nearest_neighbors(points, 1)[0] == 0).all()), "no rounding is left"


def test_a_common_offset_costs_no_digits() -> None:
    rows = rows_of(60, 32)
    moved = rows.double().add(1000).float()
    got = Points(moved).squared_distances_to(5).double()
    torch.testing.assert_close(got, exact(moved, moved)[5], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_to_other_rows(metric: Metric, kept: bool) -> None:
    rows, others = rows_of(300), rows_of(40, seed=1, offset=3.0)
    points = Points(rows, metric)
    got = nearest_squared_distances(points, points.like(others))
    want = exact(rows, others, metric).amin(1)
    torch.testing.assert_close(got.double(), want, atol=1e-4, rtol=1e-4)
    none = nearest_squared_distances(points, points.like(others[:0]))
    assert bool(none.isposinf().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("other", [torch.float16, torch.float32, torch.float64])
def test_precisions_may_differ(dtype: torch.dtype, other: torch.dtype) -> None:
    rows, others = rows_of(20).to(dtype), rows_of(5, seed=1).to(other)
    points = Points(rows)
    got = nearest_squared_distances(points, points.like(others))
    torch.testing.assert_close(got.double(), exact(rows, others).amin(1), atol=1e-4, rtol=1e-4)
    assert got.dtype == points.dtype


def test_rows_without_direction() -> None:
    rows = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [1.0, 2.0, 0.0]])
    assert torch.equal(prepare(rows, "pearson")[:2], torch.zeros(2, 3))
    assert torch.equal(prepare(rows, "cosine")[0], torch.zeros(3))
    assert Points(rows, "pearson").squared_distances_to(2).tolist() == pytest.approx([1, 1, 0])


@pytest.mark.parametrize("k", [1, 5, 119, 500])
def test_nearest_neighbors_of_all(k: int, kept: bool) -> None:
    rows = rows_of(120).double()  # so that no two neighbors change places by rounding
    want = exact(rows, rows).fill_diagonal_(torch.inf).sqrt().sort(1)
    got, positions = nearest_neighbors(Points(rows), k)
    assert got.shape == positions.shape == (120, min(k, 119))
    torch.testing.assert_close(got.double(), want.values[:, :k][:, :119], atol=1e-9, rtol=1e-9)
    assert torch.equal(positions, want.indices[:, :k][:, :119])


def test_nearest_neighbors_of_some_among_some(kept: bool) -> None:
    rows = rows_of(200)
    among, wanted = torch.arange(0, 200, 3), torch.tensor([5, 6, 150, 199])
    table = exact(rows, rows).fill_diagonal_(torch.inf).sqrt()
    got, positions = nearest_neighbors(Points(rows), 4, among, wanted)
    want = table[wanted][:, among].topk(4, largest=False)
    torch.testing.assert_close(got.double(), want.values, atol=1e-5, rtol=1e-5)
    assert torch.equal(positions, among[want.indices])


def test_nearest_neighbors_of_a_single_point() -> None:
    got, positions = nearest_neighbors(Points(rows_of(1)), 5)
    assert got.shape == positions.shape == (1, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_gaussian_sums(weighted: bool, kept: bool) -> None:
    rows, centers = rows_of(200, 4), rows_of(30, 4, seed=2)
    weights = torch.rand(30, generator=torch.Generator().manual_seed(3)) if weighted else None
    points = Points(rows)
    got = gaussian_sums(points, points.like(centers), 0.8, weights)
    kernel = (-exact(rows, centers) / (2 * 0.8**2)).exp()
    want = kernel @ (torch.ones(30) if weights is None else weights).double()
    torch.testing.assert_close(got.double(), want, atol=1e-6, rtol=1e-5)


def test_half_precision_file_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(500)
    rows.half().numpy().tofile(tmp_path / "rows")
    file = torch.from_numpy(np.memmap(tmp_path / "rows", np.float16, "r+", shape=(500, 16)))
    monkeypatch.setattr(distances, "CACHE", 0)
    points = Points(file, "cosine")
    want = exact(rows.half(), rows.half(), "cosine")
    got = points.squared_distances_to(17).double()
    torch.testing.assert_close(got, want[17], atol=1e-5, rtol=1e-5)
    assert torch.equal(file, rows.half())


def test_nan_is_not_swallowed() -> None:
    rows = rows_of(10)
    rows[3, 2] = torch.nan
    assert bool(Points(rows, "cosine").squared_distances_to(0)[3].isnan())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="choose euclidean, cosine, pearson"):
        check_metric("manhattan")
    with pytest.raises(ValueError, match="two axes"):
        Points(torch.ones(3))
    points = Points(rows_of(3))
    with pytest.raises(ValueError, match="bandwidth=0"):
        gaussian_sums(points, points, 0)


@pytest.mark.parametrize("width", [1, 4, 84, 100_000])
def test_a_table_between_two_blocks_stays_small(width: int) -> None:
    assert 64 <= rows_per_block(torch.empty(1, width)) <= 4096
