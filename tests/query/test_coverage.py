"""Coverage against the plain greedy algorithm on full float64 matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.cluster import KMeans
from torch import Tensor

from dal.query import Features, MaxHerding, PoolView, ProbCover, Query, distances
from dal.query.coverage import (
    ball,
    cover,
    gaussian,
    greedy_coverage,
    median_distance,
    purity_radius,
    seeded_sample,
)
from dal.query.distances import Points


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def keys_of(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=generator(seed), dtype=torch.float64)


def blobs(count: int, width: int = 3, centers: int = 4, seed: int = 0) -> Tensor:
    rng = generator(seed)
    middle = 4 * torch.randn(centers, width, generator=rng)
    which = torch.randint(centers, (count,), generator=rng)
    return middle[which] + 0.7 * torch.randn(count, width, generator=rng)


def table(rows: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(rows.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist")


def brute_force(
    kernel: Tensor, covered: Tensor, count: int, keys: Tensor, weights: Tensor | None = None
) -> tuple[list[int], list[float]]:
    """Plain greedy maximization, every gain measured at every step."""
    covered = covered.clone().double()
    weights = torch.ones_like(covered) if weights is None else weights.double()
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(count):
        gains = ((kernel - covered).clamp(min=0) * weights).sum(1).tolist()
        free = [i for i in range(len(kernel)) if i not in chosen]
        best = max(free, key=lambda i: (round(gains[i], 9), -float(keys[i])))
        chosen.append(best)
        scores.append(gains[best])
        covered = torch.maximum(covered, kernel[best])
    return chosen, scores


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 999))
def test_sequence_is_that_of_the_plain_greedy_algorithm(
    count: int, references: int, balls: bool, weighted: bool, seed: int
) -> None:
    rng = generator(seed)
    kernel = torch.rand(count, references, generator=rng, dtype=torch.float64)
    kernel = (kernel > 0.6).double() if balls else kernel
    covered = torch.rand(references, generator=rng, dtype=torch.float64)
    covered = (covered > 0.7).double() if balls else covered
    weights = torch.rand(references, generator=rng).double() if weighted else None
    keys = keys_of(count, seed)
    wanted = 1 + seed % count
    before = covered.clone()
    got, gains = greedy_coverage(lambda i: kernel[i], covered, wanted, keys, weights)
    want, scores = brute_force(kernel, covered, wanted, keys, weights)
    assert got.tolist() == want
    assert gains.tolist() == pytest.approx(scores, abs=1e-9)
    assert torch.equal(covered, before)


def test_most_candidates_are_looked_at_once() -> None:
    points = Points(blobs(3000, centers=12))
    looked: list[int] = []

    def kernel(some: Tensor) -> Tensor:
        looked.append(len(some))
        return gaussian(0.5)(points.squared_distances(points.take(some)))

    greedy_coverage(kernel, torch.zeros(3000), 30, keys_of(3000))
    assert sum(looked) < 3 * 3000, "a plain greedy algorithm measures 30 times 3,000 gains"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("profile", ["gaussian", "ball"])
def test_cover_starts_from_what_the_labeled_samples_cover(
    profile: str, weighted: bool, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(distances, "CACHE", 0)
        monkeypatch.setattr(distances, "TILE", 1)
    rows, labeled, keys = blobs(200), blobs(8, seed=1), keys_of(200)
    weights = torch.rand(200, generator=generator(5)) if weighted else None
    shape: Callable[[Tensor], Tensor] = {
        "gaussian": lambda d: (-(d**2) / (2 * 0.9**2)).exp(),
        "ball": lambda d: (d < 0.9).double(),
    }[profile]
    points = Points(rows)
    ours = {"gaussian": gaussian, "ball": ball}[profile](0.9)
    got, gains, before = cover(points, points.like(labeled), ours, 25, keys, weights_R=weights)
    covered = shape(table(rows, labeled)).amax(1)
    want, scores = brute_force(shape(table(rows, rows)), covered, 25, keys, weights)
    assert got.tolist() == want
    assert (gains * 200).tolist() == pytest.approx(scores, abs=1e-3)
    mean = covered if weights is None else covered * weights
    assert before == pytest.approx(float(mean.mean()), abs=1e-5)


def test_weights_move_the_choice_and_must_not_be_negative() -> None:
    points = Points(torch.tensor([[0.0], [0.1], [0.2], [9.0]]))
    none = points.like(torch.zeros(0, 1))
    keys = keys_of(4)
    assert cover(points, none, gaussian(1.0), 1, keys)[0].tolist() == [1]
    weights = torch.tensor([0.1, 0.1, 0.1, 5.0])
    assert cover(points, none, gaussian(1.0), 1, keys, weights_R=weights)[0].tolist() == [3]
    with pytest.raises(ValueError, match="negative"):
        cover(points, none, gaussian(1.0), 1, keys, weights_R=-weights)


def view_of(
    rows: Tensor, labeled: Tensor, order: Tensor | None = None, classes: int = 4
) -> PoolView:
    """Candidates have every second index, so that positions and indices differ."""
    order = torch.arange(len(rows)) if order is None else order
    return PoolView(
        2 * order + 1,
        {Features(): rows[order], Features("labeled"): labeled},
        num_total=2 * len(rows) + 1,
        num_classes=classes,
    )


def test_probcover_covers_one_cluster_after_the_other() -> None:
    rows, labeled = blobs(400, centers=5), torch.zeros(0, 3)
    query = ProbCover(radius=2.5, normalize=False).select(view_of(rows, labeled), 5, generator())
    positions = (query.indices - 1) // 2
    apart = table(rows[positions], rows[positions]).fill_diagonal_(9)
    assert float(apart.min()) > 2
    within = (table(rows, rows[positions]) < 2.5).any(1)
    assert query.info["coverage"] == pytest.approx(float(within.double().mean()))
    assert query.scores.sum() == pytest.approx(query.info["coverage"])


def test_what_is_left_after_full_coverage_is_random_and_reaches_everyone() -> None:
    rows = torch.tensor([[0.0], [0.1], [0.2], [0.3]])
    strategy = ProbCover(radius=1.0, normalize=False)
    counts = np.zeros(4)
    for seed in range(400):
        query = strategy.select(view_of(rows, rows[:1]), 1, generator(seed))
        assert query.info["uninformed"] == 1
        assert query.scores.tolist() == [0.0]
        counts[(int(query.indices[0]) - 1) // 2] += 1
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("count", [501, 999])
def test_no_tail_of_the_pool_is_dropped(count: int) -> None:
    """Graphs built from full batches of 500 lose up to 499 samples."""
    rows = torch.zeros(count, 1)
    rows[-3:] = 50.0
    query = ProbCover(radius=1.0, normalize=False).select(
        view_of(rows, torch.zeros(1, 1)), 1, generator()
    )
    assert (int(query.indices[0]) - 1) // 2 >= count - 3
    everyone = ProbCover(radius=1.0, normalize=False).select(
        view_of(rows, torch.zeros(1, 1)), count, generator()
    )
    assert len(everyone.indices.unique()) == count


def test_radius_is_the_largest_with_pure_balls() -> None:
    rows = blobs(300, centers=3, seed=2)
    clusters = KMeans(3, n_init=5, random_state=0).fit(rows.numpy()).labels_
    apart = table(rows, rows)
    same = torch.from_numpy(clusters[:, None] == clusters)
    got = purity_radius(Points(rows), 3, 0.95, keys_of(300), generator(1))

    def purity(radius: float) -> float:
        return float(((apart >= radius) | same).all(1).double().mean())

    assert purity(got * (1 - 1e-4)) >= 0.95
    assert purity(got * (1 + 1e-4)) < 0.95


def test_radius_from_a_sample_of_balls_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    points = Points(blobs(3000, centers=3, seed=2))
    whole = purity_radius(points, 3, 0.95, keys_of(3000), generator())
    monkeypatch.setattr("dal.query.coverage.SAMPLE", 400)
    assert purity_radius(points, 3, 0.95, keys_of(3000), generator()) == pytest.approx(whole, 0.2)


def test_radius_of_a_single_cluster_reaches_everything() -> None:
    rows = torch.randn(50, 2, generator=generator())
    radius = purity_radius(Points(rows), 1, 0.95, keys_of(50), generator())
    assert np.isfinite(radius)
    assert float(table(rows, rows).max()) < radius


def test_median_distance() -> None:
    rows = blobs(150)
    pairs = table(rows, rows)[~torch.eye(150, dtype=torch.bool)]
    got = median_distance(Points(rows), keys_of(150))
    assert got == pytest.approx(float(pairs.median()), rel=1e-5)
    assert median_distance(Points(torch.ones(20, 3)), keys_of(20)) == 1.0
    assert seeded_sample(keys_of(150), 150) is None


def test_maxherding_equals_brute_force_with_labels() -> None:
    rows, labeled = blobs(150), blobs(5, seed=3)
    query = MaxHerding(0.8, normalize=False).select(view_of(rows, labeled), 12, generator(4))
    kernel = (-table(rows, rows).square() / (2 * 0.8**2)).exp()
    covered = (-table(rows, labeled).square() / (2 * 0.8**2)).exp().amax(1)
    want, scores = brute_force(kernel, covered, 12, keys_of(150))
    assert ((query.indices - 1) // 2).tolist() == want
    assert (query.scores * 150).tolist() == pytest.approx(scores, abs=1e-3)
    assert query.info["coverage"] == pytest.approx(float(covered.mean()) + sum(scores) / 150)


def test_normalized_features_are_compared_by_direction() -> None:
    rows, labeled = blobs(80) + 9, blobs(4, seed=1) + 9
    strategy = MaxHerding()
    want = strategy.select(view_of(rows, labeled), 9, generator())
    scale = 1 + torch.arange(80)[:, None]
    got = strategy.select(view_of(rows * scale, labeled * 7), 9, generator())
    assert torch.equal(got.indices, want.indices)


STRATEGIES = [ProbCover(), ProbCover(1.0, reference=30), MaxHerding(), MaxHerding(reference=30)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_order_of_the_pool_does_not_matter(strategy: ProbCover | MaxHerding) -> None:
    rows, labeled = blobs(100), blobs(6, seed=1)
    want = strategy.select(view_of(rows, labeled), 20, generator())
    for seed in range(3):
        order = torch.randperm(100, generator=generator(seed))
        got = strategy.select(view_of(rows, labeled, order), 20, generator())
        assert torch.equal(got.indices, want.indices)
        assert got.info == want.info


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("labeled", [0, 6])
def test_all_can_be_chosen_each_once(strategy: ProbCover | MaxHerding, labeled: int) -> None:
    rows = blobs(70).round()  # with duplicates
    query: Query = strategy.select(view_of(rows, blobs(labeled)), 70, generator())
    assert len(query.indices.unique()) == 70
    assert bool(query.scores.isfinite().all())
    assert bool((query.scores.diff() <= 1e-6).all())


@pytest.mark.parametrize("strategy", [ProbCover(reference=64), MaxHerding(reference=64)])
def test_file_in_half_precision_is_read_in_blocks(
    strategy: ProbCover | MaxHerding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = blobs(600).half()
    rows.numpy().tofile(tmp_path / "rows")
    file = torch.from_numpy(np.memmap(tmp_path / "rows", np.float16, "r+", shape=(600, 3)))
    labeled = blobs(4, seed=1).half()
    want = strategy.select(view_of(rows, labeled), 8, generator())
    monkeypatch.setattr(distances, "CACHE", 0)
    got = strategy.select(view_of(file, labeled), 8, generator())
    assert torch.equal(got.indices, want.indices)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProbCover(radius=0.0), "radius=0"),
        (lambda: ProbCover(radius=float("inf")), "radius=inf; it must lie between 1e-18 and 1e"),
        (lambda: MaxHerding(bandwidth=1e200), "bandwidth=1e"),
        (lambda: MaxHerding(bandwidth=1e-30), "bandwidth=1e-30"),
        (lambda: ProbCover(purity=1.5), "purity=1.5"),
        (lambda: ProbCover(reference=0), "reference=0"),
        (lambda: MaxHerding(bandwidth=-1.0), "bandwidth=-1"),
        (lambda: MaxHerding(reference=-3), "reference=-3"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("strategy", [ProbCover(normalize=False), ProbCover(), MaxHerding()])
@pytest.mark.parametrize("scale", [1e-22, 1e-19, 1e16])
def test_estimated_widths_suit_features_of_any_size(
    strategy: ProbCover | MaxHerding, scale: float
) -> None:
    rows = blobs(60) * scale
    query = strategy.select(view_of(rows, rows[:5]), 60, generator())
    assert bool(query.scores.isfinite().all())


def test_radius_is_positive_where_clusters_cannot_be_told_apart() -> None:
    rows = blobs(30) + 1e5  # directions that differ by rounding only
    query = ProbCover().select(view_of(rows, rows[:0]), 30, generator())
    assert query.info["radius"] > 0


@pytest.mark.parametrize("large", [3e17, torch.inf, torch.nan])
def test_features_with_squares_beyond_float32_are_refused(large: float) -> None:
    rows = blobs(30)
    rows[7, 1] = large
    with pytest.raises(ValueError, match=r"features that are .* beyond 1e\+17, for sample"):
        MaxHerding().select(view_of(rows, rows[:5]), 3, generator())
