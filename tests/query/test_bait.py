"""BAIT against the greedy algorithm with every matrix inverted anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.query import Bait, Features, PoolView, Probs
from dal.query.bait import Information, binary_weights, fisher, greedy_trace


def data(count: int = 14, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=rng)
    return features, (2 * torch.randn(count, 3, generator=rng)).softmax(1)


def matrix(features: Tensor, probs: Tensor, chosen: list[int]) -> Tensor:
    """Sum of p (1 - p) h h' over some samples."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for i in chosen:
        p, h = probs[i].double().max(), features[i].double()
        total += p * (1 - p) * torch.outer(h, h)
    return total


def by_hand(
    features: Tensor, probs: Tensor, start: Tensor, wanted: Tensor, count: int
) -> list[int]:
    def trace(chosen: list[int]) -> float:
        inverse = torch.linalg.inv(start + matrix(features, probs, chosen))
        return float((inverse @ wanted).trace())

    chosen: list[int] = []
    for _ in range(min(2 * count, len(features))):
        rest = [i for i in range(len(features)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: trace([*chosen, i])))
    while len(chosen) > count:
        chosen.remove(min(chosen, key=lambda i: trace([c for c in chosen if c != i])))
    return chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3, 10, 14])
def test_picks_are_those_of_the_plain_algorithm(seed: int, count: int) -> None:
    features, probs = data(seed=seed)
    start = 0.5 * torch.eye(4, dtype=torch.float64)
    wanted = matrix(features, probs, list(range(14))) / 14
    information = Information(features, binary_weights(probs), start, wanted)
    keys = torch.rand(14, dtype=torch.float64, generator=torch.Generator())
    picks = greedy_trace(information, count, keys).tolist()
    assert picks == by_hand(features, probs, start, wanted, count)


def test_gains_are_those_of_the_trace_after_any_changes() -> None:
    features, probs = data()
    start = torch.eye(4, dtype=torch.float64)
    wanted = matrix(features, probs, list(range(14)))
    information = Information(2 * features, binary_weights(probs), start, wanted, scale=2.0)
    for position, sign in [(3, 1), (5, 1), (3, -1), (7, 1)]:
        information.change(position, sign)
    now = start + matrix(features, probs, [5, 7])

    def trace(precision: Tensor) -> Tensor:
        return torch.linalg.solve(precision, wanted).trace()

    gains = [trace(now) - trace(now + matrix(features, probs, [i])) for i in range(14)]
    losses = [trace(now - matrix(features, probs, [i])) - trace(now) for i in (5, 7)]
    torch.testing.assert_close(information.gains(), torch.stack(gains), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        information.losses()[[5, 7]], torch.stack(losses), rtol=1e-4, atol=1e-6
    )


def test_fisher_information_is_a_sum_of_outer_products() -> None:
    features, probs = data()
    want = matrix(features, probs, list(range(14)))
    torch.testing.assert_close(fisher(features, binary_weights(probs)), want)
    assert binary_weights(torch.eye(3)).tolist() == [0, 0, 0]


def view(scale: float) -> PoolView:
    features, probs = data(30)
    labeled, labeled_probs = data(6, seed=9)
    results = {
        Features(): scale * features,
        Features("labeled"): scale * labeled,
        Probs(): probs,
        Probs("labeled"): labeled_probs,
    }
    return PoolView(torch.arange(30), results, num_total=50, num_classes=3)


def test_strategy_takes_labels_and_prior_into_account() -> None:
    features, probs = data(30)
    labeled, labeled_probs = data(6, seed=9)
    scale = float(features.double().square().mean().sqrt())
    features, labeled = features / scale, labeled / scale
    known = matrix(labeled, labeled_probs, list(range(6)))
    wanted = (known + matrix(features, probs, list(range(30)))) / 36
    start = known + 2 * torch.eye(4, dtype=torch.float64)
    query = Bait(2.0).select(view(1.0), 4, torch.Generator())
    assert query.indices.tolist() == by_hand(features, probs, start, wanted, 4)


def test_units_of_the_features_play_no_part() -> None:
    one, other = (Bait().select(view(scale), 5, torch.Generator()) for scale in (1.0, 1e-3))
    assert one.indices.tolist() == other.indices.tolist()


def test_regularization_must_be_positive() -> None:
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"strategy\.regularization="):
            Bait(wrong)


def test_regularization_lost_in_rounding_is_named() -> None:
    features = torch.tensor([[1.0, 2, 3], [1, 2, 3], [2, 4, 6]])  # of rank one
    probs = torch.full((3, 2), 0.5)
    view = PoolView(
        torch.arange(3),
        {
            Features(): features,
            Features("labeled"): features[:1],
            Probs(): probs,
            Probs("labeled"): probs[:1],
        },
        num_total=4,
        num_classes=2,
    )
    with pytest.raises(ValueError, match=r"strategy\.regularization=1e-300 is lost.*raise it"):
        Bait(1e-300).select(view, 1, torch.Generator())
