"""How large what a file holds becomes, before anything is made of it: files may be anybody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, strided

DEPTH = 40
"""So many containers may lie in each other: a model in front of another is two."""
VALUES = 10_000_000
"""So many values there may be, each counted wherever it stands."""
SPARE = 2**26
"""Bytes that tensors may have beyond twice those that a file holds: some repeat one number."""


def check_unfolded(state: Any) -> None:
    """Refuse what a small file makes large: cycles, lists of the same lists, repeated numbers.

    Args:
        state: Tensors and plain containers, as `dal.checkpoint.load` gives them.

    Raises:
        ValueError: It is nested too deeply, or becomes much larger than the file.
    """
    held: dict[int, int] = {}
    claimed = _Claimed(held)
    values = _values(state, {}, 0, claimed)
    if values > VALUES:
        raise ValueError(f"it holds more than {VALUES:,} values; it is altered: restore it")
    if claimed.size > 2 * sum(held.values()) + SPARE:
        raise ValueError("its tensors repeat few numbers too often; it is altered: restore it")


class _Claimed:
    """Bytes that tensors have; what holds them is counted once, by its address."""

    def __init__(self, held: dict[int, int]) -> None:
        self.held, self.size = held, 0

    def add(self, tensor: Tensor) -> None:
        if tensor.layout != strided or tensor.device.type != "cpu":
            raise ValueError("a tensor of it is sparse, or of no memory; it is altered: restore it")
        storage = tensor.untyped_storage()
        self.held[storage.data_ptr()] = storage.nbytes()
        self.size += tensor.numel() * tensor.element_size()


def _values(part: Any, known: dict[int, int | None], depth: int, claimed: _Claimed) -> int:
    """How many values a part consists of; that of a container is worked out once."""
    if isinstance(part, Tensor):
        claimed.add(part)
        return 1
    if not isinstance(part, Mapping | list | tuple | set):
        return 1
    if depth > DEPTH:
        raise ValueError(f"it is nested more than {DEPTH} deep; it is altered: restore it")
    if id(part) not in known:
        known[id(part)] = None  # until it is: whoever meets that is inside it
        known[id(part)] = 1 + sum(_values(one, known, depth + 1, claimed) for one in _inner(part))
    if (count := known[id(part)]) is None:
        raise ValueError("it holds itself; it is altered: restore it")
    return count


def _inner(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from part.keys()
        yield from part.values()
    else:
        yield from part
