"""Instability sampling against SciPy's distances and the paper's formula as plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance
from torch import Tensor

from dal.query import History, Instability, PoolView, instability
from dal.query.instability import Distance, Ground, js, kl, wasserstein

Row = Sequence[float]
KINDS: list[tuple[Distance, Ground]] = [
    ("wasserstein", "discrete"),
    ("wasserstein", "ordinal"),
    ("wasserstein", "sorted"),
    ("kl", "discrete"),
    ("js", "discrete"),
]


def total_variation(p: Row, q: Row) -> float:
    return sum(max(a - b, 0.0) for a, b in zip(p, q, strict=True))


def ordinal(p: Row, q: Row) -> float:
    return float(wasserstein_distance(range(len(p)), range(len(q)), p, q))


def as_samples(p: Row, q: Row) -> float:
    return float(wasserstein_distance(p, q))


REFERENCES: dict[tuple[str, str], Callable[[Row, Row], float]] = {
    ("wasserstein", "discrete"): total_variation,
    ("wasserstein", "ordinal"): ordinal,
    ("wasserstein", "sorted"): as_samples,
    ("kl", "discrete"): lambda p, q: float(rel_entr(p, q).sum()),
    ("js", "discrete"): lambda p, q: float(jensenshannon(p, q)) ** 2,
}


def bits(p: Row) -> float:
    return -sum(a * math.log2(a) for a in p if a > 0)


def paper(predictions: list[Row], distance: Callable[[Row, Row], float]) -> float:
    """The paper's sum; ``predictions[k - 1]`` is P_(t-k), so the newest model comes first."""
    total = 0.0
    for k in range(1, len(predictions)):
        newer, older = predictions[k - 1], predictions[k]
        if bits(newer) > bits(older):
            total += distance(newer, older)
    return total


def distance_of(kind: tuple[Distance, Ground], p: Tensor, q: Tensor) -> Tensor:
    name, ground = kind
    return wasserstein(p, q, ground) if name == "wasserstein" else {"kl": kl, "js": js}[name](p, q)


def random_history(rounds: int, samples: int, classes: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(rounds, samples, classes, generator=rng).double()).softmax(-1)


def view_of(history: Tensor, window: int = 3) -> PoolView:
    count, classes = history.shape[1:]
    results = {History(window): history}
    return PoolView(torch.arange(count), results, num_total=count, num_classes=classes)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_distance_equals_scipy(kind: tuple[Distance, Ground], classes: int) -> None:
    p, q = random_history(2, 50, classes)
    want = [REFERENCES[kind](a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    got = distance_of(kind, p, q)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert float(distance_of(kind, p, p).abs().max()) < 1e-15


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        (("wasserstein", "discrete"), 1.0),
        (("wasserstein", "ordinal"), 2.0),
        (("wasserstein", "sorted"), 0.0),
        (("js", "discrete"), math.log(2)),
    ],
)
def test_distance_between_opposite_certainties(kind: tuple[Distance, Ground], want: float) -> None:
    p, q = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert float(distance_of(kind, p.double(), q.double())) == pytest.approx(want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_with_exact_zeros_is_finite(dtype: torch.dtype) -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]], dtype=dtype)
    q = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]], dtype=dtype)
    tiny = 2.0**-126
    want = [
        0.5 * math.log(0.5) + 0.5 * math.log(0.5 / tiny),
        0.0,
        0.25 * math.log(0.5) + 0.25 * math.log(0.25 / tiny),
    ]
    assert kl(p, q).tolist() == pytest.approx(want, rel=1e-6)
    assert js(p, q).tolist() == pytest.approx(
        [float(jensenshannon(a, b)) ** 2 for a, b in zip(p.tolist(), q.tolist(), strict=True)],
        rel=1e-6,
    )


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_instability_equals_the_papers_formula(kind: tuple[Distance, Ground], rounds: int) -> None:
    history = random_history(rounds, 40, 4)
    samples = history.transpose(0, 1).tolist()
    want = [paper(sample[::-1], REFERENCES[kind]) for sample in samples]
    got = instability(history, *kind)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    if rounds > 1:
        assert int((got > 0).sum()) > 0
    if rounds == 2:
        assert int((got == 0).sum()) > 0


def test_instability_counts_only_risen_entropy_oldest_first() -> None:
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    history = torch.tensor([[sure, unsure, sure], [unsure, sure, sure]], dtype=torch.float64)
    assert instability(history).tolist() == pytest.approx([0.3, 0.0, 0.0])


def test_instability_leaves_out_equal_entropy() -> None:
    history = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]]], dtype=torch.float64)
    assert instability(history).tolist() == [0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_instability_of_a_float32_history_is_computed_in_float64(
    kind: tuple[Distance, Ground],
) -> None:
    history = random_history(3, 40, 4).float()
    got = instability(history, *kind)
    torch.testing.assert_close(got, instability(history.double(), *kind), rtol=1e-12, atol=0)
    assert got.dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_instability_of_a_saturated_float32_history_is_finite(
    kind: tuple[Distance, Ground],
) -> None:
    rng = torch.Generator().manual_seed(0)
    history = (1e4 * torch.randn(5, 64, 3, generator=rng)).softmax(-1)
    history[1] = torch.tensor([0.2, 0.3, 0.5])
    assert bool((history == 0).any())
    scores = instability(history, *kind)
    assert bool(torch.isfinite(scores).all())
    assert float(scores.min()) > 0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(2, 6), st.integers(0, 999), st.data())
def test_instability_invariants(
    rounds: int, samples: int, classes: int, seed: int, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    history = random_history(rounds, samples, classes, seed)
    scores = instability(history, *kind)
    assert float(scores.min()) >= -1e-12
    order = torch.tensor(data.draw(st.permutations(range(samples))))
    assert torch.equal(instability(history[:, order], *kind), scores[order])
    if kind[1] != "ordinal":
        relabel = torch.tensor(data.draw(st.permutations(range(classes))))
        torch.testing.assert_close(instability(history[..., relabel], *kind), scores)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_prediction_is_refused(kind: tuple[Distance, Ground], place: int) -> None:
    history = random_history(3, 6, 4)
    history[place, 4, 1] = torch.nan
    strategy = Instability(3, *kind)
    with pytest.raises(ValueError, match="Instability scored sample 4 with nan"):
        strategy.select(view_of(history), 2, torch.Generator())


def test_first_query_is_random_and_says_so() -> None:
    view = view_of(random_history(1, 30, 3))
    query = Instability().select(view, 5, torch.Generator().manual_seed(1))
    again = Instability().select(view, 5, torch.Generator().manual_seed(1))
    other = Instability().select(view, 5, torch.Generator().manual_seed(2))
    assert query.info == {"random": True}
    assert torch.equal(query.indices, again.indices)
    assert not torch.equal(query.indices, other.indices)


def test_fewer_models_than_the_window_are_enough() -> None:
    history = random_history(2, 30, 3)
    query = Instability(window=5).select(view_of(history, 5), 4, torch.Generator())
    want = instability(history).topk(4)
    assert "random" not in query.info
    assert torch.equal(query.indices, want.indices)
    assert torch.equal(query.scores, want.values)


def test_ties_are_drawn_and_counted() -> None:
    view = view_of(random_history(1, 30, 3).expand(3, -1, -1))
    query = Instability().select(view, 5, torch.Generator().manual_seed(1))
    other = Instability().select(view, 5, torch.Generator().manual_seed(2))
    assert query.info == {"tied": 30}
    assert query.scores.tolist() == [0.0] * 5
    assert set(query.indices.tolist()) != set(other.indices.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_options_reach_the_score(kind: tuple[Distance, Ground]) -> None:
    history = random_history(3, 30, 4)
    strategy = Instability(3, *kind)
    assert strategy.needs == {History(3)}
    assert torch.equal(strategy.score(view_of(history)), instability(history, *kind))


@pytest.mark.parametrize("window", [1, 0, -2])
def test_window_below_two_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=rf"window={window}.*at least 2"):
        Instability(window=window)


def test_unknown_distance_or_ground_is_refused() -> None:
    with pytest.raises(ValueError, match="distance='euclid'; choose wasserstein, kl, js"):
        Instability(distance="euclid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ground='flat'; choose discrete, ordinal, sorted"):
        Instability(ground="flat")  # type: ignore[arg-type]
