"""Stores made of others: several behind each other, and one some of whose samples were changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from dal.data.store import CPU, Store
from dal.utils.digest import digest_tensors
from dal.utils.inputs import Inputs, cat_inputs, map_pairs, take_rows, tensors_of


class JoinedStore(Store):
    """Several stores behind each other: the rows of the first, then those of the second, ...

    Args:
        parts: At least one; their samples are of one shape and type.
    """

    def __init__(self, parts: Sequence[Store]) -> None:
        self.parts = [own for part in parts for own in _parts_of(part)]
        self._starts = list(itertools.accumulate(map(len, self.parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """See `Store.read`."""
        if rows.device.type != "cpu" and self.resident(device):
            return self._read_everywhere(rows, device)
        return self._gathered(rows.cpu(), lambda part, own: part.read(own, device))

    def sample(self, rows: Tensor) -> Inputs:
        """See `Store.sample`."""
        return self._gathered(rows.cpu(), lambda part, own: part.sample(own))

    def _gathered(self, rows: Tensor, take: Callable[[Store, Tensor], Inputs]) -> Inputs:
        """What is taken of each part for some rows of all, in the order of these."""
        which = self._which(rows)
        places: list[Tensor] = []
        found: list[Inputs] = []
        for number in torch.bincount(which).nonzero().squeeze(1).tolist() or [0]:  # of no rows
            places.append((which == number).nonzero().squeeze(1))
            own = rows[places[-1]] - self._starts[number]
            found.append(take(self.parts[number], own))
        if len(found) == 1:
            return found[0]
        order, device = torch.cat(places).argsort(), tensors_of(found[0])[0].device
        return take_rows(cat_inputs(found), order.to(device))

    def expect(self, batches: Iterable[Tensor]) -> None:
        """See `Store.expect`."""
        copies = itertools.tee(batches, len(self.parts))
        for number, (part, copy) in enumerate(zip(self.parts, copies, strict=True)):
            part.expect(self._of_part(number, copy))

    def buckets(self, rows: Tensor) -> Tensor | None:
        """See `Store.buckets`; None where some part has none."""
        rows = rows.cpu()
        which, lengths = self._which(rows), torch.empty_like(rows)
        for number, part in enumerate(self.parts):
            own = which == number
            found = part.buckets(rows[own] - self._starts[number])
            if found is None:
                return None
            lengths[own] = found
        return lengths

    def _of_part(self, number: int, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """What `read` asks of a part for batches of all rows."""
        for batch in batches:
            own = batch[self._which(batch) == number]
            if len(own):
                yield own - self._starts[number]

    def _which(self, rows: Tensor) -> Tensor:
        """The part that each of some rows on the CPU is in."""
        return torch.bucketize(rows, torch.tensor(self._starts[1:]), right=True)

    def _read_everywhere(self, rows: Tensor, device: torch.device | str) -> Inputs:
        """As many samples of each part, of which those that are meant are kept.

        No step looks at the numbers of the rows, so a recorded step of CUDA may hold this.
        """
        found = self.parts[0].read(rows.clamp(max=len(self.parts[0]) - 1), device)
        for part, start in zip(self.parts[1:], self._starts[1:-1], strict=True):
            own = part.read((rows - start).clamp(0, len(part) - 1), device)
            meant = (rows >= start).to(device)
            found = map_pairs(partial(_exchanged, meant), found, own)
        return found

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return all(part.resident(device) for part in self.parts)

    def show(self, row: int) -> Inputs | str:
        """See `Store.show`."""
        number = int(self._which(torch.tensor(row)))
        return self.parts[number].show(row - self._starts[number])

    def original(self, row: int) -> bytes | None:
        """See `Store.original`."""
        number = int(self._which(torch.tensor(row)))
        return self.parts[number].original(row - self._starts[number])

    def digest(self) -> str:
        """Of the parts' digests and lengths."""
        return _of_parts([(len(part), part.digest()) for part in self.parts])

    def identity(self) -> str:
        """See `Store.identity`."""
        return _of_parts([(len(part), part.identity()) for part in self.parts])


class ChangedStore(Store):
    """Samples some of which have been changed since a run began with them.

    Args:
        store: Where they are now.
        identity: The digest of those of the beginning.
    """

    def __init__(self, store: Store, identity: str) -> None:
        self.store, self._identity = store, identity

    def __len__(self) -> int:
        return len(self.store)

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Inputs:
        """See `Store.read`."""
        return self.store.read(rows, device)

    def expect(self, batches: Iterable[Tensor]) -> None:
        """See `Store.expect`."""
        self.store.expect(batches)

    def buckets(self, rows: Tensor) -> Tensor | None:
        """See `Store.buckets`."""
        return self.store.buckets(rows)

    def resident(self, device: torch.device | str) -> bool:
        """See `Store.resident`."""
        return self.store.resident(device)

    def show(self, row: int) -> Inputs | str:
        """See `Store.show`."""
        return self.store.show(row)

    def original(self, row: int) -> bytes | None:
        """See `Store.original`."""
        return self.store.original(row)

    def digest(self) -> str:
        """Of the samples as they are now."""
        return self.store.digest()

    def identity(self) -> str:
        """See `Store.identity`."""
        return self._identity


def _of_parts(facts: list[tuple[int, str]]) -> str:
    return digest_tensors({repr(facts): torch.empty(0)})


def _parts_of(store: Store) -> Sequence[Store]:
    return store.parts if isinstance(store, JoinedStore) else [store]


def _exchanged(mask_B: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The new samples where the mask holds, the old ones elsewhere."""
    return torch.where(mask_B.view(-1, *[1] * (old.ndim - 1)), new, old)
