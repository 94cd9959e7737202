"""Several processes that do one run together, as ``torchrun`` starts them.

Every process goes through the same loop with the same data. What only one may do (choose, ask the
oracle, write files) the first does, and the others are given its result.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dal.utils.signals import Interrupts, PreemptedError
from dal.utils.torchrun import launched

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""How long a process waits for the others; torchrun itself notices those that die."""


class Ranks:
    """This process among those that share a run.

    Attributes:
        rank: Its number, from 0.
        world_size: How many there are.
    """

    rank = 0
    world_size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that chooses and writes."""
        return self.rank == 0

    def broadcast(self, make: Callable[[], T]) -> T:
        """What the first process makes; the others get a copy, or an error like its own."""
        return make()

    def main_first(self, make: Callable[[], T]) -> T:
        """What each process makes alone, the first before the others: it may leave them files."""
        return make()

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return number

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, element by element."""
        return values

    def all_gather(self, value: T) -> list[T]:
        """The processes' values, which hold tensors on the CPU."""
        return [value]

    def end_all(self, signum: int) -> None:
        """End all processes where a signal has ended the work of any; 0 for none.

        Raises:
            PreemptedError: Naming the signal.
        """
        if agreed := self.all_reduce_max(signum):
            raise PreemptedError(agreed)

    def local_device(self, device: torch.device) -> torch.device:
        """This process's device, where the run is to work on such a one."""
        return device

    def part(self, count: int) -> range:
        """Which of ``count`` things are this process's: one stretch, as even as can be."""
        return self.part_of(self.rank, count)

    def part_of(self, rank: int, count: int) -> range:
        """Which of ``count`` things are another's."""
        return range(rank * count // self.world_size, (rank + 1) * count // self.world_size)

    def all_gather_rows(
        self, parts: dict[Any, Tensor], rows: list[int], dims: dict[Any, int]
    ) -> None:
        """Put the parts of all processes together, in place of one's own.

        Args:
            parts: Tensors by name; empty for a process without rows.
            rows: How many rows each process has.
            dims: By name the dimension along which rows lie, where it is not 0.
        """


class _Group(Ranks):
    """Processes joined by `torch.distributed`."""

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def broadcast(self, make: Callable[[], T]) -> T:
        made: list[Any] = [None, None]
        if self.is_main:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        sent = [made[0], None if made[1] is None else f"{type(made[1]).__name__}: {made[1]}"]
        dist.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
        if made[1] is not None:
            raise made[1]
        if sent[1] is not None:
            raise RuntimeError(f"the first process failed: {sent[1]}")
        result: T = made[0] if self.is_main else sent[0]
        return result

    def main_first(self, make: Callable[[], T]) -> T:
        def alone() -> T:
            with _now(ALONE):
                return make()

        made: list[T] = []
        self.broadcast(lambda: made.append(alone()))
        return made[0] if made else alone()

    def local_device(self, device: torch.device) -> torch.device:
        return device_of(device.type)

    def all_reduce_max(self, number: int) -> int:
        value = torch.tensor(int(number))
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def all_gather(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value)
        return found

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    def all_gather_rows(
        self, parts: dict[Any, Tensor], rows: list[int], dims: dict[Any, int]
    ) -> None:
        owner = next(rank for rank in range(self.world_size) if rows[rank])
        shapes = {name: (tuple(t.shape), t.dtype, t.device.type) for name, t in parts.items()}
        sent: list[Any] = [shapes]
        dist.broadcast_object_list(sent, src=owner, device=torch.device("cpu"))
        for name in sorted(sent[0], key=repr):
            shape, dtype, kind = sent[0][name]
            dim = dims.get(name, 0)
            pieces = []
            for rank in range(self.world_size):
                if rank == self.rank and rows[rank]:
                    piece = parts[name].contiguous()
                else:
                    size = (*shape[:dim], rows[rank], *shape[dim + 1 :])
                    piece = torch.empty(size, dtype=dtype, device=device_of(kind))
                if rows[rank]:
                    dist.broadcast(piece, src=rank)
                    pieces.append(piece)
            parts[name] = torch.cat(pieces, dim)


ALONE = Ranks()
_CURRENT: contextvars.ContextVar[Ranks] = contextvars.ContextVar("ranks", default=ALONE)


def current() -> Ranks:
    """This process among those that share the run; alone outside of `joined`."""
    return _CURRENT.get()


def device_of(kind: str) -> torch.device:
    """The device of a kind that belongs to this process."""
    if kind == "cuda" and launched() > 1:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)


@contextmanager
def _now(ranks: Ranks) -> Iterator[Ranks]:
    """What `current` gives within a block; as before it afterwards."""
    token = _CURRENT.set(ranks)
    try:
        yield ranks
    finally:
        _CURRENT.reset(token)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun started for the time of a block; alone without it.

    Raises:
        RuntimeError: The others cannot be reached.
    """
    if launched() == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device_of("cuda"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        with _now(_Group()) as ranks:
            yield ranks
    finally:
        dist.destroy_process_group()


@contextmanager
def leaving_together() -> Iterator[None]:
    """A block that every process goes through, and that all leave where a signal ends it for one.

    Raises:
        PreemptedError: Naming the signal.
    """
    try:
        yield
    except PreemptedError as error:
        current().end_all(error.signum)
    current().end_all(0)


class AgreedInterrupts(Interrupts):
    """Signals to any of several processes, which all of them heed at the same point.

    `pending` is that point: every process must ask as often as the others.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks, self._agreed = ranks, 0

    @property
    def pending(self) -> bool:
        """Whether a signal has come to any process."""
        own = 0 if self._pending is None else int(self._pending[0])
        self._agreed = self._ranks.all_reduce_max(own)
        return self._agreed > 0

    def check(self) -> None:
        """Raise if all know of a signal, or one has come to this process.

        The others have to be told by `Ranks.end_all`, unless `pending` has just told all.

        Raises:
            PreemptedError: Naming it.
        """
        if self._agreed:
            raise PreemptedError(self._agreed)
        super().check()


def interrupts_of(ranks: Ranks) -> Interrupts:
    """Notes signals, together with the other processes where there are any."""
    return Interrupts() if ranks.world_size == 1 else AgreedInterrupts(ranks)
