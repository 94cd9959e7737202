"""Inputs of a pool of one's own: arrays, tensors, data sets and loaders of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from dal.data.mapped import FileRows, is_mapped
from dal.data.source import Split
from dal.data.store import ArrayStore, Store
from dal.utils.arrays import as_tensor
from dal.utils.inputs import Inputs, map_tensors


class Items:
    """The N inputs of a pool, in their own order, batch by batch.

    What is no tensor is read as often as it is asked for, by the loader's workers where there are
    any; nothing but the batches is held in memory.

    Args:
        data: A tensor, array or list (N, ...), or several by name; a store, or a split of one; a
            torch data set whose items are inputs, or tuples with the input first; or a loader of
            one, whose order and batch size play no part.
        dtype: Of numbers with a fraction, as the model has them.

    Raises:
        TypeError: The items cannot be counted, are no tensors, or the loader leaves some out.
        ValueError: There are none.
    """

    def __init__(self, data: Any, dtype: torch.dtype) -> None:
        self.dtype, self._workers = dtype, 0
        self._collate: Callable[[list[Any]], Any] = collate_inputs
        if isinstance(data, DataLoader):
            _check_loader(data)
            self._workers = data.num_workers
            if data.collate_fn is not default_collate:
                self._collate = partial(_first_of, data.collate_fn)
            data = data.dataset
        if isinstance(data, IterableDataset):
            raise TypeError(
                f"{type(data).__name__} is iterated over, and its items have no numbers to be "
                "scored by; give a data set with a length, or a tensor of the inputs"
            )
        self._data: Any = data
        self._stored = _stored(data)
        is_array = isinstance(data, Tensor | Sequence) or hasattr(data, "__array__")
        is_array = is_array and not isinstance(data, Dataset)
        counted = hasattr(data, "__len__") and hasattr(data, "__getitem__")
        if self._stored is None and not (is_array or counted):
            raise TypeError(
                f"data is a {type(data).__name__}; give an array or a tensor of the inputs, a "
                "torch Dataset, or a DataLoader"
            )
        self._rows = as_tensor(data, "data") if is_array and self._stored is None else None
        if len(self) == 0:
            raise ValueError("data has no items; give at least one")
        self._stream: Iterator[Tensor] = iter(())
        self._next, self._size = -1, 0

    def __len__(self) -> int:
        if self._stored is not None:
            return len(self._stored)
        return len(self._data if self._rows is None else self._rows)

    def first(self) -> Inputs:
        """The first input, as a batch of one."""
        if self._stored is not None:
            return self.take(torch.zeros(1, dtype=torch.int64), torch.device("cpu"))
        return self._cast(self._collate([self._data[0]]) if self._rows is None else self._rows[:1])

    def buckets(self, indices: Tensor) -> Tensor | None:
        """The lengths that `take` may cut some items to; see `dal.data.store.Store.buckets`."""
        return self._stored.buckets(indices) if isinstance(self._stored, Split) else None

    def uncut(self, device: torch.device) -> Inputs | None:
        """See `dal.data.source.Split.uncut`."""
        return self._stored.uncut(device) if isinstance(self._stored, Split) else None

    def take(self, indices: Tensor, device: torch.device) -> Inputs:
        """A batch on a device.

        Args:
            indices: int64, (B,), neighbors in ascending order; the last may stand there repeatedly.
            device: Where it is wanted.
        """
        if self._stored is not None:
            read = self._stored.take if isinstance(self._stored, Split) else self._stored.read
            return map_tensors(self._cast, read(indices, device))
        if self._rows is not None:
            return self._cast(self._rows[indices.to(self._rows.device)]).to(device)
        start = int(indices[0])
        if start != self._next or len(indices) != self._size:
            self._stream, self._size = iter(self._loader(start, len(indices))), len(indices)
        batch = self._cast(next(self._stream))
        self._next = start + len(batch)
        missing = len(indices) - len(batch)
        if missing:
            batch = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
        return batch.to(device)

    def _loader(self, start: int, size: int) -> DataLoader[Any]:
        return DataLoader(
            self._data,
            batch_size=size,
            sampler=range(start, len(self)),
            num_workers=self._workers,
            collate_fn=self._collate,
        )

    def _cast(self, batch: Any) -> Tensor:
        if not isinstance(batch, Tensor):
            raise TypeError(
                f"an item of {type(self._data).__name__} has a {type(batch).__name__} for input; "
                "let items be tensors, or tuples with a tensor first (images: ToTensor())"
            )
        return batch.to(self.dtype) if batch.is_floating_point() else batch


def _stored(data: Any) -> Store | Split | None:
    """What is read by rows: stores, files, and tensors by name; None for anything else."""
    if isinstance(data, Store | Split):
        return data
    if isinstance(data, Mapping):
        return ArrayStore({str(name): as_tensor(each, name) for name, each in data.items()})
    return FileRows(data) if is_mapped(data) else None


def collate_inputs(items: list[Any]) -> Any:
    """The inputs of some items as a batch; their targets may be anything, None as well."""
    inputs = [item[0] if isinstance(item, tuple | list) else item for item in items]
    numbers = all(isinstance(x, Tensor | np.ndarray | np.number | int | float) for x in inputs)
    return default_collate(inputs) if numbers else inputs[0]  # which is refused by its type


def _first_of(collate: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """The inputs of a batch as a collating function of one's own makes it."""
    batch = collate(items)
    return batch[0] if isinstance(batch, tuple | list) else batch


def _check_loader(loader: DataLoader[Any]) -> None:
    """Refuse a loader that does not go over the whole of its data set once."""
    sampler = loader.sampler
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )
    iterable = isinstance(loader.dataset, IterableDataset)
    if not iterable and not (whole and type(loader.batch_sampler) is BatchSampler):
        raise TypeError(
            "the DataLoader has a sampler of its own, and scores are numbered as its data set is; "
            "give the data set, or torch.utils.data.Subset(dataset, indices) of what is to be "
            "scored"
        )
