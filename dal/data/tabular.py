"""Small tables of features, the data sets of many active-learning papers.

Four come with scikit-learn; the two from the UCI repository are read as UCI ships them, or fetched
from OpenML where the files are missing.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dal.data.dataset import Dataset
from dal.data.faults import damaged, downloading

_Floats = npt.NDArray[np.float64]


def iris(standardize: bool = True) -> Dataset:
    """Iris flowers: 150 samples, 4 features, 3 classes of 50.

    Args:
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (150, 4) in centimeters, without an official test part.

    Reference:
        R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of
        Eugenics, 1936.
    """
    from sklearn.datasets import load_iris

    return _bundled("iris", load_iris(), standardize)


def wine(standardize: bool = True) -> Dataset:
    """Chemical analyses of wine: 178 samples, 13 features, 3 classes (59, 71, 48).

    Args:
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (178, 13), without an official test part.

    Reference:
        M. Forina et al., "PARVUS: an extendible package for data exploration", 1988.
    """
    from sklearn.datasets import load_wine

    return _bundled("wine", load_wine(), standardize)


def breast_cancer(standardize: bool = True) -> Dataset:
    """Cell nuclei of tumors: 569 samples, 30 features, 2 classes (212 malignant, 357 benign).

    Args:
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (569, 30), without an official test part.

    Reference:
        W. N. Street, W. H. Wolberg, O. L. Mangasarian, "Nuclear feature extraction for breast
        tumor diagnosis", SPIE, 1993.
    """
    from sklearn.datasets import load_breast_cancer

    return _bundled("breast_cancer", load_breast_cancer(), standardize)


def digits_tabular(standardize: bool = True) -> Dataset:
    """The digits of `dal.data.digits` as a table: 1,797 samples, 64 features, 10 classes.

    Args:
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (1797, 64), gray values in [0, 16], without an official test part.

    Reference:
        E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning
        Repository, 1998 (the test part).
    """
    from sklearn.datasets import load_digits

    return _bundled("digits_tabular", load_digits(), standardize)


def new_thyroid(root: str, standardize: bool = True) -> Dataset:
    """Thyroid function tests: 215 samples, 5 features, 3 classes (150, 35, 30).

    Args:
        root: Folder that holds ``uci/new-thyroid.data`` (or the file itself) as UCI ships it;
            without it the data come from OpenML and are kept in ``<root>/openml``.
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (215, 5), without an official test part.

    Raises:
        RuntimeError: If the file is missing and cannot be downloaded.
        ValueError: If the file is damaged.

    Reference:
        D. Coomans, I. Broeckaert, M. Jonckheer, D. L. Massart, "Comparison of multivariate
        discrimination techniques for clinical data", Methods of Information in Medicine, 1983.
    """
    return _from_uci("new_thyroid", _NEW_THYROID, root, standardize)


def clean1(root: str, standardize: bool = True) -> Dataset:
    """Shapes of molecules, Musk version 1: 476 samples, 166 features, 2 classes (269, 207).

    Differs from papers that give 168 dimensions: those encode the two name columns (molecule and
    conformation) as features. A molecule's name gives its class away, so both are left out here.

    Args:
        root: Folder that holds ``uci/clean1.data`` (or the file itself) as UCI ships it; without
            it the data come from OpenML and are kept in ``<root>/openml``.
        standardize: Scale features by the mean and deviation of the training part.

    Returns:
        float32 inputs (476, 166), without an official test part.

    Raises:
        RuntimeError: If the file is missing and cannot be downloaded.
        ValueError: If the file is damaged.

    Reference:
        T. G. Dietterich, R. H. Lathrop, T. Lozano-Perez, "Solving the multiple instance problem
        with axis-parallel rectangles", Artificial Intelligence, 1997.
    """
    return _from_uci("clean1", _CLEAN1, root, standardize)


@dataclass(frozen=True)
class _Table:
    """What a table from the UCI repository looks like, as a file and on OpenML."""

    file_name: str
    openml_id: int
    num_rows: int
    num_features: int
    features: slice
    """The feature columns of the file; names and the label are no features."""
    label: int
    labels: tuple[int, ...]
    """The label of each class in the file, in the order of `class_names`."""
    class_names: tuple[str, ...]


_NEW_THYROID = _Table(
    file_name="new-thyroid.data",
    openml_id=40682,
    num_rows=215,
    num_features=5,
    features=slice(1, None),
    label=0,
    labels=(1, 2, 3),
    class_names=("normal", "hyperthyroid", "hypothyroid"),
)
_CLEAN1 = _Table(
    file_name="clean1.data",
    openml_id=40665,
    num_rows=476,
    num_features=166,
    features=slice(2, -1),
    label=-1,
    labels=(0, 1),
    class_names=("non-musk", "musk"),
)


def _bundled(name: str, bunch: Any, standardize: bool) -> Dataset:
    class_names = tuple(str(label) for label in bunch.target_names)
    return _dataset(name, bunch.data, bunch.target, class_names, standardize)


def _from_uci(name: str, table: _Table, root: str, standardize: bool) -> Dataset:
    candidates = (Path(root) / "uci" / table.file_name, Path(root) / table.file_name)
    path = next((path for path in candidates if path.is_file()), None)
    inputs, labels = _fetch(name, table, Path(root)) if path is None else _read(path, table)
    targets = np.searchsorted(table.labels, labels)
    return _dataset(name, inputs, targets, table.class_names, standardize)


def _dataset(
    name: str,
    inputs: _Floats,
    targets: npt.NDArray[np.integer[Any]],
    class_names: tuple[str, ...],
    standardize: bool,
) -> Dataset:
    return Dataset(
        name=name,
        inputs=torch.from_numpy(inputs.astype(np.float32)),
        targets=torch.from_numpy(targets.astype(np.int64)),
        class_names=class_names,
        standardize=standardize,
    )


def _read(path: Path, table: _Table) -> tuple[_Floats, _Floats]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [(number, row) for number, row in enumerate(csv.reader(stream), 1) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, f"it is no text file ({error})") from error
    numbers = [_parse(path, table, line, row) for line, row in rows]
    if len(numbers) != table.num_rows:
        raise damaged(path, f"{len(numbers)} rows instead of {table.num_rows}")
    columns = np.array(numbers)
    return columns[:, :-1], columns[:, -1]


def _parse(path: Path, table: _Table, line: int, row: Sequence[str]) -> list[float]:
    """One row as its features followed by its label."""
    columns = [*row[table.features], row[table.label]]
    if len(columns) != table.num_features + 1:
        raise damaged(path, f"line {line} has the wrong number of columns, {len(row)}")
    try:
        numbers = [float(text) for text in columns]
    except ValueError as error:
        raise damaged(path, f"line {line}: {error}") from error
    if not np.isfinite(numbers).all():
        raise damaged(path, f"line {line} holds a number that is not finite")
    if numbers[-1] not in table.labels:
        raise damaged(path, f"line {line} has the label {numbers[-1]:g}, not one of {table.labels}")
    return numbers


def _fetch(name: str, table: _Table, root: Path) -> tuple[_Floats, _Floats]:
    with downloading(name, [table.file_name], root / "uci"):
        from sklearn.datasets import fetch_openml

        bunch = fetch_openml(
            data_id=table.openml_id,
            data_home=str(root / "openml"),
            as_frame=False,
            parser="liac-arff",
        )
        # OpenML has clean1 with the two name columns encoded, in front as in the file.
        inputs = np.asarray(bunch.data, dtype=np.float64)[:, -table.num_features :]
        labels = np.asarray(bunch.target).astype(np.float64)
        if inputs.shape != (table.num_rows, table.num_features):
            raise ValueError(f"OpenML sent a table of shape {np.shape(bunch.data)}")
        if not np.isin(labels, table.labels).all():
            raise ValueError(f"OpenML sent labels {np.unique(labels).tolist()}")
    return inputs, labels
