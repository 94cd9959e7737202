"""A trained model with all that it takes to use it on raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dal.data.inputs import as_inputs, as_named
from dal.data.mapped import MappedStore, checked, is_mapped
from dal.data.prepare import Prepare
from dal.data.reading import PathLike, Samples, inputs_like
from dal.data.source import UNKNOWN, Split
from dal.data.store import ArrayStore, Store, store_of
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.predicting import encoded_like
from dal.inference.pool_pass import auto_batch_size, predict_logits
from dal.models.backbone import Preprocess
from dal.models.base import numel_in
from dal.task import Multiclass, Task
from dal.utils.inputs import InputSpec, to_device

Raw = np.ndarray[Any, Any] | Tensor | dict[str, Any] | Sequence[str]
"""Raw inputs: an array or a tensor, or several by name; or texts."""
BATCHES = 4
"""Batches of a block of files."""


@dataclass(frozen=True)
class Predicted:
    """What a model says of some samples of a file.

    Attributes:
        names: What people know the n samples by: files, ids, or numbers of rows from 0.
        probs: float32, (n, C), class probabilities on the CPU; NaN where a sample cannot be read.
        faults: Why these cannot, by their place among the names.
    """

    names: Sequence[str]
    probs: Tensor
    faults: Mapping[int, str]


class Predictor:
    """A trained network with all it takes to use it on raw data.

    Attributes:
        model: The network, in evaluation mode; or a `dal.models.estimators.fitted.EstimatorModule`.
        class_names: The C class names.
        prepare: How raw inputs are prepared.
        input_shape: Shape of one prepared sample, (channels, H, W) or (D,); or shapes by name.
        task: What the outputs mean: one class a sample, or any number of labels.
        data: See `dal.data.Dataset.digest`, of the data of its run; empty where nothing tells.
        seen: See `dal.data.Source.seen`; None where nothing tells.
        recipe: How a file of samples becomes inputs, see `dal.data.Dataset.recipe`; None where that
            is reading an array.
        encoder: Makes inputs of texts, where the model learned from such.
        of_features: Predicts from features, where a frozen network stands in front; None elsewhere.
        earlier: What networks in front were fitted to by earlier runs, see `fitted_to`.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: tuple[str, ...],
        prepare: Prepare | Preprocess,
        input_shape: InputSpec,
        device: torch.device,
        task: Task | None = None,
        data: str = "",
        seen: Tensor | None = None,
        recipe: Mapping[str, Any] | None = None,
        encoder: TextEncoder | None = None,
        of_features: Predictor | None = None,
        earlier: Sequence[tuple[str, Tensor]] = (),
    ) -> None:
        self.of_features, self.earlier = of_features, earlier
        self.encoder = encoder
        self.model = model.to(device).eval()
        self.class_names, self.prepare, self.device = class_names, prepare, device
        self.input_shape = input_shape
        self.task = task or Multiclass(len(class_names))
        self.data, self.seen, self.recipe = data, seen, recipe

    @property
    def fitted_to(self) -> list[tuple[str, Tensor]]:
        """What decided the model, networks in front of it included: pairs of `data` and `seen`."""
        own = [] if self.seen is None else [(self.data, self.seen)]
        return [*own, *self.earlier]

    def predict_proba(self, inputs: Raw) -> Tensor:
        """Class probabilities; of each label by itself, where a sample may have several.

        Args:
            inputs: Raw inputs as in the training data, in memory or opened with
                ``numpy.load(path, mmap_mode="r")``: uint8 images (N, H, W),
                (N, H, W, channels) or (N, channels, H, W), or features (N, D); a tensor may be on
                any device. Or arrays (N, ...) by name. Or N texts, for a model that learned from
                such: a list, an array or a column of them. Where a frozen network stands in
                front of the model (``features=...``): what it takes, or the features that it gave.

        Returns:
            float32, (N, C), on the CPU. They are those of the run up to rounding: batches and
            lengths of rows may be others than there.

        Raises:
            ValueError, TypeError: They are of no such shape, not finite, or no texts; says which.
        """
        by, split = self._taken(inputs)
        numel = numel_in(by.model, split.store.spec)
        size = min(auto_batch_size(numel, self.device), len(split))
        return by._probs(split, size)

    def _probs(self, split: Split, batch_size: int) -> Tensor:
        logits = predict_logits(
            self.model,
            split.take,
            len(split),
            device=self.device,
            batch_size=batch_size,
            expect=split.expect,
            buckets=split.buckets,
        )
        probs = self.task.probs(logits).cpu()
        if (wrong := probs.isnan().any(1).nonzero()).numel():
            raise ValueError(
                f"what the model says of {len(wrong)} of {len(probs)} samples is no number (NaN), "
                f"the first is sample {int(wrong[0])} (counted from 0); its weights are damaged, "
                "or these inputs too large; restore the file of the model, or mend them"
            )
        return probs

    def predict_files(self, files: Samples | PathLike | Sequence[PathLike]) -> Iterator[Predicted]:
        """Class probabilities of what lies in files, of any size, block by block.

        Args:
            files: See `dal.data.reading.inputs_like`: an ``.npz`` or ``.npy`` file of inputs; a
                table, or pictures, where the model learned from such.

        Yields:
            All samples in their order.

        Raises:
            FileNotFoundError: There is nothing at the path.
            ValueError: It is nothing that the model takes, or cannot be read.
        """
        samples = files if isinstance(files, Samples) else inputs_like(self.recipe, files)
        size = auto_batch_size(numel_in(self.model, self.input_shape), self.device)
        for number, block in enumerate(samples.read(BATCHES * size)):
            probs = torch.full((len(block.names), len(self.class_names)), torch.nan)
            if block.inputs is not None:
                some = block.inputs
                by, split = self._taken(some if isinstance(some, list) else store_of(some))
                size = min(size, len(split)) if number == 0 else size
                sound = [row for row in range(len(probs)) if row not in block.faults]
                probs[sound] = by._probs(split, size)
            yield Predicted(block.names, probs, block.faults)

    def _taken(self, inputs: Raw | Store) -> tuple[Predictor, Split]:
        """Who predicts some inputs, and these as samples; see `split`."""
        if self.of_features is not None:
            inputs = _store(inputs)
            if inputs.spec == self.of_features.input_shape:
                return self.of_features, self.of_features.split(inputs)
        return self, self.split(inputs)

    def split(self, inputs: Raw | Store) -> Split:
        """Raw inputs (see `predict_proba`), checked, as samples that are prepared batch by batch.

        Raises:
            ValueError: See `predict_proba`.
        """
        encoded = encoded_like(self.encoder, inputs, self.input_shape)
        store = _store(inputs) if encoded is None else encoded
        own, trained_on = store.spec, self.input_shape
        if encoded is not None and isinstance(own, dict) and isinstance(trained_on, dict):
            own = {name: trained_on.get(name, own[name]) for name in own}  # of any length
        if isinstance(own, tuple) and isinstance(trained_on, tuple):
            compared = 1 if len(own) == 3 and self.prepare.resizes else None
            own, trained_on = own[:compared], trained_on[:compared]
        if own != trained_on:
            raise ValueError(
                f"a sample has shape {store.spec}, but the model was trained on "
                f"{self.input_shape}{self._or_features}; give inputs like those of the training "
                "data"
            )
        unknown = torch.full((), UNKNOWN).expand(len(store))
        return Split(store, torch.arange(len(store)), unknown, self.prepare)

    @property
    def _or_features(self) -> str:
        """What else is taken, for errors."""
        return f", by features {self.of_features.input_shape}" if self.of_features else ""

    def predict(self, inputs: Raw) -> list[str] | list[list[str]]:
        """The name of the most probable class of each input; see `predict_proba`.

        Where a sample may have several labels: the names of those more probable than one half, or
        than their thresholds where the run fitted them; a list for each input, empty where there
        is none.
        """
        return self.task.names(self.predict_proba(inputs), self.class_names)


def _store(inputs: Any) -> Store:
    if isinstance(inputs, Store):
        return inputs
    if isinstance(inputs, dict):
        return ArrayStore(to_device(as_named(inputs, "inputs"), "cpu"))
    if is_mapped(inputs):
        return checked(MappedStore(inputs, "inputs"))
    if isinstance(inputs, Tensor):
        inputs = inputs.detach().cpu().numpy()
    array = np.asarray(inputs)
    if array.dtype.kind == "U" or any(isinstance(some, Path) for some in array.flat[:1]):
        raise ValueError(
            "inputs are names or texts, and this model takes arrays of numbers; files are read by "
            "predict_files, or by dal predict"
        )
    return ArrayStore(as_inputs(array, "inputs"))
