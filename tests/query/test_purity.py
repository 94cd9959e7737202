"""What people rejected keeps alike samples out of later queries, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from dal.query import (
    Badge,
    Entropy,
    Features,
    Margin,
    MultilabelMargin,
    PoolView,
    Probs,
    Pure,
    Random,
    Strategy,
)
from dal.query.needs import Labels
from dal.query.purity import reject_probs

SIZE = 40
INDICES = torch.arange(SIZE) * 2


def blobs(centers: list[list[float]], each: int, seed: int) -> Tensor:
    """So many rows around each of some centers, float32, in their order."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.tensor(centers).repeat_interleave(each, 0)
    return rows + 0.3 * torch.randn(rows.shape, generator=rng)


CLASSES = [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]
JUNK = [[0.0, 0.0, 0.0]]
"""Between the classes: no plane has both of them on one side and this on the other far away."""


def make_view(rejected: int = 6) -> PoolView:
    """Twenty candidates of two classes, then twenty of junk."""
    rng = torch.Generator().manual_seed(3)
    return PoolView(
        INDICES,
        {
            Features(): torch.cat([blobs(CLASSES, 10, 0), blobs(JUNK, 20, 1)]),
            Features("labeled"): blobs(CLASSES, 6, 2),
            Features("rejected"): blobs(JUNK, 20, 4)[:rejected],
            Labels(): torch.tensor([0] * 6 + [1] * 6),
            Probs(): torch.randn(SIZE, 2, generator=rng).softmax(1),
        },
        num_total=2 * SIZE,
        num_classes=2,
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize(("unit", "shift"), [(1.0, 0.0), (1e3, 50.0), (1e-4, 0.0)])
def test_probabilities_are_those_of_sklearns_logistic_regression(unit: float, shift: float) -> None:
    rng = torch.Generator().manual_seed(1)
    labeled, rejected, pool = (
        torch.randn(size, 5, generator=rng, dtype=torch.float64) for size in (20, 8, 15)
    )
    labels = torch.arange(20) % 3 * 2  # no label of class 1, 3, ...
    labeled[:, 0] += labels
    found = reject_probs(
        labeled * unit + shift, labels, rejected * unit + shift, pool * unit + shift
    )
    rows = np.concatenate([labeled, rejected])
    mean, scale = rows.mean(0), np.sqrt(((rows - rows.mean(0)) ** 2).mean())
    targets = np.concatenate([labels, np.full(8, 9)])
    other = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000)
    other.fit((rows - mean) / scale, targets)
    want = other.predict_proba((pool.numpy() - mean) / scale)[:, -1]
    np.testing.assert_allclose(found.numpy(), want, atol=1e-5)


def test_rows_that_are_all_the_same_get_the_share_of_the_rejected() -> None:
    found = reject_probs(
        torch.ones(3, 2), torch.tensor([0, 0, 0]), torch.ones(1, 2), torch.ones(4, 2)
    )
    torch.testing.assert_close(found, torch.full((4,), 0.25).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("base", [Margin(), Entropy(), Random(), Badge()])
def test_before_the_first_rejection_it_is_the_base_strategy(base: Strategy) -> None:
    view = make_view(rejected=0)
    got, want = (s.select(view, 9, generator()) for s in (Pure(base), base))
    assert torch.equal(got.indices, want.indices)
    assert torch.equal(got.scores, want.scores)
    assert got.info == want.info


@pytest.mark.parametrize("base", [Margin(), Random(), Badge()])
def test_the_base_strategy_chooses_from_what_is_no_junk(base: Strategy) -> None:
    view = make_view()
    query = Pure(base).select(view, 9, generator())
    want = base.select(view.part(torch.arange(20)), 9, generator())
    assert torch.equal(query.indices, want.indices)
    assert query.info["pure"] == 20


def test_a_score_alone_would_ask_about_junk() -> None:
    query = Margin().select(make_view(), 9, generator())
    assert bool((query.indices >= INDICES[20]).any())


def test_where_less_than_a_query_is_pure_the_purest_are_asked_about() -> None:
    view = make_view().part(torch.arange(15, SIZE))
    query = Pure(Margin()).select(view, 12, generator())
    junk = reject_probs(
        view[Features("labeled")], view[Labels()], view[Features("rejected")], view[Features()]
    )
    assert query.info["pure"] == 5
    assert set(query.indices.tolist()) == set(view.indices[junk.argsort()[:12]].tolist())


def test_a_threshold_of_one_leaves_out_nothing() -> None:
    query = Pure(Margin(), threshold=1.0).select(make_view(), 9, generator())
    assert torch.equal(query.indices, Margin().select(make_view(), 9, generator()).indices)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(TypeError, match=r"strategy\.base=3 is no strategy"):
        Pure(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"MultilabelMargin is for several labels"):
        Pure(MultilabelMargin())
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"strategy\.threshold=.* must be above 0"):
            Pure(Margin(), threshold)
