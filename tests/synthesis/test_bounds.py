"""Numbers from 0 to 1 become samples within bounds, and back."""

from __future__ import annotations

import pytest
import torch

from dal.data.prepare import Prepare
from dal.synthesis.bounds import given_bounds, range_of


def test_features_are_spread_over_their_range_and_constant_ones_stay() -> None:
    inputs = torch.tensor([[0.0, 5.0, -1.0], [4.0, 5.0, 1.0]])
    box = range_of([inputs[:1], inputs[1:]])
    assert torch.equal(box.raw(torch.tensor([[0.0, 0.0, 0.5]])), torch.tensor([[0.0, 5.0, 0.0]]))
    assert torch.equal(box.raw(torch.ones(1, 3)), inputs[1:])
    inside = torch.tensor([[1.0, 5.0, 0.5]])
    assert torch.allclose(box.raw(box.units(inside)), inside)
    outside = box.units(torch.tensor([[9.0, 9.0, -9.0]]))
    assert outside.tolist() == [[1.0, 0.0, 0.0]]


def test_networks_are_given_the_same_of_pixels_before_and_after_they_are_kept() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    box = range_of([images])
    units = box.units(images)
    assert torch.equal(box.raw(units), images)
    prepare = Prepare(size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    assert torch.allclose(prepare(box.floats(units.float())), prepare(images), atol=1e-5)
    assert box.raw(torch.rand(2, 3, 8, 8)).dtype == torch.uint8


def test_samples_that_do_not_differ_have_no_volume() -> None:
    with pytest.raises(ValueError, match="no volume"):
        range_of([torch.ones(3, 2)])
    with pytest.raises(ValueError, match="not finite"):
        range_of([torch.tensor([[0.0], [float("inf")]])])


def test_given_bounds_are_for_all_numbers_or_for_each() -> None:
    box = given_bounds([0, 2], (3,), torch.float32)
    assert box.raw(torch.full((1, 3), 0.5)).tolist() == [[1, 1, 1]]
    box = given_bounds([[0, 1], [2, 3]], (2, 4, 4), torch.float32)
    assert box.raw(torch.ones(1, 2, 4, 4))[0, :, 0, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ([0, 1e-320], torch.float32),
        ([0, 1e39], torch.float32),
        ([-3e38, 3e38], torch.float32),
        ([0.1, 0.4], torch.uint8),
    ],
)
def test_bounds_have_a_volume_as_samples_are_kept(given: list[float], dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"have no volume, or no finite one, in (float32|uint8),"):
        given_bounds(given, (2, 2, 2), dtype)
