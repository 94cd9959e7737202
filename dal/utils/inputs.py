"""Inputs of models: one tensor, or several tensors by name, such as token ids and their mask.

Everything that moves inputs about works on both by these functions. A sample is a row of the
tensor, or the rows of equal number in all tensors of a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]
"""A batch of samples: a tensor (B, ...), or tensors (B, ...) by name."""


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors that inputs consist of: one, or those of the dict in its order."""
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.values())


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Inputs of the same kind, with the function applied to each of their tensors."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(tensor) for name, tensor in inputs.items()}


def num_samples(inputs: Inputs) -> int:
    """Number of samples B.

    Raises:
        ValueError: A dict is empty, or its tensors have different numbers of rows.
    """
    if isinstance(inputs, Tensor):
        return len(inputs)
    lengths = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"the tensors of inputs have {lengths or 'no'} rows; give tensors of equally many"
        )
    return next(iter(lengths.values()))


def take_rows(inputs: Inputs, which: Tensor | slice) -> Inputs:
    """Some samples.

    Args:
        inputs: B samples.
        which: int64, (b,), on the device of the inputs; or a slice, which copies nothing.
    """
    if isinstance(which, slice):
        return map_tensors(lambda tensor: tensor[which], inputs)
    return map_tensors(lambda tensor: tensor.index_select(0, which), inputs)


def to_device(inputs: Inputs, device: torch.device | str) -> Inputs:
    """The same samples on a device."""
    return map_tensors(lambda tensor: tensor.to(device), inputs)


def cat_inputs(parts: Sequence[Inputs]) -> Inputs:
    """Samples of several batches behind each other: (sum of B, ...).

    Args:
        parts: At least one; all tensors, or all dicts of the same names.

    Raises:
        ValueError: Some are dicts and others not, or their names differ.
    """
    return _joined(torch.cat, parts)


def stack_inputs(parts: Sequence[Inputs]) -> Inputs:
    """R batches of equal shapes as one, with a dimension for them in front: (R, B, ...).

    Args:
        parts: See `cat_inputs`.

    Raises:
        ValueError: See `cat_inputs`.
    """
    return _joined(torch.stack, parts)


def _joined(join: Callable[[list[Tensor]], Tensor], parts: Sequence[Inputs]) -> Inputs:
    kinds = {None if isinstance(part, Tensor) else frozenset(part) for part in parts}
    if len(kinds) != 1:
        told = ["a tensor" if kind is None else f"{sorted(kind)}" for kind in kinds]
        raise ValueError(f"inputs of several kinds cannot be joined: {' and '.join(sorted(told))}")
    first = parts[0]
    if isinstance(first, Tensor):
        return join([part for part in parts if isinstance(part, Tensor)])
    named = [part for part in parts if isinstance(part, dict)]
    return {name: join([part[name] for part in named]) for name in first}
