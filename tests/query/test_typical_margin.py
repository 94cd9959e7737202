from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.query import Features, PoolView, Probs, Query, TypicalMargin


def pool(clusters: int = 8, each: int = 30) -> tuple[Tensor, Tensor]:
    """Features of clusters on a circle, of which sample 0 of each is the very center; probs."""
    angles = torch.arange(clusters) * 2 * torch.pi / clusters
    centers = torch.stack([angles.cos(), angles.sin()], 1) * 10
    rng = torch.Generator().manual_seed(0)
    offsets = torch.randn(clusters, each, 2, generator=rng) * 0.3
    offsets[:, 0] = 0
    offsets[:, 1:20] *= 0.1  # the dense middle
    return (centers[:, None] + offsets).flatten(0, 1), torch.zeros(clusters * each, 2)


def select(features: Tensor, probs: Tensor, size: int, **options: object) -> Query:
    count = len(features)
    view = PoolView(
        torch.arange(count),
        {Features(): features, Probs(): probs},
        num_total=count,
        num_classes=2,
    )
    rng = torch.Generator().manual_seed(0)
    return TypicalMargin(normalize=False, **options).select(view, size, rng)  # type: ignore[arg-type]


def test_of_each_cluster_the_typical_sample_and_of_these_the_least_sure() -> None:
    features, probs = pool()
    sure = torch.linspace(0.55, 0.95, 8).repeat_interleave(30)
    sure[1::30] = 0.5
    sure[29::30] = 0.5  # the least sure of all are no typical ones
    probs = torch.stack([sure, 1 - sure], 1)
    query = select(features, probs, 2, factor=4)
    assert sorted((query.indices // 30).tolist()) == [0, 1]
    spread = (features[query.indices] - features[::30][query.indices // 30]).norm(dim=1)
    assert float(spread.max()) < 0.1
    torch.testing.assert_close(query.scores, 1 - 2 * sure[query.indices].double())
    assert query.info["clusters"] == 8
    assert query.info["others"] == 0


def test_differences_near_certainty_still_count() -> None:
    features, _ = pool()
    doubt = torch.logspace(-30, -20, 8).repeat_interleave(30)
    query = select(features, torch.stack([torch.ones(240), doubt], 1), 3, factor=3)
    assert (query.indices // 30).tolist() == [7, 6, 5]


def test_duplicates_leave_clusters_empty_and_others_fill_the_batch() -> None:
    features = torch.zeros(20, 2)
    sure = torch.linspace(0.5, 0.9, 20)
    query = select(features, torch.stack([sure, 1 - sure], 1), 6)
    assert len(query.indices.unique()) == 6
    assert query.info["others"] == 6 - query.info["clusters"]


def test_the_largest_factor_asks_for_the_most_clusters() -> None:
    features, probs = pool()
    largest, enough = (select(features, probs, 3, factor=f) for f in (1.7e308, 1e6))
    assert torch.equal(largest.indices, enough.indices)


def test_more_queries_than_clusters_are_allowed() -> None:
    features, probs = pool()
    assert len(select(features, probs + 0.5, 40, max_clusters=4).indices.unique()) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 0.5}, "strategy.factor=0.5"),
        ({"max_clusters": 0}, "strategy.max_clusters=0"),
        ({"neighbors": 0}, "strategy.neighbors=0"),
        ({"reference": 0}, "strategy.reference=0"),
    ],
)
def test_settings_out_of_range(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TypicalMargin(**options)  # type: ignore[arg-type]
