"""Samples that came after a run had begun: they stand behind the others, and divide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from dal.data.joined import JoinedStore
from dal.data.store import ArrayStore, Store
from dal.utils.inputs import map_tensors


def parted(store: Store, count: int) -> tuple[Store, Store]:
    """The first samples of a store, and those behind them, as stores of their own.

    Args:
        store: In memory, or joined of parts of which one ends there: files have one digest as a
            whole, so that those of the beginning must be a part of their own.
        count: How many are the first; at least 1, and fewer than all.

    Raises:
        ValueError: No part ends there.
    """
    before, behind = list[Store](), list[Store]()
    for part in store.parts if isinstance(store, JoinedStore) else [store]:
        room = count - sum(map(len, before))
        if 0 < room < len(part):
            first, rest = _cut(part, room)
            before.append(first)
            behind.append(rest)
        else:
            (before if room else behind).append(part)
    return joined(before), joined(behind)


def joined(stores: Sequence[Store]) -> Store:
    """Stores behind each other; a single one as it is."""
    return stores[0] if len(stores) == 1 else JoinedStore(stores)


def _cut(part: Store, count: int) -> tuple[Store, Store]:
    if not isinstance(part, ArrayStore):
        raise ValueError(
            f"{type(part).__name__} holds samples of the beginning and appended ones together; "
            f"give a JoinedStore of the {count} that a run began with, and of those behind them"
        )
    return (
        ArrayStore(map_tensors(lambda tensor: tensor[:count], part.inputs)),
        ArrayStore(map_tensors(lambda tensor: tensor[count:], part.inputs)),
    )
