"""Steps of a training without labels: order, rate, statistics, what is announced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dal.data.source import Split
from dal.data.store import ArrayStore
from dal.features.self_supervised.pretraining import Plan, Pretraining
from dal.features.self_supervised.views import NAMED

CPU = torch.device("cpu")


class Noting(ArrayStore):
    """Knows what was announced, and what was read."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__(inputs)
        self.announced: list[list[int]] = []
        self.taken: list[list[int]] = []

    def expect(self, batches: Iterable[Tensor]) -> None:
        self.announced = [batch.tolist() for batch in batches]

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Any:
        self.taken.append(rows.tolist())
        return super().read(rows, device)


def training(count: int = 22, batch: int = 8, steps: int = 20) -> tuple[Pretraining, Noting]:
    rng = torch.Generator().manual_seed(0)
    store = Noting(torch.randint(0, 256, (count, 1, 8, 8), generator=rng).to(torch.uint8))
    plan = Plan("simclr", "small", "digits", steps, batch, 0.01, 0.5, seed=0)
    split = Split.of(store, torch.zeros(count, dtype=torch.int64))
    return Pretraining(split, NAMED["digits"], plan, CPU, "noise"), store


def test_epochs_go_through_the_samples_in_random_orders() -> None:
    made, _ = training()
    batches = [made.batch(step).tolist() for step in range(4)]
    for epoch in (batches[:2], batches[2:]):
        assert len({*epoch[0], *epoch[1]}) == 16
    assert batches[:2] != batches[2:]
    assert made.batch(1).tolist() == batches[1]


def test_what_is_read_next_is_announced() -> None:
    made, store = training()
    store.taken.clear()
    for _ in range(2):
        made.run_step()
    assert store.announced == store.taken
    made.run_step()
    assert store.announced[0] == store.taken[-1]
    made.features(torch.arange(22))
    assert store.announced == [store.taken[-1]] == [list(range(22))]
    made.run_step()
    assert store.announced == [store.taken[-1]]  # the last batch of the second epoch


def test_rate_rises_and_falls() -> None:
    made, _ = training(steps=100)
    rates = [made.plan.rate(step) for step in range(100)]
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates.index(max(rates)) == 4
    assert rates[0] == pytest.approx(0.002)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_statistics_are_those_of_images_as_they_are() -> None:
    made, store = training(count=16)
    for _ in range(3):
        made.run_step()
    made.features(torch.arange(4))
    body = made.model.encoder.body
    assert isinstance(body, nn.Sequential)
    norm = body[2]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    images = store.read(torch.arange(16)) / 255
    with torch.no_grad():
        before = body[:2](images)
    torch.testing.assert_close(norm.running_mean, before.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)


def test_looking_at_features_changes_no_step() -> None:
    one, two = training()[0], training()[0]
    for step in range(5):
        if step in (2, 3):
            two.features(torch.arange(9))
        assert torch.equal(one.run_step(), two.run_step())
    weights = [dict(made.model.named_parameters()) for made in (one, two)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
