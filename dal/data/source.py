"""What the rest of the package knows of data: splits that prepare batches on the device.

A data function (``digits()``, ``mnist(root)``, ...) returns a `Dataset`: the raw samples of one
data set. `dal.data.splits.make_source` divides it into a `Source` of parts, each a `Split` that
names rows of a `dal.data.store.Store`. Arrays move to the device once where they fit, other stores
are read batch by batch; resizing and normalization run on the device, in `Split.take`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from dal.data.class_names import target_name
from dal.data.growth import parted
from dal.data.prepare import Prepare
from dal.data.store import BLOCK, ArrayStore, Store, blocks, store_of, update
from dal.models.backbone import Preprocess
from dal.task import Task, task_of
from dal.utils.arrays import is_ascending
from dal.utils.inputs import Inputs, InputSpec, map_tensors, shapes_of

if TYPE_CHECKING:
    pass

UNKNOWN = -1
"""Target of a training sample whose label is not known (yet); a whole row of them, multi-label."""


def is_known(targets: Tensor) -> Tensor:
    """Which samples have a known target: bool, (N,), for targets (N,) or (N, C)."""
    known = targets != UNKNOWN
    return known if targets.ndim == 1 else known.all(1)


class Split:
    """Samples of one part of a data set: rows of a store, with their targets.

    Args:
        store: Where the raw samples are; other splits may name rows of the same store.
        rows: int64, (N,), which of them each sample is, on the CPU.
        targets: int64, (N,), class numbers in class-name order, or `UNKNOWN`. Multi-label targets
            are int64, (N, C), 1 where a label holds and 0 where not, or a row of `UNKNOWN`.
        prepare: Applied to every batch.
        positions: int64, (N,), the numbers that people and files know the samples by: where each
            stands in the data set's own arrays: those for training, test, validation, and those
            that came late, so that no number ever changes. None for the rows of the store.
    """

    def __init__(
        self,
        store: Store,
        rows: Tensor,
        targets: Tensor,
        prepare: Prepare | Preprocess | None = None,
        positions: Tensor | None = None,
    ) -> None:
        self.store, self.rows, self.targets = store, rows, targets
        self.prepare = prepare or Prepare()
        self.positions: Tensor = rows if positions is None else positions
        self._rows_on: dict[torch.device, Tensor] = {}

    @classmethod
    def of(cls, inputs: Inputs | Store, targets: Tensor, prepare: Prepare | None = None) -> Self:
        """All samples of arrays, or of a store."""
        store = store_of(inputs)
        return cls(store, torch.arange(len(store)), targets, prepare)

    def original(self, indices: Tensor) -> list[int]:
        """The numbers that people know some samples of this split by."""
        return list(self.positions[indices].tolist())

    def part(self, indices: Tensor) -> Split:
        """Some samples of this split, int64 (b,), as one of their own."""
        rows = self.rows[indices]
        positions = rows if self.positions is self.rows else self.positions[indices]
        return Split(self.store, rows, self.targets[indices], self.prepare, positions)

    def with_targets(self, targets: Tensor) -> Split:
        """The same samples with other targets."""
        return Split(self.store, self.rows, targets, self.prepare, self.positions)

    @cached_property
    def has_copies(self) -> bool:
        """Whether some samples are copies of others: of the same original."""
        if is_ascending(self.positions):
            return False
        return len(torch.unique(self.positions)) < len(self.positions)

    def redundant(self, picked: Tensor, known: Tensor) -> int:
        """How many picks are copies of a known sample, or of one picked before them.

        Args:
            picked: int64, (b,), in the order of picking.
            known: int64, (M,), the samples whose labels are known.
        """
        originals = self.positions[picked]
        new = originals[~torch.isin(originals, self.positions[known])]
        return len(picked) - len(torch.unique(new))

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, indices: Tensor, device: torch.device | str = "cpu") -> Inputs:
        """Some samples as the store keeps them, before any preparation.

        Args:
            indices: int64, (B,), positions within this split.
            device: Where the batch is wanted.
        """
        device = torch.device(device)
        if device.type == "cpu" or not self.store.resident(device):
            return self.store.read(self.rows[indices.cpu()], device)
        if device not in self._rows_on:
            self._rows_on[device] = self.rows.to(device)
        rows = self._rows_on[device].index_select(0, indices.to(device, non_blocking=True))
        return self.store.read(rows, device)

    def take(
        self, indices: Tensor, device: torch.device | str = "cpu", length: int | None = None
    ) -> Inputs:
        """Gather and prepare a batch on the device.

        Args:
            indices: int64, (B,), positions within this split.
            device: Where the batch is wanted; arrays move there as a whole at the first call,
                where they fit.
            length: What rows are cut to, at least `length` of the batch, which is the default and
                which waits for the device where the indices are not on the CPU.

        Returns:
            float32 (B, ...), ready for the model; or tensors (B, ...) by name.
        """
        inputs = self.raw(indices, device)
        length = length or self.length(indices)
        if length is not None:
            inputs = map_tensors(lambda tensor: tensor[:, :length].contiguous(), inputs)
        return self.prepare(inputs)

    def buckets(self, indices: Tensor) -> Tensor | None:
        """Lengths that some samples may be cut to: int64, (B,); None where samples are not cut."""
        return self.store.buckets(self.rows[indices.cpu()])

    def length(self, indices: Tensor) -> int | None:
        """The length that some samples may be cut to together; None where they are not cut."""
        found = self.buckets(indices)
        return int(found.max()) if found is not None and len(found) else None

    def uncut(self, device: torch.device | str = "cpu") -> Inputs | None:
        """A sample of full length as a batch of one; None where samples are not cut."""
        first = torch.zeros(1, dtype=torch.int64)
        return None if self.buckets(first) is None else self.prepare(self.raw(first, device))

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Told which positions will be taken next, batch by batch; see `Store.expect`."""
        self.store.expect(self.rows[batch.cpu()] for batch in batches)

    def blocks(self, size: int = BLOCK) -> Iterator[Inputs]:
        """All samples in order, as the store keeps them, so many at a time."""
        return blocks(self.store, self.rows, size)

    @property
    def inputs(self) -> Inputs:
        """All samples as the store keeps them, read into memory; of large stores take parts."""
        return self.store.read(self.rows)

    def show(self, index: int) -> Inputs | str:
        """One sample as people see it; see `Store.show`."""
        return self.store.show(int(self.rows[index]))

    @cached_property
    def input_shape(self) -> InputSpec:
        """Shape of one prepared sample, not cut, (channels, H, W) or (D,); or shapes by name."""
        return shapes_of(self.prepare(self.raw(torch.zeros(1, dtype=torch.int64))))


@dataclass(frozen=True)
class Source:
    """A data set divided for one run.

    Attributes:
        name: Short name of the data set.
        train: The training part: the pool and the labeled samples. Indices elsewhere in the
            package (``labeled_idx``, queries) always refer to it.
        test: The test part, or None; only evaluation reads it.
        validation: The validation part, or None.
        class_names: The C class names.
        foreign: bool, (number of training samples,), which of them are of none of the classes, so
            that an oracle can only abstain; None for none. Their targets are `UNKNOWN`.
        contents: See `Dataset.contents`; numbered as `Split.positions`.
        digest: See `Dataset.digest`; empty where nothing tells.
        appended: See `Dataset.appended`: the last samples of the training part.
        recipe: See `Dataset.recipe`; of ``front``, ``listing`` and ``shown`` likewise.
        own_validation: Whether the data set came with its validation part.
        validation_of_labels: Share of the labels that each round holds out, see `make_source`.
        vocab_size: Numbers of tokens or terms in inputs are below it; None where there are none.
        metric: The metric that learning curves show; None for that of the task.
        embed: Makes the `embedding` of a training part, of which so many samples were there when
            the run began; None where models have features of their own.
        truth: See `Dataset.truth`.
    """

    name: str
    train: Split
    test: Split | None
    validation: Split | None
    class_names: tuple[str, ...]
    foreign: Tensor | None = None
    contents: Sequence[str] | None = None
    digest: str = ""
    appended: int = 0
    recipe: Mapping[str, Any] | None = None
    front: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    listing: Mapping[str, Any] | None = None
    own_validation: bool = False
    validation_of_labels: float = 0.0
    shown: Store | None = None
    vocab_size: int | None = None
    metric: str | None = None
    embed: Callable[[Split, int], Tensor] | None = field(default=None, compare=False, repr=False)
    truth: Callable[[Inputs], Tensor] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def embedding(self) -> Tensor:
        """Features of the training samples where a network gives none: float32, (N, D), CPU."""
        assert self.embed is not None
        return self.embed(self.train, self.begun)

    @property
    def begun(self) -> int:
        """How many training samples there were when the run began."""
        return len(self.train) - self.appended

    @property
    def measured(self) -> Literal["test", "val", ""]:
        """Of which part the metrics tell how good a model is; empty where none does."""
        return "test" if self.test is not None else "val" if self.validation is not None else ""

    @property
    def headline(self) -> str:
        """The metric that the learning curve shows, such as ``test/accuracy``; or empty."""
        return f"{self.measured}/{self.task.headline}" if self.measured else ""

    @property
    def is_foreign(self) -> Tensor:
        """bool, (number of training samples,), see ``foreign``."""
        none = torch.zeros(len(self.train), dtype=torch.bool)
        return none if self.foreign is None else self.foreign

    @property
    def seen(self) -> Tensor:
        """int64, ascending: where the samples that decide the model stand in the data's own arrays.

        Those of the training part, labeled or not, and of the validation part.
        """
        parts = [self.train.positions[~self.is_foreign]]
        if self.validation is not None:
            parts.append(self.validation.positions)
        if len(parts) == 1 and is_ascending(parts[0]):
            return parts[0]
        rows: Tensor = torch.unique(torch.cat(parts))
        return rows

    @property
    def num_classes(self) -> int:
        """Number of classes C; of labels, where a sample may have several."""
        return len(self.class_names)

    @property
    def task(self) -> Task:
        """What is learned: multi-label where targets are rows, else one class a sample."""
        return task_of(self.train.targets, self.num_classes, self.metric)

    def target_name(self, target: int | list[int]) -> str:
        """A target as people read it; see `dal.data.class_names.target_name`."""
        return target_name(target, self.class_names)

    def content(self, index: int) -> str:
        """What a training sample is in words, see `Dataset.contents`; empty where nothing tells."""
        (position,) = self.train.original(torch.tensor([index]))
        told = self.contents or ()
        return told[position] if position < len(told) else ""  # foreign samples stand beyond

    def place(self, index: int) -> tuple[Store, int]:
        """Where a training sample is as people see it: a store, and its row there."""
        (position,) = self.train.original(torch.tensor([index]))
        if self.shown is not None and position < len(self.shown):  # foreign samples stand beyond
            return self.shown, position
        return self.train.store, int(self.train.rows[index])

    def show(self, index: int) -> Inputs | str:
        """A training sample as people see it, also where features take its place."""
        store, row = self.place(index)
        return store.show(row)

    def image(self, index: int) -> Tensor | None:
        """A training sample as a picture, (channels, H, W); None where people see other things."""
        seen = self.show(index)
        return seen if isinstance(seen, Tensor) and seen.ndim == 3 else None

    def named(self, values: Tensor) -> dict[str, float]:
        """Values of the classes, float, (C,), by class name; those that are NaN are left out."""
        pairs = zip(self.class_names, values.tolist(), strict=True)
        return {name: value for name, value in pairs if not math.isnan(value)}

    @property
    def input_shape(self) -> InputSpec:
        """Shape of one prepared sample, (channels, H, W) or (D,); or shapes by name."""
        return self.train.input_shape

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each part: ``train``, ``validation``, ``test``; 0 without one."""
        validation, test = (0 if p is None else len(p) for p in (self.validation, self.test))
        return {"train": len(self.train), "validation": validation, "test": test}

    def fingerprint(self) -> str:
        """A digest of all samples, targets and class names; equal data give equal digests.

        Those that came after the run had begun are left out: a run that they are added to goes on.
        Arrays in memory count by their content, files by theirs as it was when last read: see
        `dal.data.mapped`.
        """
        digest = hashlib.sha256(repr((self.name, self.class_names)).encode())
        for split in (self._at_start, self.test, self.validation):
            if split is not None:
                update(digest, split.store, split.rows, at_start=True)
                update(digest, ArrayStore(split.targets))
            digest.update(repr(split.prepare if split else None).encode())
        if self.foreign is not None:
            digest.update(self.foreign.numpy().data)
        return digest.hexdigest()

    @property
    def _at_start(self) -> Split:
        """The training part as it was when the run began."""
        if not self.appended:
            return self.train
        one = self.train.part(torch.arange(self.begun))
        store, _ = parted(one.store, len(one.store) - self.appended)
        return Split(store, one.rows, one.targets, one.prepare, one.positions)
