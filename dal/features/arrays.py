"""Features of one's own, from NumPy files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dal.data.dataset import Dataset
from dal.data.mapped import Mapped, MappedStore, checked, open_mapped
from dal.features.base import Embedding, with_features


class Arrays(Embedding):
    """Features that were computed elsewhere, one row a sample, memory-mapped.

    Row i belongs to row i of the data set's own arrays, the training ones followed by those of the
    official test part, where there is one, and of the official validation part, where there is one.
    Targets and class names come from the data set.

    Args:
        path: An ``.npy`` file, (N, D), float16, float32 or float64: the training rows, behind them
            the test rows, unless those have a file of their own, and the validation rows.
        test_path: An ``.npy`` file with the test rows; None where ``path`` holds them, or there is
            no official test part.
        standardize: Subtract mean and divide by deviation of the training part, by feature.
    """

    def __init__(self, path: str, test_path: str | None = None, standardize: bool = True) -> None:
        self.path, self.test_path, self.standardize = path, test_path, standardize

    def __call__(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Put the features in the place of the data set's inputs.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: A file is no such array, has other rows than the data set, or holds a
                number that is not finite.
        """
        if dataset.appended:
            raise ValueError(
                f"{self.path} has no features of the {dataset.appended} samples that were added to "
                f"{dataset.name} since this run began; take them away, or save features of all and "
                "choose another saved_dir to start anew"
            )
        train, tests, validations = (0 if s is None else len(s) for s in dataset.stores)
        own = self.test_path is not None
        if own and not tests:
            raise ValueError(
                f"features.test_path={self.test_path}, but {dataset.name} has no official test "
                "part; leave it out: the test part is drawn from the rows of features.path"
            )
        rows = _read(self.path, "features.path")
        _check_rows(rows, self.path, dataset.name, train, 0 if own else tests, validations)
        own_test: MappedStore | None = None
        validation: MappedStore | None = None
        if tests and not own:
            own_test = MappedStore(rows, self.path, slice(train, train + tests))
        if validations:
            validation = MappedStore(rows, self.path, slice(len(rows) - validations, None))
        if self.test_path is not None:
            test = _read(self.test_path, "features.test_path")
            _check_rows(test, self.test_path, f"the test part of {dataset.name}", tests, 0)
            if test.shape[1] != rows.shape[1]:
                raise ValueError(
                    f"{self.test_path} has {test.shape[1]} features a row and {self.path} "
                    f"{rows.shape[1]}; save both from the same network"
                )
            own_test = MappedStore(test, self.test_path)
        return with_features(
            dataset,
            MappedStore(rows, self.path, slice(train)),
            own_test,
            self.standardize,
            validation,
        )

    def foreign(
        self, dataset: Dataset, device: torch.device, check: Callable[[], None] = lambda: None
    ) -> Dataset:
        """Refused: the files hold no rows of other data sets.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"difficulty.ood mixes samples of {dataset.name} into the pool, and features=file has "
            "no features of them; hold out classes instead (difficulty.ood.classes), or use "
            "features=torchvision"
        )


def _read(path: str, setting: str) -> Mapped:
    """A file's rows, which stay there and cannot be modified."""
    array = open_mapped(path, setting)
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}; save one row of floats a sample, "
            "shape (N, D), for example with .astype('float32')"
        )
    if 0 in array.shape:
        raise ValueError(f"{path} of shape {array.shape} is empty; save a row for every sample")
    checked(MappedStore(array, path))
    return array


def _check_rows(
    rows: Mapped, path: str, name: str, train: int, tests: int, validations: int = 0
) -> None:
    if len(rows) == train + tests + validations:
        return
    parts = f"{train} training and {tests} test samples" if tests else f"{train} samples"
    parts += f" and {validations} validation samples" if validations else ""
    remedy = "one row a sample, in its order"
    if tests and len(rows) == train:
        remedy += "; give those of the test part as features.test_path"
    raise ValueError(f"{path} has {len(rows)} rows, but {name} has {parts}; save {remedy}")
