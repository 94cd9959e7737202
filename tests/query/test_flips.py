"""Candidates whose class flips, against mixing and dropping written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.query import AlfaMix, DropQuery, Features, PoolView, Probs, Strategy
from dal.query.flips import dropout_flips, mix_reaches
from dal.query.logistic import Logistic
from dal.query.needs import Labels

CLASSES, WIDTH = 3, 6


def labeled(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(24) % CLASSES
    centers = 2 * torch.randn(CLASSES, WIDTH, generator=rng)
    return centers[labels] + torch.randn(24, WIDTH, generator=rng), labels


def candidates(count: int = 80) -> Tensor:
    return 2 * torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(5))


def view(features: Tensor, rows: Tensor, labels: Tensor) -> PoolView:
    results = {Features(): features, Features("labeled"): rows, Labels(): labels}
    count = len(features)
    return PoolView(torch.arange(count), results, num_total=count + 30, num_classes=CLASSES)


def mixed(head: Logistic, z: Tensor, anchor: Tensor, epsilon: float) -> Tensor:
    """The closed form of the paper: shares for each feature, and the mixture."""
    z = z.double().clone().requires_grad_()
    logits = (z - head._mean) / head._scale @ head._weights + head._intercepts
    predicted = logits.argmax()
    torch.nn.functional.cross_entropy(logits, predicted).backward()
    assert z.grad is not None
    away = anchor - z.detach()
    alpha = epsilon * away.norm() * z.grad / (z.grad.norm() * away)
    return alpha * anchor + (1 - alpha) * z.detach()


def test_reach_is_above_1_where_a_mixture_is_of_another_class() -> None:
    rows, labels = labeled()
    head, features = Logistic(rows, labels), candidates()
    anchors = torch.stack([rows[labels == c].double().mean(0) for c in range(CLASSES)])
    epsilon = 0.1
    flipped = []
    for z in features:
        found = torch.stack([mixed(head, z, anchor, epsilon) for anchor in anchors])
        flipped.append(bool((head.probs(found).argmax(1) != head.probs(z[None]).argmax()).any()))
    assert 10 < sum(flipped) < 70
    assert (mix_reaches(head, features, anchors, epsilon) > 1).tolist() == flipped


def test_reach_is_in_distances_to_the_flip() -> None:
    rows, labels = labeled()
    head, features = Logistic(rows, labels), candidates()
    anchors = rows[:1].double()
    reaches = mix_reaches(head, features, anchors, 0.1)
    torch.testing.assert_close(mix_reaches(head, features, anchors, 0.2), 2 * reaches)
    place = int(reaches.argsort()[40])
    factor = 1 / float(reaches[place])
    for share, same in [(0.999 * factor, True), (1.001 * factor, False)]:
        found = mixed(head, features[place], anchors[0], 0.1 * share)
        own = head.probs(features[place][None]).argmax()
        assert (head.probs(found[None]).argmax() == own) == same


def test_certain_predictions_have_finite_reaches() -> None:
    rows, labels = labeled()
    head = Logistic(1e4 * rows, labels)
    features = torch.cat([1e9 * candidates(5), torch.zeros(1, WIDTH), 1e4 * candidates(5)])
    anchors = torch.zeros(1, WIDTH, dtype=torch.float64)
    reaches = mix_reaches(head, features, anchors, 0.2)
    assert bool(reaches.isfinite().all())
    assert bool((reaches >= 0).all())


def test_flips_by_dropout_are_counted() -> None:
    rows, labels = labeled()
    head, features = Logistic(rows, labels), candidates()
    found = dropout_flips(head, features, 0.5, 4, torch.Generator().manual_seed(2))
    rng = torch.Generator().manual_seed(2)
    want = torch.zeros(len(features), dtype=torch.int64)
    for _ in range(4):
        keep = torch.rand(len(features), WIDTH, generator=rng) >= 0.5
        want += head.probs(features.double() * keep * 2).argmax(1) != head.probs(features).argmax(1)
    assert torch.equal(found, want)
    assert 0 < int(found.max()) <= 4


@pytest.mark.parametrize("strategy", [DropQuery(), AlfaMix()])
def test_query_is_of_those_that_flip_and_spread_out(strategy: Strategy) -> None:
    rows, labels = labeled()
    features = candidates()
    features = torch.cat([features, features])  # copies are clustered together
    query = strategy.select(view(features, rows, labels), 4, torch.Generator().manual_seed(1))
    assert query.info["flipped"] > 4
    assert query.info["clusters"] == 4
    assert bool((query.scores > 1).all())
    assert len({index % 80 for index in query.indices.tolist()}) == 4


@pytest.mark.parametrize("strategy", [DropQuery(0.01), AlfaMix(1e-6)])
def test_nearest_to_flipping_fill_up_where_few_flip(strategy: Strategy) -> None:
    rows, labels = labeled()
    query = strategy.select(view(candidates(), rows, labels), 20, torch.Generator().manual_seed(1))
    assert query.info["flipped"] < 20
    assert len(query.indices) == 20
    if isinstance(strategy, AlfaMix):
        assert bool((query.scores > 0).all())


@pytest.mark.parametrize("strategy", [DropQuery(), AlfaMix()])
def test_one_class_alone_makes_it_random(strategy: Strategy) -> None:
    rows, labels = labeled()
    query = strategy.select(view(candidates(), rows, 0 * labels), 5, torch.Generator())
    assert query.info == {"random": True}
    assert Probs() not in strategy.needs


@pytest.mark.parametrize("strategy", [DropQuery(), AlfaMix()])
def test_units_of_the_features_play_no_part(strategy: Strategy) -> None:
    rows, labels = labeled()
    queries = [
        strategy.select(view(s * candidates(), s * rows, labels), 6, torch.Generator())
        for s in (1.0, 1024.0)
    ]
    assert queries[0].indices.tolist() == queries[1].indices.tolist()


def test_wrong_settings_are_refused() -> None:
    for wrong in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=r"strategy\.dropout="):
            DropQuery(wrong)
    with pytest.raises(ValueError, match=r"strategy\.times=0"):
        DropQuery(times=0)
    for wrong in (0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"strategy\.epsilon="):
            AlfaMix(wrong)
