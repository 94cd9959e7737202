"""Inputs that are one tensor, and inputs that are tensors by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dal.utils.inputs import (
    Inputs,
    cat_inputs,
    map_tensors,
    num_samples,
    stack_inputs,
    take_rows,
    tensors_of,
    to_device,
)

ONE = torch.arange(12).view(4, 3)


def both(tensor: Tensor) -> dict[str, Tensor]:
    return {"ids": tensor, "mask": -tensor[:, 0]}


def same(a: Inputs, b: Inputs) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_number_of_samples() -> None:
    assert num_samples(ONE) == num_samples(both(ONE)) == 4


@pytest.mark.parametrize("bad", [{}, {"a": torch.zeros(2), "b": torch.zeros(3)}])
def test_dicts_without_a_number_of_samples_are_refused(bad: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="rows"):
        num_samples(bad)


@pytest.mark.parametrize("which", [torch.tensor([3, 0, 3]), slice(1, 3), slice(0, 0)])
def test_rows(which: Tensor | slice) -> None:
    assert same(take_rows(ONE, which), ONE[which])
    assert same(take_rows(both(ONE), which), both(ONE[which]))


def test_a_slice_copies_nothing() -> None:
    part = take_rows(ONE, slice(1, 3))
    assert isinstance(part, Tensor)
    assert part.data_ptr() == ONE[1:3].data_ptr()


def test_map_and_device_keep_the_kind_and_the_names() -> None:
    assert same(map_tensors(lambda x: x + 1, ONE), ONE + 1)
    assert same(map_tensors(lambda x: 2 * x, both(ONE)), both(2 * ONE))
    assert same(to_device(both(ONE), "cpu"), both(ONE))
    assert [tensor.shape for tensor in tensors_of(both(ONE))] == [(4, 3), (4,)]
    assert tensors_of(ONE)[0] is ONE


def test_joining() -> None:
    parts = [ONE[:1], ONE[1:]]
    assert same(cat_inputs(parts), ONE)
    assert same(cat_inputs([both(part) for part in parts]), both(ONE))
    assert same(stack_inputs([ONE, ONE]), torch.stack([ONE, ONE]))
    stacked = stack_inputs([both(ONE), both(ONE + 1)])
    assert isinstance(stacked, dict)
    assert stacked["mask"].tolist() == [(-ONE[:, 0]).tolist(), (-ONE[:, 0] - 1).tolist()]


@pytest.mark.parametrize("other", [ONE, {"ids": ONE}])
def test_inputs_of_several_kinds_are_not_joined(other: Inputs) -> None:
    with pytest.raises(ValueError, match="several kinds"):
        cat_inputs([both(ONE), other])
