"""Neighbors, rank and spread of features."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from dal.features.self_supervised.probe import (
    effective_rank,
    neighbor_accuracy,
    refuse_collapsed,
    spread,
)


def test_neighbors_vote_as_those_of_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(40) % 4
    features = torch.randn(40, 5, generator=rng) + 2 * torch.eye(4, 5)[targets]
    model = KNeighborsClassifier(5, metric="cosine", algorithm="brute")
    want = cross_val_score(model, features.numpy(), targets.numpy(), cv=LeaveOneOut()).mean()
    assert 0.3 < want < 1
    assert neighbor_accuracy(features, targets, 5) == pytest.approx(want)


def test_few_samples_have_few_neighbors() -> None:
    pair = torch.eye(2)
    assert neighbor_accuracy(pair, torch.tensor([1, 1])) == 1
    assert neighbor_accuracy(pair, torch.tensor([0, 1])) == 0
    assert math.isnan(neighbor_accuracy(pair[:1], torch.tensor([0])))


def test_rank_counts_directions() -> None:
    square = torch.tensor([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
    assert effective_rank(square) == pytest.approx(2)
    assert effective_rank(square + 7) == pytest.approx(2)
    assert effective_rank(square * torch.tensor([1.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(torch.ones(4, 3)) == 0


def test_spread_is_the_share_of_variance() -> None:
    assert spread(torch.tensor([[3.0], [5.0]])) == pytest.approx(1 / 17)
    assert spread(torch.ones(4, 3)) == 0
    assert spread(torch.zeros(4, 3)) == 0


@pytest.mark.parametrize("kind", ["all the same", "one direction", "none", "not a number"])
def test_collapsed_features_are_refused(kind: str) -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(20, 4, generator=rng)
    refuse_collapsed(features, "pictures")
    if kind == "all the same":
        features = 1 + 1e-4 * features
    elif kind == "one direction":
        features = features[:, :1] * torch.ones(4)
    elif kind == "none":
        features = torch.zeros(20, 4)
    else:
        features[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"features of pictures have collapsed.*features\.method"):
        refuse_collapsed(features, "pictures")
