"""In which batches samples are gone through: all of one size, and each of one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dal.utils.ranks import current

Buckets = Callable[[Tensor], Tensor | None]
"""Gives the lengths that some samples may be cut to; see `dal.data.store.Store.buckets`."""


def uncut(indices: Tensor) -> Tensor | None:
    """The `Buckets` of samples that are all of one length."""
    return None


def by_length(indices: Tensor, buckets: Buckets) -> tuple[Tensor | None, list[int]]:
    """An order in which samples of one length stand together, the longest first.

    What memory does not suffice for shows at once so.

    Args:
        indices: int64, (N,).
        buckets: Of the samples.

    Returns:
        int64, (N,), positions among the indices; None for the order in which they are. And how many
        there are of each length.
    """
    lengths = buckets(indices)
    if lengths is None:
        return None, [len(indices)]
    order = lengths.argsort(descending=True, stable=True)
    counts: list[int] = torch.unique_consecutive(lengths[order], return_counts=True)[1].tolist()
    return order, counts


class Batches:
    """The batches in which this process goes over some samples.

    All have the same number of rows, the last one of each length padded with its last sample: other
    sizes take other kernels, which change bits. Processes that share the work do whole batches of
    those that one process would make.

    Args:
        indices: int64, (N,).
        size: Rows of a batch.
        buckets: See `Buckets`: samples of one batch are of one length, so that a sample's bits
            depend on its own length alone, and on no other sample.

    Attributes:
        rows: How many samples each process goes over.
    """

    def __init__(self, indices: Tensor, size: int, buckets: Buckets = uncut) -> None:
        self._size = size
        self._order, counts = by_length(indices, buckets)
        self._indices = indices if self._order is None else indices[self._order]
        parts, start = [], 0
        for count in counts:
            stop = start + count
            parts += [range(at, min(at + size, stop)) for at in range(start, stop, size)]
            start = stop
        ranks = current()
        shares = [ranks.part_of(rank, len(parts)) for rank in range(ranks.world_size)]
        self.rows = [sum(map(len, parts[share.start : share.stop])) for share in shares]
        own = shares[ranks.rank]
        self._parts = parts[own.start : own.stop]

    @property
    def count(self) -> int:
        """Samples that this process goes over."""
        return self.rows[current().rank]

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Batches of exactly ``size`` indices, each with the number that are not padding."""
        for part in self._parts:
            batch = self._indices[part.start : part.stop]
            missing = self._size - len(batch)
            if missing:
                batch = torch.cat([batch, batch[-1:].expand(missing)])
            yield batch, len(part)

    def shown(
        self, on_batch: Callable[[], None], description: str | None
    ) -> Iterator[tuple[Tensor, int]]:
        """The same, with a call before each, and a progress bar where it is described."""
        silent = description is None or not current().is_main
        total, hidden = len(self._parts), True if silent else None
        with tqdm(total=total, desc=description, leave=False, disable=hidden) as bar:
            for batch in self:
                on_batch()
                yield batch
                bar.update()

    def in_order(self, results: dict[Any, Tensor], axes: dict[Any, int]) -> dict[Any, Tensor]:
        """What all processes have computed together, a row a sample, as the indices stand.

        Args:
            results: Rows of all samples by name, batch after batch.
            axes: Where the axis of samples is not the first.
        """
        if self._order is None:
            return results
        places = self._order.argsort()
        return {
            name: value.index_select(axes.get(name, 0), places.to(value.device))
            for name, value in results.items()
        }
