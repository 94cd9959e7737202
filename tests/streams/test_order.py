"""The order in which samples arrive."""

from __future__ import annotations

import torch

from dal.streams.order import arrival_order, drifting


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


TARGETS = torch.arange(900) % 3


def test_own_order_is_that_of_the_arrays() -> None:
    positions = torch.tensor([5, 0, 9, 2])
    order = arrival_order("own", positions, torch.zeros(4).long(), 0.5, rng())
    assert order.tolist() == [1, 3, 0, 2]


def test_every_order_has_every_sample_once() -> None:
    for name in ("own", "shuffled", "drifting"):
        order = arrival_order(name, torch.arange(900), TARGETS, 0.5, rng())
        assert order.sort().values.tolist() == list(range(900))


def test_drift_one_brings_whole_classes_one_after_another() -> None:
    classes = TARGETS[drifting(TARGETS, 1.0, rng())]
    assert torch.equal(classes, TARGETS.sort().values)


def test_drift_between_brings_a_class_most_often_at_its_own_time() -> None:
    classes = TARGETS[drifting(TARGETS, 0.6, rng())].view(3, 300)
    shares = torch.stack([(classes == c).double().mean(1) for c in range(3)])
    assert torch.equal(shares.argmax(1), torch.arange(3))
    assert 0.5 < shares[0, 0] < 1
    assert shares[1, 0] > 0.1


def test_no_drift_mixes_all_classes() -> None:
    classes = TARGETS[drifting(TARGETS, 0.0, rng())].view(3, 300)
    assert all(abs((part == c).double().mean() - 1 / 3) < 0.1 for part in classes for c in range(3))


def test_large_classes_take_as_much_time_as_they_have_samples() -> None:
    targets = torch.tensor([0] * 90 + [1] * 10)
    assert targets[drifting(targets, 1.0, rng())].tolist() == targets.tolist()
