"""Features from a network that runs once over the data and is never trained again."""

from __future__ import annotations

import itertools
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dal.data.dataset import Dataset
from dal.data.growth import joined, parted
from dal.data.mapped import MappedStore
from dal.data.prepare import Prepare
from dal.data.store import ArrayStore, Store
from dal.data.texts.encoding import are_texts
from dal.features.base import Embedding, with_features
from dal.features.cache import FeatureCache, key_of
from dal.inference.pool_pass import auto_batch_size, pool_pass
from dal.models.backbone import Preprocess, torchvision_front, weights_digest
from dal.models.frozen import DTYPES
from dal.models.weights import is_file
from dal.query.needs import Features
from dal.task import Multiclass
from dal.utils.inputs import (
    Inputs,
    InputSpec,
    numel_of,
    shapes_of,
    take_rows,
    tensors_of,
    to_device,
)

log = logging.getLogger(__name__)

BLOCK = 1024
"""Images embedded between two writes to the disk: what a killed process loses at most."""


@dataclass(frozen=True)
class Frozen:
    """A network that is not trained.

    Attributes:
        model: Answers with an `Output` whose features are (B, D).
        prepare: Turns raw images on the device into what the network takes.
        name: The network in words.
        input_shape: (channels, H, W) that images must have; None for any image of 1 or 3 channels.
        fitted_to: What decided the network, where that is known: pairs of data, see
            `dal.data.Dataset.digest`, and the rows of them, see `dal.data.Source.seen`.
        saved: What `dal.export` makes the network of again, see `dal.data.Dataset.front`; None for
            one that it does not know.
    """

    model: nn.Module
    prepare: Preprocess | Prepare
    name: str
    input_shape: InputSpec | None = None
    fitted_to: Sequence[tuple[str, Tensor]] = ()
    saved: Mapping[str, Any] | None = None

    @property
    def facts(self) -> tuple[str, str]:
        """What decides the features, besides weights and images."""
        return self.name, repr(self.prepare)

    def refuse(self, shape: InputSpec, name: str) -> None:
        """Refuse images of a shape that the network cannot take.

        Raises:
            ValueError: Naming both shapes.
        """
        if isinstance(shape, dict) or isinstance(self.input_shape, dict):
            good, wanted = shape == self.input_shape, f"inputs {self.input_shape}"
        elif self.input_shape is None:
            good, wanted = len(shape) == 3 and shape[0] in (1, 3), "images of 1 or 3 channels"
        else:
            part = slice(1) if self.prepare.resizes and len(shape) == 3 else slice(None)
            good, wanted = shape[part] == self.input_shape[part], f"inputs {self.input_shape}"
        if not good:
            raise ValueError(
                f"samples of {name} have shape {shape}, and {self.name} takes {wanted}; set "
                "features=none, or choose features that fit"
            )


class NetworkEmbedding(Embedding):
    """Runs a network in batches over training and test images, once: the result is kept on disk.

    The file is named by a digest of the images, the network with its weights, the preprocessing
    and the type, so whatever changes is computed anew; see `dal.features.cache`.

    Args:
        cache_dir: Folder of the files.
        dtype: Type in which features are kept; what computes with them does so in float32.
        standardize: Subtract mean and divide by deviation of the training part, by feature.
        batch_size: Images at once; None for automatic.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        cache_dir: str = "~/.cache/dal/features",
        dtype: Literal["float16", "float32"] = "float16",
        standardize: bool = True,
        batch_size: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"features.dtype={dtype!r}; choose {' or '.join(DTYPES)}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"features.batch_size={batch_size}; give at least 1")
        self.cache_dir, self.standardize, self.batch_size = cache_dir, standardize, batch_size
        self.dtype = DTYPES[dtype]

    @abstractmethod
    def network(self, device: torch.device) -> Frozen:
        """The network on the device, and how it wants its images."""

    def __call__(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Embed the images of all parts, or read what was embedded before.

        Images that came after the run had begun have a file of their own: the features of the
        others stay as they are, to the last bit.

        Raises:
            ValueError: The network does not take these images, or gives infinite features.
            OSError: Weights are missing, or the cache cannot be written to.
        """
        refuse_texts(dataset)
        frozen, embed = self.network(device), partial(self._embedded, device=device, check=check)
        digest = dataset.digest()
        store, test, validation = dataset.stores
        late: list[Store] = []
        if dataset.appended:
            store, added = parted(store, dataset.begun)
            late = embed([added], frozen, name=dataset.name)
        parts = [part for part in (store, test, validation) if part is not None]
        own, *others = embed(parts, frozen, name=dataset.name)
        embedded = with_features(
            dataset,
            joined([own, *late]),
            None if test is None else others[0],
            self.standardize,
            None if validation is None else others[-1],
            self._front(frozen, dataset, digest),
        )
        seen = [rows for data, rows in frozen.fitted_to if data == digest]
        return replace(embedded, seen=torch.cat(seen)) if seen else embedded

    def _front(self, frozen: Frozen, dataset: Dataset, digest: str) -> dict[str, Any] | None:
        """See `dal.data.Dataset.front`."""
        if frozen.saved is None:
            return None
        return {
            **frozen.saved,
            "dtype": str(self.dtype).removeprefix("torch."),
            "input_shape": dataset.store.spec,
            "recipe": None if dataset.recipe is None else dict(dataset.recipe),
            "data": digest,
        }

    def _embedded(
        self,
        parts: list[Store],
        frozen: Frozen,
        *,
        name: str,
        device: torch.device,
        check: Callable[[], None],
    ) -> list[Store]:
        """The features of each of some stores, which share a file."""
        for part in parts:
            frozen.refuse(part.spec, name)
        key = key_of(parts, *frozen.facts, weights_digest(frozen.model), str(self.dtype))
        cache = FeatureCache(self.cache_dir, key)
        with cache.alone(check):
            found = cache.read()
            if found is None:
                rows = sum(len(part) for part in parts)
                log.info("features: running %s once over %s images", frozen.name, f"{rows:,}")
                cache.write(self._blocks(parts, frozen, device, check), made_by=frozen.name)
                found = cache.read()
        if found is None:
            raise OSError(f"{cache.array} was damaged as it was written; check the disk")
        features, facts = found
        log.info(
            "features: %s x %d by %s, computed in %.1f s, in %s",
            f"{len(features):,}",
            features.shape[1],
            frozen.name,
            facts.get("seconds", math.nan),
            cache.array,
        )
        ends = list(itertools.accumulate(map(len, parts), initial=0))
        return [
            MappedStore(features, str(cache.array), slice(start, end))
            for start, end in itertools.pairwise(ends)
        ]

    def embed(self, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Features of any images, for instance to predict them with a model of such a run.

        Args:
            images: Raw images like those of the data set, (N, channels, H, W).
            device: Where the network runs.

        Returns:
            float16 or float32, (N, D), on the CPU.

        Raises:
            ValueError: The network does not take these images, or gives infinite features.
        """
        where = torch.device(device)
        frozen = self.network(where)
        store = ArrayStore(images)
        frozen.refuse(store.spec, "what is to be embedded")
        blocks = self._blocks([store], frozen, where, lambda: None)
        return torch.cat([block() for block in blocks])

    def _blocks(
        self, parts: list[Store], frozen: Frozen, device: torch.device, check: Callable[[], None]
    ) -> list[Callable[[], Tensor]]:
        """What computes the features of all images, a block of them each."""
        starts = itertools.accumulate(map(len, parts), initial=0)
        return [
            partial(self._block, read, start + number * BLOCK, frozen, device, check)
            for part, start in zip(parts, starts, strict=False)
            for number, read in enumerate(_readers(part))
        ]

    def _block(
        self,
        read: Callable[[], Inputs],
        start: int,
        frozen: Frozen,
        device: torch.device,
        check: Callable[[], None],
    ) -> Tensor:
        block = read()

        def take(batch: Tensor, where: torch.device) -> Inputs:
            raw = to_device(take_rows(block, batch.cpu()), where)
            return frozen.prepare(raw)

        numel = numel_of(shapes_of(take(torch.zeros(1, dtype=torch.int64), device)))
        results, _ = pool_pass(
            frozen.model,
            take,
            torch.arange(len(tensors_of(block)[0])),
            frozenset({Features()}),
            Multiclass(2),
            device=device,
            batch_size=min(self.batch_size or auto_batch_size(numel, device), BLOCK),
            on_batch=check,
            description=f"features from image {start:,}",
        )
        return self._kept(results[Features()], start)

    def _kept(self, features: Tensor, start: int) -> Tensor:
        kept = features.to(self.dtype).cpu()
        bad = ~kept.isfinite().all(1)
        if bad.any():
            raise ValueError(
                f"the features of image {start + int(bad.nonzero()[0])} are not finite in "
                f"{kept.dtype}; set features.dtype=float32, or check the weights"
            )
        return kept


def refuse_texts(dataset: Dataset) -> None:
    """Refuse a data set of texts, whose samples are no numbers yet.

    Raises:
        ValueError: It is one.
    """
    if are_texts(dataset.store):
        raise ValueError(
            f"the samples of {dataset.name} are texts, which this network does not embed; set "
            "features=none (model=transformers is a pretrained network for texts), or "
            "features=file"
        )


def _readers(images: Store) -> list[Callable[[], Inputs]]:
    """What reads the blocks of a store, in order; the first one that is called announces the rest.

    That is a later one where a process was killed and some features are there already.
    """
    blocks = torch.split(torch.arange(len(images)), BLOCK)
    told = False

    def read(number: int) -> Inputs:
        nonlocal told
        if not told:
            images.expect(blocks[number:])
        told = True
        return images.read(blocks[number])

    return [partial(read, number) for number in range(len(blocks))]


class Torchvision(NetworkEmbedding):
    """Features from a network of torchvision's, pretrained: the input of its last layer.

    Args:
        backbone: A classifier of ``torchvision.models``.
        weights: Name of torchvision weights, downloaded once, or a file with a state dict.
        size: Side length in pixels that images are resized to, whole; None for what torchvision
            prescribes for the weights, resized to 256 with the middle 224 for most. Fewer pixels
            are proportionally faster and, for small images, lose little.
        cache_dir: See `NetworkEmbedding`.
        dtype: Likewise.
        standardize: Likewise.
        batch_size: Likewise.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        weights: str = "IMAGENET1K_V1",
        size: int | None = None,
        cache_dir: str = "~/.cache/dal/features",
        dtype: Literal["float16", "float32"] = "float16",
        standardize: bool = True,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(cache_dir, dtype, standardize, batch_size)
        if size is not None and size < 32:
            raise ValueError(f"features.size={size}; give at least 32 pixels")
        self.backbone, self.weights, self.size = backbone, weights, size

    def network(self, device: torch.device) -> Frozen:
        """See `dal.models.backbone.torchvision_front`."""
        model, prepare = torchvision_front(self.backbone, self.weights, self.size)
        of = {"backbone": self.backbone, "weights": self._weights_again, "size": self.size}
        saved = {"torchvision": of | {"sha256": weights_digest(model)}}
        model = model.to(device).to(memory_format=torch.channels_last)
        name = f"{self.backbone} ({Path(self.weights).name})"
        return Frozen(model, prepare, name, saved=saved)

    @property
    def _weights_again(self) -> str:
        """The weights as they are found from any folder."""
        return str(Path(self.weights).absolute()) if is_file(self.weights) else self.weights
