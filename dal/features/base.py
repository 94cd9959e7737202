"""What turns the inputs of a data set into features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from dal.data.dataset import Dataset
from dal.data.growth import joined, parted
from dal.data.source import Source
from dal.data.splits import make_source
from dal.data.store import Store


class Embedding(ABC):
    """Turns a data set into one whose inputs are features, rows and targets staying as they are.

    Attributes:
        plugins: Packages besides ``dal`` that whoever runs this trusts. No setting of an embedding,
            so that no file which names one can say it.
        divide: How the run will divide the data set, for embeddings that learn from its training
            part; no setting either.
    """

    plugins: Sequence[str] = ()
    divide: Callable[[Dataset], Source] = staticmethod(partial(make_source, seed=0))

    @abstractmethod
    def __call__(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Embed a data set.

        Args:
            dataset: Images, or whatever the embedding takes.
            device: Where a network runs.
            check: Called at moments when the process may end without loss; raises to end it.

        Returns:
            The same samples as features (N, D).
        """

    def foreign(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Embed another data set than that of the run, whose samples stand in its pool."""
        return self(dataset, device, check)


class Raw(Embedding):
    """No embedding: models see the data set's own inputs."""

    def __call__(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """The data set as it is."""
        return dataset


def with_features(
    dataset: Dataset,
    train: Store,
    test: Store | None,
    standardize: bool,
    validation: Store | None = None,
    front: Mapping[str, Any] | None = None,
) -> Dataset:
    """A data set with features in the place of its inputs.

    Args:
        dataset: Gives targets and names.
        train: Features, float16 or float32, (N, D).
        test: The same for the official test part, or None where there is none.
        standardize: Subtract mean and divide by deviation of the training part, by feature.
        validation: As ``test``, for the official validation part.
        front: See `dal.data.Dataset.front`.
    """
    return replace(
        dataset,
        inputs=train,
        test_inputs=test,
        validation_inputs=validation,
        size=None,
        mean=(),
        std=(),
        standardize=standardize,
        recipe=None,
        front=front,
        truth=None,  # of samples as they were
        shown=dataset.shown or _seen_by_people(dataset),
    )


def _seen_by_people(dataset: Dataset) -> Store:
    """All samples in the order of their positions: those that came late are the last."""
    store, *others = dataset.stores
    late: list[Store] = []
    if dataset.appended:
        store, added = parted(store, dataset.begun)
        late = [added]
    return joined([store, *(other for other in others if other is not None), *late])
