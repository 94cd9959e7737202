"""Densities and density weighting against SciPy, scikit-learn and float64 loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from dal.query import (
    Density,
    DensityWeighted,
    Entropy,
    Features,
    History,
    InformationDensity,
    Instability,
    LeastConfidence,
    Margin,
    PoolView,
    Probs,
    Random,
    ScoreStrategy,
)

COUNT = 39
"""741 pairs, so that one of them is the median."""
KINDS = ["knn", "gaussian", "cosine"]


def view_of(probs: Tensor, features: Tensor, indices: Tensor | None = None) -> PoolView:
    indices = torch.arange(len(probs)) if indices is None else indices
    return PoolView(
        indices,
        {Probs(): probs, Features(): features},
        num_total=int(indices.max()) + 10,
        num_classes=probs.shape[1],
    )


def random_view(count: int = COUNT, dtype: torch.dtype = torch.float32) -> PoolView:
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(count, 5, generator=rng) + torch.tensor([3.0, 0, 0, 0, 0])
    return view_of(torch.randn(count, 3, generator=rng).softmax(1), features.to(dtype))


def loop_knn(rows: np.ndarray, neighbors: int) -> np.ndarray:
    distances = np.sort(cdist(rows, rows), axis=1)[:, 1 : neighbors + 1].mean(1)
    return 1 / (1 + distances / distances.mean())


def loop_gaussian(rows: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-(cdist(rows, rows) ** 2) / (2 * bandwidth**2)).mean(1)


def loop_cosine(rows: np.ndarray) -> np.ndarray:
    return (1 + cosine_similarity(rows)).mean(1) / 2


@pytest.mark.parametrize(
    ("settings", "loop"),
    [
        ({"density": "knn", "neighbors": 4}, lambda rows: loop_knn(rows, 4)),
        ({"density": "knn", "neighbors": 99}, lambda rows: loop_knn(rows, COUNT - 1)),
        ({"density": "gaussian", "bandwidth": 0.7}, lambda rows: loop_gaussian(rows, 0.7)),
        ({"density": "gaussian"}, lambda rows: loop_gaussian(rows, np.median(pdist(rows)))),
        ({"density": "cosine"}, loop_cosine),
    ],
)
@pytest.mark.parametrize("reference", [5000, None])
def test_density_equals_loop(settings: dict[str, Any], loop: Any, reference: int | None) -> None:
    view = random_view()
    got = Density(**settings, reference=reference).score(view).double().numpy()
    np.testing.assert_allclose(got, loop(view[Features()].double().numpy()), rtol=2e-5)


@pytest.mark.parametrize("kind", ["knn", "gaussian"])
def test_reference_sample_is_what_the_others_are_compared_with(kind: Any) -> None:
    view = random_view()
    rows = view[Features()].double().numpy()
    keys = torch.rand(
        view.num_total, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    among = keys[view.indices].argsort()[:12].numpy()
    distances = cdist(rows, rows[among])
    own = np.arange(COUNT)[:, None] == among
    if kind == "knn":
        distances[own] = np.inf
        means = np.sort(distances, axis=1)[:, :5].mean(1)
        want = 1 / (1 + means / means.mean())
    else:
        kernel = np.exp(-(distances**2) / 2)
        inside = own.any(1)
        want = (kernel.sum(1) + ~inside) / (12 + ~inside)
    got = Density(kind, neighbors=5, bandwidth=1.0, reference=12).score(view)
    np.testing.assert_allclose(got.double().numpy(), want, rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_outlier_is_the_least_dense_and_weighted_least(kind: Any) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.tensor([5.0, 5.0]) + torch.randn(20, 2, generator=rng)
    features[7] = torch.tensor([-40.0, -30.0])
    probs = torch.full((20, 2), 0.5)
    view = view_of(probs, features)
    assert Density(kind, neighbors=5).score(view).argmin() == 7
    for score in (Entropy(), Margin(), LeastConfidence()):
        weighted = DensityWeighted(score, density=kind, neighbors=5).score(view)
        assert weighted.argmin() == 7
        assert weighted.min() >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_weighted_margin_grows_with_margin_and_with_density(kind: Any, beta: float) -> None:
    view = random_view()
    top = view[Probs()].double().sort(1, descending=True).values
    density = Density(kind).score(view).double()
    want = (1 - (top[:, 0] - top[:, 1])) * density**beta
    got = DensityWeighted(Margin(), beta, kind).score(view)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_information_density_equals_loop(beta: float) -> None:
    view = random_view()
    rows = view[Features()].double().numpy()
    want = scipy_entropy(view[Probs()].double().numpy(), axis=1) * loop_cosine(rows) ** beta
    got = InformationDensity(beta).score(view).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reference", [10, None])
def test_order_and_generator_play_no_part(kind: Any, reference: int | None) -> None:
    view = random_view()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
    shuffled = PoolView(
        view.indices[order],
        {need: view[need][order] for need in (Probs(), Features())},
        num_total=view.num_total,
        num_classes=3,
    )
    strategy = DensityWeighted(Entropy(), density=kind, reference=reference)
    one = strategy.select(view, 9, torch.Generator().manual_seed(1))
    two = strategy.select(shuffled, 9, torch.Generator().manual_seed(2))
    assert torch.equal(one.indices, two.indices)
    assert torch.equal(one.scores, two.scores)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 30])
def test_identical_samples_have_one_density(kind: Any, count: int) -> None:
    features = torch.tensor([[0.1, 1e3, -7.0]]).repeat(count, 1)
    scores = Density(kind).score(view_of(torch.full((count, 2), 0.5), features))
    torch.testing.assert_close(scores.double(), torch.ones(count, dtype=torch.float64))
    assert bool((scores == scores[0]).all())


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_finite_and_positive_with_copies_and_zeros(kind: Any) -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1e4, 1e4]])
    scores = Density(kind, neighbors=2).score(view_of(torch.full((5, 2), 0.5), features))
    assert bool(((scores > 0) & (scores <= 1)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_features_may_be_float16_and_memory_mapped(kind: Any, tmp_path: Path) -> None:
    count = 9000
    mapped = torch.from_file(
        str(tmp_path / "rows"), shared=True, size=count * 4, dtype=torch.float16
    ).view(count, 4)
    mapped.copy_(torch.randn(count, 4, generator=torch.Generator().manual_seed(0)))
    probs = torch.full((count, 2), 0.5)
    strategy = Density(kind, neighbors=3, reference=50)
    before = mapped.clone()
    got = strategy.score(view_of(probs, mapped))
    assert torch.equal(got, strategy.score(view_of(probs, mapped.float())))
    assert torch.equal(mapped, before)


def test_not_ready_passes_through() -> None:
    strategy = DensityWeighted(Instability(2))
    assert strategy.needs == {History(2), Features()}
    view = random_view()
    one = view.with_result(History(2), view[Probs()].unsqueeze(0))
    assert strategy.select(one, 3, torch.Generator().manual_seed(0)).info == {"random": True}
    two = view.with_result(History(2), torch.stack([view[Probs()].roll(1, 0), view[Probs()]]))
    assert "random" not in strategy.select(two, 3, torch.Generator().manual_seed(0)).info


class Unbounded(ScoreStrategy):
    lower_bound = -torch.inf

    def score(self, view: PoolView) -> Tensor:
        return torch.zeros(len(view))


def test_scores_without_a_bound_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unbounded has no lower bound.*Parallel"):
        DensityWeighted(Unbounded())


def test_strategies_without_scores_are_refused() -> None:
    with pytest.raises(TypeError, match="Random scores no single candidates"):
        DensityWeighted(Random())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"density": "distance"},
        {"neighbors": 0},
        {"bandwidth": 1e200},
        {"reference": 0},
        {"beta": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    name = next(iter(settings))
    with pytest.raises(ValueError, match=rf"strategy\.{name}="):
        DensityWeighted(Entropy(), **settings)


def test_state_is_that_of_the_score() -> None:
    class Counting(Entropy):
        count = 2

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    strategy = DensityWeighted(Counting())
    assert strategy.state_dict() == {"count": 2}
    strategy.load_state_dict({"count": 5})
    assert strategy.state_dict() == {"count": 5}
