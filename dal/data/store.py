"""Where the raw samples of a data set are: in memory, in files, or in several such places.

A `Store` is read by rows; nothing else of the package asks how it keeps them. Kinds of stores:
arrays in memory (here), arrays in files that stay there (`dal.data.mapped`), and stores behind each
other (`JoinedStore`). `dal.data.source.Split` names the rows of one part of a data set, so dividing
copies no sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dal.utils.digest import digest_tensors
from dal.utils.inputs import (
    Inputs,
    InputSpec,
    map_tensors,
    num_samples,
    shapes_of,
    take_rows,
    tensors_of,
    to_device,
)

CPU = torch.device("cpu")
BLOCK = 4096
"""Samples that are read at a time where all are gone through."""
SHARE = 2
"""Arrays move to a device where they take at most one part in so many of its free memory."""


class Store(ABC):
    """Raw samples, numbered from 0 on, that never change."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """Some samples as they are kept, before any preparation.

        Args:
            rows: int64, (B,), in any order, any of them repeatedly; on any device.
            device: Where the samples are wanted.

        Returns:
            A tensor (B, ...), or tensors (B, ...) by name.
        """

    def expect(self, batches: Iterable[Tensor]) -> None:  # noqa: B027
        """Told what will be read next, so that slow places may begin; no bit depends on it.

        Args:
            batches: Rows of each batch, int64, (B,), as `read` will get them and in this order.
                What was told before no longer counts.
        """

    def buckets(self, rows: Tensor) -> Tensor | None:
        """The length that each of some samples may be cut to, where samples are rows of a length.

        Batches of samples that may be cut to one length cost less, and a sample's bits depend on
        no other sample then, see `dal.inference.batches`.

        Args:
            rows: int64, (B,), on any device.

        Returns:
            int64, (B,), on the CPU, one of a short list of lengths: beyond it a sample has nothing
            in any of its tensors, which are all (B, L, ...). None where samples are not cut.
        """
        return None

    def sample(self, rows: Tensor) -> Inputs:
        """Numbers that tell some samples from others, by which data sets are known again.

        Each row of them depends on its sample alone, whatever other samples there are.
        """
        return self.read(rows)

    @abstractmethod
    def digest(self) -> str:
        """Tells these samples from others, and costs little where they have been seen before.

        Equal digests mean equal samples in equal order; equal samples may have several digests,
        for instance in memory and in a file.
        """

    def identity(self) -> str:
        """As `digest`, of the samples that a run began with, where some have been changed since."""
        return self.digest()

    def resident(self, device: torch.device | str) -> bool:
        """Whether all samples live on that device: reading them there moves nothing to it.

        What is not resident on a CUDA device must not be read within a recorded step. What is
        resident on the CPU is in memory.
        """
        return False

    def show(self, row: int) -> Inputs | str:
        """One sample as people see it.

        Returns:
            An image, uint8 or float, (channels, H, W); numbers of any other shape, such as (D,); or
            a text, or the path of a file.
        """
        return map_tensors(lambda tensor: tensor[0], self.read(torch.tensor([row])))

    def original(self, row: int) -> bytes | None:
        """The content of the file that a sample was made of, where people may want to see it whole.

        Returns:
            None where there is no such file, or it is not what it was.
        """
        return None

    @cached_property
    def first(self) -> Inputs:
        """The first sample, as a batch of one: it shows of what shape and type all are."""
        return self.read(torch.zeros(1, dtype=torch.int64))

    @property
    def spec(self) -> InputSpec:
        """Shape of one raw sample, or shapes by name."""
        return shapes_of(self.first)


class ArrayStore(Store):
    """Arrays in memory; they move to a device as a whole at the first reading, where they fit.

    Args:
        inputs: uint8 or float images (N, channels, H, W), float features (N, D), or any tensors
            (N, ...) by name; on the CPU. They are kept as they are, not copied.

    Raises:
        TypeError: A tensor is sparse, or a single number.
        ValueError: Tensors by name have different numbers of rows.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = map_tensors(_rows_alone, inputs)
        self._length = num_samples(inputs)
        self._on: dict[torch.device, Inputs | None] = {}

    def __len__(self) -> int:
        return self._length

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """See `Store.read`."""
        device = torch.device(device)
        moved = self._moved(device)
        if moved is None:
            return to_device(take_rows(self.inputs, rows.cpu()), device)
        return take_rows(moved, rows.to(device, non_blocking=True))

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return self._moved(torch.device(device)) is not None

    def digest(self) -> str:
        """By content, which is read once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_tensors(_named(self.inputs))

    def _moved(self, device: torch.device) -> Inputs | None:
        """All samples on the device, or None where they do not fit."""
        if device not in self._on:
            fit = fits(self._size, device)
            self._on[device] = to_device(self.inputs, device) if fit else None
        return self._on[device]

    @property
    def _size(self) -> int:
        return sum(tensor.nbytes for tensor in tensors_of(self.inputs))


def _rows_alone(tensor: Tensor) -> Tensor:
    """A tensor without what computed it, through which every step would go back."""
    if tensor.ndim == 0 or tensor.layout != torch.strided:
        kind = "a single number" if tensor.ndim == 0 else f"of layout {tensor.layout}"
        raise TypeError(
            f"a tensor of inputs is {kind}; give a dense one with a row for each sample"
        )
    return tensor.detach() if tensor.requires_grad else tensor


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes may move to a device and stay there."""
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] // SHARE


def store_of(inputs: Inputs | Store) -> Store:
    """A store as it is; arrays as one."""
    return inputs if isinstance(inputs, Store) else ArrayStore(inputs)


def blocks(
    store: Store,
    rows: Tensor | None = None,
    size: int = BLOCK,
    take: Callable[[Tensor], Inputs] | None = None,
) -> Iterator[Inputs]:
    """Some samples in order, so many at a time.

    Args:
        store: Where they are.
        rows: int64, (N,); None for all.
        size: Samples of a block; the last may have fewer.
        take: What is taken of rows of the store; None for `Store.read`.
    """
    take = take or store.read
    count = len(store) if rows is None else len(rows)
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield take(torch.arange(start, stop) if rows is None else rows[start:stop])


def update(digest: Any, store: Store, rows: Tensor | None = None, at_start: bool = False) -> None:
    """Add samples to a digest of `hashlib`.

    What is in memory counts by its bytes, as if these samples were an array of their own; anything
    else by the digest of its store, so that files are not read for it, and the rows' numbers.

    Args:
        digest: Takes bytes.
        store: Where the samples are.
        rows: int64, (N,); None for all.
        at_start: Take the samples as they were when a run began; see `Store.identity`.
    """
    if not store.resident(CPU):
        digest.update((store.identity() if at_start else store.digest()).encode())
        if rows is not None:
            update(digest, ArrayStore(rows))
        return
    count = len(store) if rows is None else len(rows)
    first = store.sample(torch.zeros(1, dtype=torch.int64))
    for place, (name, one) in enumerate(_named(first).items()):
        digest.update(repr((*[name] * (name != ""), (count, *one.shape[1:]), one.dtype)).encode())
        for block in blocks(store, rows, take=store.sample):
            digest.update(tensors_of(block)[place].contiguous().numpy().data)


def _named(inputs: Inputs) -> dict[str, Tensor]:
    return inputs if isinstance(inputs, dict) else {"": inputs}
