"""The raw samples of one data set, before they are divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dal.data.store import Store, store_of
from dal.utils.digest import digest_tensors
from dal.utils.inputs import Inputs

if TYPE_CHECKING:
    from dal.data.texts.encoder import TextEncoder


@dataclass(frozen=True)
class Dataset:
    """The raw arrays of one data set, before it is divided.

    Tensors are taken as they are. NumPy arrays and lists are read as those of an archive (see
    `dal.data.npz`): images may have their channels last, targets may be strings, and class names
    may be left out. Of arrays by name, whole numbers keep their type and fractions become float32.
    Arrays opened with ``numpy.load(path, mmap_mode="r")`` stay on the disk, but for those by name.

    Attributes:
        name: Short name, used in the run directory.
        inputs: uint8 images (N, channels, H, W) or float32 features (N, D); or tensors (N, ...) by
            name, which models are given as they are; or a `dal.data.store.Store` of such.
        targets: int64, (N,), in [0, C), or `UNKNOWN` for samples nobody has labeled. Multi-label
            targets are int64, (N, C), 0 or 1, or a row of `UNKNOWN`: a sample has any of C labels.
        class_names: The C class names; column c of every output of a model is class c.
        test_inputs: Inputs of the official test part, or None where there is none.
        test_targets: int64 targets of the official test part, or None.
        size: Side length that images are resized to on the device, or None.
        mean: Normalization, see `Prepare`; empty with `standardize` for "from the training part".
        std: As `mean`.
        standardize: Compute `mean` and `std` per feature from the training inputs (labels play
            no part in it); or of these features alone, by their numbers from 0.
        contents: What each sample is in words, its file name or its text, the training samples
            followed by those of test and validation; for people. None where nothing tells.
        seen: int64, rows of the data set's own arrays on which a network was fitted that gives the
            inputs (see `dal.features.RunEmbedding`): they are no test samples. None for none.
        validation_inputs: Inputs of the official validation part, or None where there is none.
        validation_targets: int64 targets of it, or None.
        appended: How many training samples, the last ones, came after the run had begun. They play
            no part in how the data are divided. A store outside of memory is then a
            `dal.data.joined.JoinedStore` of which a part ends where they begin.
        listing: Which samples these are, as plain values and tensors, where a place may come to
            hold others: a run keeps it, and gives it back to the data function as ``known``.
        recipe: How a file of such samples becomes an input, in plain values; None where it is read.
        front: How a network made these inputs, which are features, of samples: plain values and
            tensors that `dal.export` makes it of again; None where none did.
        shown: What features were made of, for people, numbered as `contents`; late ones come last.
        encoder: Makes inputs of texts, where samples are a `dal.data.texts.stores.TextStore`; None
            otherwise, or for that which the model takes.
        truth: What any samples are, those that nobody drew as well: gives the targets, int64 (B,),
            of raw inputs (B, ...) as the store keeps them. None where nobody knows.
        depicts: What images show, which says by what they may be changed without becoming others:
            ``digits``, pen strokes; ``signs``, which are not to be mirrored; ``objects`` in gray,
            or ``natural`` scenes in color, which may be. Empty where nothing tells.
    """

    name: str
    inputs: Inputs | Store
    targets: Tensor
    class_names: tuple[str, ...] = ()
    test_inputs: Inputs | Store | None = None
    test_targets: Tensor | None = None
    size: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    standardize: bool | tuple[int, ...] = False
    contents: Sequence[str] | None = None
    seen: Tensor | None = None
    validation_inputs: Inputs | Store | None = None
    validation_targets: Tensor | None = None
    appended: int = 0
    listing: Mapping[str, Any] | None = None
    recipe: Mapping[str, Any] | None = None
    front: Mapping[str, Any] | None = None
    shown: Store | None = None
    encoder: TextEncoder | None = None
    truth: Callable[[Inputs], Tensor] | None = None
    depicts: str = ""

    def __post_init__(self) -> None:
        from dal.data.arrays import tensors_of  # which builds on this file

        for name, value in tensors_of(self).items():
            object.__setattr__(self, name, value)

    def digest(self) -> str:
        """Tells its inputs from those of other data sets: 64 hexadecimal digits.

        By shapes and about 1,000 rows, spread evenly, so that it is cheap at any size; that a few
        rows were corrected may escape it. Samples that came late play no part.
        """
        found: dict[str, Tensor] = {}
        names = "inputs", "test_inputs", "validation_inputs"
        for name, store in zip(names, self.stores, strict=True):
            if store is not None:
                count = len(store) - (self.appended if name == "inputs" else 0)
                some = store.sample(torch.arange(0, count, max(1, count // 1000)))
                named = some if isinstance(some, dict) else {"": some}
                found |= {f"{name} {count}{' ' * bool(k)}{k}": t for k, t in named.items()}
        return digest_tensors(found)

    @cached_property
    def store(self) -> Store:
        """Where the training samples are."""
        return store_of(self.inputs)

    @cached_property
    def test_store(self) -> Store | None:
        """Where the samples of the official test part are, or None where there is none."""
        return None if self.test_inputs is None else store_of(self.test_inputs)

    @cached_property
    def validation_store(self) -> Store | None:
        """Where the samples of the official validation part are, or None where there is none."""
        return None if self.validation_inputs is None else store_of(self.validation_inputs)

    @property
    def begun(self) -> int:
        """How many training samples there were when the run began."""
        return len(self.targets) - self.appended

    @property
    def stores(self) -> tuple[Store, Store | None, Store | None]:
        """Where the samples of each part are: training, test and validation part."""
        return self.store, self.test_store, self.validation_store
