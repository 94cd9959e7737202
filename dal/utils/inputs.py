"""Inputs of models: one tensor, or several tensors by name, such as token ids and their mask.

Everything that moves inputs about works on both by these functions. A sample is a row of the
tensor, or the rows of equal number in all tensors of a dict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]
"""A batch of samples: a tensor (B, ...), or tensors (B, ...) by name."""

InputSpec = tuple[int, ...] | dict[str, tuple[int, ...]]
"""What a model is told of its inputs: the shape of one sample, or shapes by name."""


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors that inputs consist of: one, or those of the dict in its order."""
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.values())


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Inputs of the same kind, with the function applied to each of their tensors."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(tensor) for name, tensor in inputs.items()}


def map_pairs(function: Callable[[Tensor, Tensor], Tensor], a: Inputs, b: Inputs) -> Inputs:
    """As `map_tensors`, over two inputs of one kind at once."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return function(a, b)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        raise ValueError("inputs of several kinds cannot be joined: a tensor and a dict")
    return {name: function(tensor, b[name]) for name, tensor in a.items()}


def shapes_of(inputs: Inputs) -> InputSpec:
    """Shape of one sample, or shapes by name."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    return {name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()}


def in_words(inputs: Inputs) -> str:
    """Type and shape of a sample, or types and shapes by name."""
    if isinstance(inputs, Tensor):
        return f"{inputs.dtype} {tuple(inputs.shape[1:])}"
    return ", ".join(f"{name}: {in_words(tensor)}" for name, tensor in inputs.items())


def numel_of(spec: InputSpec) -> int:
    """How many numbers a sample has."""
    shapes = spec.values() if isinstance(spec, dict) else [spec]
    return sum(math.prod(shape) for shape in shapes)


def one_tensor(inputs: Inputs, who: str) -> Tensor:
    """Inputs of something that takes one tensor only.

    Args:
        inputs: The inputs.
        who: Named in the error.

    Raises:
        TypeError: They are tensors by name.
    """
    if isinstance(inputs, Tensor):
        return inputs
    raise TypeError(f"{who} takes one tensor, and samples have {', '.join(inputs)}; do without it")


def one_shape(spec: InputSpec, who: str) -> tuple[int, ...]:
    """The shape of a sample, for a model that takes one tensor only.

    Raises:
        TypeError: Samples are tensors by name.
    """
    if isinstance(spec, tuple):
        return spec
    raise TypeError(
        f"{who} takes one tensor, and samples have {', '.join(spec)}; choose a model that is "
        "given a dict of tensors, or for texts data/encoder=model, which gives what a model takes"
    )


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


def num_bytes(inputs: Inputs) -> int:
    """Bytes that the numbers of inputs take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(inputs))


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
