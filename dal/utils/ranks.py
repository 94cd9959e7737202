"""Several processes that do one run together, as ``torchrun`` starts them.

Every process goes through the same loop with the same data. The first process alone chooses, asks
the oracle and writes files, and sends the others what they need of the results.

Code asks `current` for them, and not first whether there are several: `Ranks` is a process that is
alone, the first and last of one.
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
    """This process among those that share a run; of this class it is the only one.

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
        """What ``make`` gives in the first process; the others do not call it, and get a copy.

        Raises:
            RuntimeError: In the others: ``make`` failed in the first process, where its own error
                is raised.
        """
        return make()

    def main_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in each process; the others call it once the first has done so.

        So they find the files that the first has written. Within ``make`` each process is alone.
        """
        return make()

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return number

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, element by element."""
        return values

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; tensors in them must be on the CPU."""
        return [value]

    def end_all(self, signum: int) -> None:
        """End the work of all processes where a signal has ended that of one.

        Args:
            signum: The signal that has ended the work of this process; 0 for none.

        Raises:
            PreemptedError: Naming the signal.
        """
        if agreed := self.all_reduce_max(signum):
            raise PreemptedError(agreed)

    def interrupts(self) -> Interrupts:
        """Notes signals to this process, and to the others."""
        return Interrupts()

    def local_device(self, device: torch.device) -> torch.device:
        """The device that is this process's own, of the same kind as the one the run asks for."""
        return device

    def part(self, count: int) -> range:
        """The numbers of those of ``count`` things that are this process's share.

        Shares are stretches, and differ in length by one at most.
        """
        return self.part_of(self.rank, count)

    def part_of(self, rank: int, count: int) -> range:
        """The same for another process."""
        return range(rank * count // self.world_size, (rank + 1) * count // self.world_size)

    def all_gather_rows(
        self, parts: dict[Any, Tensor], rows: list[int], dims: dict[Any, int]
    ) -> None:
        """Replace the rows of this process by those of all processes, in the order of their ranks.

        Args:
            parts: Tensors by name, changed in place; empty for a process without rows.
            rows: Number of rows of each process.
            dims: Dimension along which the rows of a tensor lie, by its name; 0 where it has none.
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

    def interrupts(self) -> Interrupts:
        return AgreedInterrupts(self)

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
    """This process among those that share its run; `ALONE` outside of `joined`."""
    return _CURRENT.get()


def device_of(kind: str) -> torch.device:
    """The device of this process, of a kind such as ``cuda``."""
    if kind == "cuda" and launched() > 1:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)


@contextmanager
def _now(ranks: Ranks) -> Iterator[Ranks]:
    """Let `current` give these within a block."""
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
    """A block that every process runs; where a signal ends it in one, it ends for all.

    Raises:
        PreemptedError: Naming the signal.
    """
    try:
        yield
    except PreemptedError as error:
        current().end_all(error.signum)
    current().end_all(0)


class AgreedInterrupts(Interrupts):
    """Notes signals to any of several processes; all of them heed a signal at the same point.

    They agree whenever `pending` is read, so every process must read it as often as the others.
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
