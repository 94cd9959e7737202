"""Samples that a run makes or receives itself: numbered behind those of its training part."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dal.data.joined import JoinedStore
from dal.data.source import UNKNOWN, Source, Split
from dal.data.store import ArrayStore
from dal.utils.inputs import Inputs, cat_inputs, in_words, num_samples, take_rows


class MadeSplit(Split):
    """A training part and samples that were made during a run, numbered from its end on.

    ``len``, ``targets`` and ``positions`` are those of the training part: made samples are no
    candidates. Whatever takes indices (`take`, `part`, `original`, `show`) takes theirs as well,
    and so do ``store`` and ``rows``.

    Args:
        split: The training part; of one with made samples, without these.
        first: The number that people know the first made sample by, above those of all samples;
            None for the next after those of the training part.
    """

    def __init__(self, split: Split, first: int | None = None) -> None:
        split = split._part if isinstance(split, MadeSplit) else split
        super().__init__(split.store, split.rows, split.targets, split.prepare, split.positions)
        self._part: Split = split
        self._first = int(split.positions.max()) + 1 if first is None else first
        self._made: Inputs | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def made(self) -> Inputs | None:
        """What was made so far, as a store keeps it: (n, ...); None for nothing."""
        return self._made

    @property
    def num_made(self) -> int:
        """How many samples were made so far."""
        return 0 if self._made is None else num_samples(self._made)

    def add(self, inputs: Inputs) -> Tensor:
        """Take samples that were just made; gives their indices, int64, (b,).

        Args:
            inputs: As the store of the training part keeps its samples: (b, ...), on the CPU.

        Raises:
            ValueError: They are of another shape or type.
        """
        if in_words(inputs) != in_words(self._part.store.first):
            raise ValueError(
                f"samples of {in_words(inputs)} were made for data of "
                f"{in_words(self._part.store.first)}"
            )
        first = len(self) + self.num_made
        self._hold(inputs if self._made is None else cat_inputs([self._made, inputs]))
        return torch.arange(first, first + num_samples(inputs))

    def forget(self, kept: int = 0) -> None:
        """Keep the first samples that were made, and no more."""
        if self._made is not None and kept < self.num_made:
            self._hold(take_rows(self._made, torch.arange(kept)) if kept else None)

    def _hold(self, made: Inputs | None) -> None:
        self._made, self._rows_on = made, {}
        if made is None:
            self.store, self.rows = self._part.store, self._part.rows
            return
        own = self._part.store
        self.store = JoinedStore([own, ArrayStore(made)])
        self.rows = torch.cat([self._part.rows, len(own) + torch.arange(num_samples(made))])

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


def with_room(source: Source) -> Source:
    """The data with a training part that takes made samples, numbered above all others."""
    parts = [part for part in (source.train, source.validation, source.test) if part is not None]
    highest = max(int(part.positions.max()) for part in parts)
    first = max(highest + 1, len(source.contents or ()))
    return replace(source, train=MadeSplit(source.train, first))
