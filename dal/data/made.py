"""Samples that a run makes or receives itself: numbered behind those of its training part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.joined import JoinedStore
from dal.data.source import UNKNOWN, Source, Split
from dal.data.store import ArrayStore, Store
from dal.utils.inputs import Inputs, cat_inputs, in_words, take_rows

Encode = Callable[[Sequence[str]], Store]


class MadeSplit(Split):
    """A training part and samples that were made during a run, numbered from its end on.

    ``len``, ``targets`` and ``positions`` are those of the training part: made samples are no
    candidates. Whatever takes indices (`take`, `part`, `original`, `show`) takes theirs as well,
    and so do ``store`` and ``rows``.

    Args:
        split: The training part; of one with made samples, without these.
        first: The number that people know the first made sample by, above those of all samples;
            None for the next after those of the training part.
        encode: Makes a store of texts, where these are what is added.
    """

    def __init__(
        self, split: Split, first: int | None = None, encode: Encode | None = None
    ) -> None:
        split = split._part if isinstance(split, MadeSplit) else split
        super().__init__(split.store, split.rows, split.targets, split.prepare, split.positions)
        self._part: Split = split
        self._first = int(split.positions.max()) + 1 if first is None else first
        self._encode = encode
        self._stores: list[Store] = []

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def first(self) -> int:
        """The number that people know the first made sample by."""
        return self._first

    @property
    def made(self) -> Inputs | None:
        """What was made so far, as a store keeps it: (n, ...); None for nothing."""
        found = [store.read(torch.arange(len(store))) for store in self._stores]
        return cat_inputs(found) if found else None

    @property
    def num_made(self) -> int:
        """How many samples were made so far."""
        return sum(map(len, self._stores))

    def add(self, inputs: Inputs | Sequence[str]) -> Tensor:
        """Take samples that were just made; gives their indices, int64, (b,).

        Args:
            inputs: As the store of the training part keeps its samples: (b, ...), on the CPU; or b
                texts.

        Raises:
            ValueError: They are of another shape or type.
        """
        if isinstance(inputs, Tensor | dict):
            if in_words(inputs) != in_words(self._part.store.first):
                raise ValueError(
                    f"samples of {in_words(inputs)} were made for data of "
                    f"{in_words(self._part.store.first)}"
                )
            store: Store = ArrayStore(inputs)
        else:
            store = self._encoded(inputs)
        first = len(self) + self.num_made
        count = len(store)
        self._hold([*self._stores, store])
        return torch.arange(first, first + count)

    def forget(self, kept: int = 0) -> None:
        """Keep the first samples that were made, and no more."""
        stores: list[Store] = []
        for store in self._stores:
            if kept > 0:
                stores.append(store if len(store) <= kept else self._some(store, kept))
            kept -= len(store)
        self._hold(stores)

    def _encoded(self, texts: Sequence[str]) -> Store:
        assert self._encode is not None
        return self._encode(texts)

    def _some(self, store: Store, kept: int) -> Store:
        """The first samples of a store."""
        if isinstance(store, ArrayStore):
            return ArrayStore(take_rows(store.inputs, torch.arange(kept)))
        return self._encoded([str(store.show(row)) for row in range(kept)])

    def _joined(self, one: Store, other: Store) -> Store:
        if isinstance(one, ArrayStore) and isinstance(other, ArrayStore):
            return ArrayStore(cat_inputs([one.inputs, other.inputs]))
        return self._encoded([str(s.show(row)) for s in (one, other) for row in range(len(s))])

    def _hold(self, stores: list[Store]) -> None:
        while len(stores) > 1 and len(stores[-2]) <= len(stores[-1]):  # so there are few
            stores[-2:] = [self._joined(stores[-2], stores[-1])]
        self._stores, self._rows_on = stores, {}
        own = self._part.store
        self.store = JoinedStore([own, *stores]) if stores else own
        made = len(own) + torch.arange(self.num_made)
        self.rows = torch.cat([self._part.rows, made]) if stores else self._part.rows

    def part(self, indices: Tensor) -> Split:
        """See `Split.part`; nobody knows the targets of made samples."""
        indices = indices.cpu()
        made = indices >= len(self)
        if not made.any():
            return self._part.part(indices)
        targets = self.targets[indices.masked_fill(made, 0)]
        targets[made] = UNKNOWN
        positions = torch.tensor(self.original(indices))
        return Split(self.store, self.rows[indices], targets, self.prepare, positions)

    def original(self, indices: Tensor) -> list[int]:
        """See `Split.original`; numbers of made samples stand above those of all others."""
        own = self.positions[indices.clamp(max=len(self) - 1)]
        made = indices - len(self)
        return list(torch.where(made < 0, own, self._first + made).tolist())

    def redundant(self, picked: Tensor, known: Tensor) -> int:
        """See `Split.redundant`; made samples are no copies."""
        return super().redundant(picked[picked < len(self)], known)


def with_room(source: Source, encode: Encode | None = None) -> Source:
    """The data with a training part that takes made samples, numbered above all others.

    Args:
        source: The data.
        encode: See `MadeSplit`.
    """
    parts = [part for part in (source.train, source.validation, source.test) if part is not None]
    highest = max(int(part.positions.max()) for part in parts)
    first = max(highest + 1, len(source.contents or ()))
    return replace(source, train=MadeSplit(source.train, first, encode))
