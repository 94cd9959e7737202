"""Features of one's own, from NumPy files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dal.data.arrays import Array
from dal.data.source import Dataset
from dal.features.base import Embedding, with_features

_BLOCK = 8192
"""Rows checked at a time; keeps a memory-mapped file out of memory."""


class Arrays(Embedding):
    """Features that were computed elsewhere, one row a sample, memory-mapped.

    Row i belongs to row i of the data set's own arrays, the training ones followed by those of the
    official test part, where there is one. Targets and class names come from the data set.

    Args:
        path: An ``.npy`` file, (N, D), float16, float32 or float64: the training rows, and behind
            them the test rows, unless those have a file of their own.
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
        train, test_inputs = len(dataset.inputs), dataset.test_inputs
        tests = 0 if test_inputs is None else len(test_inputs)
        own = self.test_path is not None
        if own and not tests:
            raise ValueError(
                f"features.test_path={self.test_path}, but {dataset.name} has no official test "
                "part; leave it out: the test part is drawn from the rows of features.path"
            )
        rows = _read(self.path, "features.path")
        _check_rows(rows, self.path, dataset.name, train, 0 if own else tests)
        test = rows[train:] if tests else None
        if self.test_path is not None:
            test = _read(self.test_path, "features.test_path")
            _check_rows(test, self.test_path, f"the test part of {dataset.name}", tests, 0)
            if test.shape[1] != rows.shape[1]:
                raise ValueError(
                    f"{self.test_path} has {test.shape[1]} features a row and {self.path} "
                    f"{rows.shape[1]}; save both from the same network"
                )
            test = test.to(rows.dtype)
        return with_features(dataset, rows[:train], test, self.standardize)

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


def _read(path: str, setting: str) -> Tensor:
    """A file's rows, mapped copy-on-write so that nothing can modify the file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{setting}={path}: there is no such file; save it with numpy.save")
    try:
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises of many kinds
        raise ValueError(
            f"{path} cannot be read ({error}); save it again with numpy.save, as an .npy file"
        ) from error
    if not isinstance(array, np.ndarray):  # an .npz archive
        array.close()
        raise ValueError(f"{path} is an archive of arrays; save the features alone with numpy.save")
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(
            f"{path} holds {array.dtype} of shape {array.shape}; save one row of floats a sample, "
            "shape (N, D), for example with .astype('float32')"
        )
    if 0 in array.shape:
        raise ValueError(f"{path} of shape {array.shape} is empty; save a row for every sample")
    return _finite(array, path)


def _finite(array: Array, path: str) -> Tensor:
    for start in range(0, len(array), _BLOCK):
        with np.errstate(over="ignore"):
            block = array[start : start + _BLOCK].astype(np.float32)
        bad = ~np.isfinite(block).all(1)
        if bad.any():
            raise ValueError(
                f"{path} holds NaN, infinity or a number beyond float32, in row "
                f"{start + int(bad.argmax())} first; fill such values in"
            )
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return torch.from_numpy(array)


def _check_rows(rows: Tensor, path: str, name: str, train: int, tests: int) -> None:
    if len(rows) == train + tests:
        return
    parts = f"{train} training and {tests} test samples" if tests else f"{train} samples"
    remedy = "one row a sample, in its order"
    if tests and len(rows) == train:
        remedy += "; give those of the test part as features.test_path"
    raise ValueError(f"{path} has {len(rows)} rows, but {name} has {parts}; save {remedy}")
