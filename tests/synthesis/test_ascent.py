"""Gradient ascent of scores whose maxima are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.synthesis.ascent import ascend, nearest


def test_the_top_of_a_hill_is_found_and_a_bound_is_kept_to() -> None:
    top = torch.tensor([0.3, 0.7])
    start = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    found = ascend(lambda x: -(x - top).square().sum(1), start, steps=60, rate=0.05)
    assert (found - top).abs().max() < 0.01
    beyond = ascend(lambda x: x.sum(1), start, steps=60, rate=0.2)
    assert torch.equal(beyond, torch.ones(8, 2))


def test_each_sample_climbs_by_itself_and_never_ends_below_its_start() -> None:
    def score(x: Tensor) -> Tensor:
        return (20 * x).sin().sum((1, 2))

    start = torch.rand(6, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = ascend(score, start, steps=7, rate=0.3)
    alone = torch.cat([ascend(score, one[None], steps=7, rate=0.3) for one in start])
    assert torch.equal(together, alone)
    assert (score(together) >= score(start)).all()


def test_a_flat_score_moves_nothing() -> None:
    start = torch.full((2, 2), 0.5)
    assert torch.equal(ascend(lambda x: 0 * x.sum(1), start, steps=3, rate=1.0), start)


def test_an_ascent_that_diverges_is_refused() -> None:
    def score(x: Tensor) -> Tensor:
        return 1 / (0.6 - x[:, 0]).clamp(min=0)

    with pytest.raises(FloatingPointError, match=r"diverged in step [1-9].*1 of 2.*bounds"):
        ascend(score, torch.tensor([[0.1], [0.45]]), steps=20, rate=0.1)


def test_the_nearest_samples_are_taken_once_each() -> None:
    samples = torch.tensor([[0.0], [1.0], [5.0]])
    assert nearest(torch.tensor([[0.9], [0.8], [0.7]]), samples).tolist() == [1, 0, 2]
