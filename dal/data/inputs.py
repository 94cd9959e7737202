"""Images and features of unknown making as tensors, or refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dal.utils.arrays import as_tensor

Array = npt.NDArray[Any]

_CHANNELS = (1, 3, 4)


def as_inputs(array: Array, key: str) -> Tensor:
    """Images or features as a tensor.

    Args:
        array: (N, H, W), (N, H, W, channels) or (N, channels, H, W) images, whole numbers in
            [0, 255] or floats; or (N, D) features, numbers of any kind.
        key: What to call the array in errors.

    Returns:
        uint8 or float32 (N, channels, H, W), or float32 (N, D).

    Raises:
        ValueError: If the array is of no such shape or type, empty, or holds NaN or infinity.
    """
    if array.size == 0:
        raise ValueError(f"{key!r} of shape {array.shape} is empty; save at least one sample")
    if array.dtype.kind == "U":
        raise ValueError(f"{key!r} holds texts; take data=text, or save numbers")
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{key!r} has type {array.dtype}; save numbers, for example float32")
    check_shape(array, key)
    if array.ndim == 2:
        return torch.from_numpy(_finite(array, key))
    images = channels_first(array, key)
    pixels = _finite(images, key) if images.dtype.kind == "f" else _bytes(images, key)
    return torch.from_numpy(np.ascontiguousarray(pixels))


def check_shape(array: Array, key: str) -> None:
    """Refuse an array that is neither features nor images by its dimensions."""
    if array.ndim not in (2, 3, 4):
        raise ValueError(
            f"{key!r} has shape {array.shape}; save features as (N, D) and images as (N, H, W), "
            "(N, H, W, channels) or (N, channels, H, W)"
        )


def as_named(named: Mapping[Any, Any], key: str) -> dict[str, Tensor]:
    """Several inputs of a sample as tensors by name.

    Args:
        named: Tensors (N, ...), which stay as they are; or arrays or lists, of which whole numbers
            keep their type and fractions become float32, as networks take them.
        key: What to call the inputs in errors.

    Raises:
        TypeError: One holds anything but numbers, or a name is no string.
        ValueError: An array or a list holds NaN or infinity.
    """
    for name in named:
        if not isinstance(name, str):
            raise TypeError(f"{key} have the name {name!r}; names are strings")
    return {str(name): _as_part(values, f"{key}[{name!r}]") for name, values in named.items()}


def _as_part(values: Any, key: str) -> Tensor:
    tensor = as_tensor(values, key)
    if isinstance(values, Tensor) or not (
        tensor.is_floating_point() and tensor.ndim and len(tensor)
    ):
        return tensor
    return torch.from_numpy(_finite(tensor.numpy(), key))


def _finite(array: Array, key: str) -> npt.NDArray[np.float32]:
    # Values beyond float32 become infinite here and are reported below, not as a warning.
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    is_bad = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    if is_bad.any():
        raise ValueError(
            f"{key!r} holds NaN, infinity or a number beyond float32 in {int(is_bad.sum())} rows, "
            f"the first is row {int(is_bad.argmax())}; drop the rows or fill the values in"
        )
    return numbers


def _bytes(images: Array, key: str) -> npt.NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "b" or images.min() < 0 or images.max() > 255:
        raise ValueError(
            f"{key!r} holds images of type {images.dtype} from {images.min()} to {images.max()}; "
            "save them as uint8 in [0, 255], or as floats in [0, 1]"
        )
    return images.astype(np.uint8)


def channels_first(array: Array, key: str) -> Array:
    """Images (N, H, W), (N, H, W, channels) or (N, channels, H, W) as the last, a view of them.

    Raises:
        ValueError: The array has another shape, or one that may be either.
    """
    if array.ndim == 3:
        return array[:, np.newaxis]
    check_shape(array, key)
    is_first, is_last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if is_first == is_last:
        which = "either axis 1 or axis 3" if is_first else "neither axis 1 nor axis 3"
        raise ValueError(
            f"{key!r} has shape {array.shape}, where {which} can be the channels (1, 3 or 4); "
            "save images as (N, channels, H, W) with H and W other than that"
        )
    return array if is_first else array.transpose(0, 3, 1, 2)
