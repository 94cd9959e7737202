"""NumPy arrays and lists of numbers, taken wherever tensors are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def as_tensor(values: Any, name: str) -> Tensor:
    """A tensor as it is; an array, or a list of numbers, as a tensor of the same type.

    Args:
        values: A tensor, or anything that `numpy.asarray` takes.
        name: What to call it in errors.

    Raises:
        TypeError: It holds anything but numbers.
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"{name} is a {type(values).__name__} of type {array.dtype}; give a tensor, or an "
            "array of numbers"
        )
    # A copy, since torch takes no reversed, foreign-endian or read-only memory.
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def is_ascending(values: Tensor, block: int = 4096) -> bool:
    """Whether numbers, (N,), grow strictly; looked at in blocks, so that no copy is made of all."""
    parts = (values[start : start + block] for start in range(0, len(values), block - 1))
    return all(bool((part[1:] > part[:-1]).all()) for part in parts)


def takes_arrays(function: Callable[P, T]) -> Callable[P, T]:
    """A function of tensors that takes arrays and lists for them too, and still gives tensors."""

    @wraps(function)
    def taking(*args: P.args, **kwargs: P.kwargs) -> T:
        given: Any = [_converted(value, function.__name__) for value in args]
        named: Any = {key: _converted(value, key) for key, value in kwargs.items()}
        return function(*given, **named)

    return taking


def _converted(value: Any, name: str) -> Any:
    """Arrays, lists, and what can be seen as an array (as that of pandas) as a tensor."""
    is_array = isinstance(value, list | tuple) or hasattr(value, "__array__")
    return as_tensor(value, name) if is_array else value
