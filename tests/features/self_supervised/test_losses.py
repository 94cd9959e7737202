"""Losses of two views against definitions written out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dal.features.self_supervised.losses import nt_xent, vicreg


def views(count: int = 5, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, count, width, generator=rng, dtype=torch.float64)
    return one, two


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_the_loss_of_every_pair(temperature: float) -> None:
    one, two = views()
    z = torch.cat([one, two]).numpy()

    def similarity(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])))

    def pair(i: int, j: int) -> float:
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(10) if k != i)
        return -math.log(math.exp(similarity(i, j) / temperature) / others)

    want = sum(pair(k, k + 5) + pair(k + 5, k) for k in range(5)) / 10
    assert float(nt_xent(one, two, temperature)) == pytest.approx(want)


def test_simclr_of_views_that_tell_nothing_is_that_of_a_guess() -> None:
    same = torch.ones(8, 4)
    assert float(nt_xent(same, same)) == pytest.approx(math.log(15))


def test_vicreg_is_the_sum_of_its_three_terms() -> None:
    one, two = views()
    spreads, covariances = [], []
    for view in (one.numpy(), two.numpy()):
        matrix = np.cov(view.T)
        spreads.append(np.mean([max(0, 1 - math.sqrt(matrix[d, d] + 1e-4)) for d in range(3)]))
        off = [matrix[d, e] ** 2 for d in range(3) for e in range(3) if d != e]
        covariances.append(sum(off) / 3)
    alike = float(((one - two) ** 2).mean())
    want = 2 * alike + 3 * sum(spreads) / 2 + 5 * sum(covariances)
    assert float(vicreg(one, two, 2, 3, 5)) == pytest.approx(want)


def test_vicreg_is_lowest_where_views_are_equal_spread_and_uncorrelated() -> None:
    corners = 2 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert float(vicreg(corners, corners)) == 0
    assert float(vicreg(corners * 0, corners * 0)) == pytest.approx(25 * 0.99)


def test_gradients_of_both_are_finite_where_all_is_the_same() -> None:
    for loss in (nt_xent, vicreg):
        same = torch.ones(6, 4, requires_grad=True)
        loss(same, same).backward()
        assert same.grad is not None
        assert same.grad.isfinite().all()
