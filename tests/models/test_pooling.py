from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dal.models.pooling import max_pool_2x2

FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(3, 6, 28, 28), (2, 16, 10, 10), (1, 1, 2, 2), (2, 3, 7, 5)])
def test_max_pool_2x2_any_shape_equals_torch_bit_for_bit(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=rng).to(memory_format=memory_format)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = float("-inf"), float("inf")
    expected = F.max_pool2d(x, 2)
    with torch.no_grad():
        found = max_pool_2x2(x)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_max_pool_2x2_nan_in_a_square_is_kept(place: tuple[int, int]) -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, place[0], place[1]] = float("nan")
    with torch.no_grad():
        found = max_pool_2x2(x)
    assert found.isnan().tolist() == [[[[True, False], [False, False]]]]


def test_max_pool_2x2_with_gradient_is_that_of_torch() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).relu()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    max_pool_2x2(a).square().sum().backward()
    F.max_pool2d(b, 2).square().sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert torch.equal(a.grad, b.grad)
