"""Arrays of unknown making turned into the tensors of a `Dataset`, or refused with a reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.inputs import Array, as_inputs, as_named
from dal.data.mapped import MappedStore, checked, is_mapped
from dal.data.source import UNKNOWN, is_known
from dal.data.store import Store
from dal.data.texts.stores import TextStore, checked_texts
from dal.utils.inputs import Inputs
from dal.utils.ranges import MOST_WHOLE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classes:
    """How the values in label arrays map to class numbers.

    Attributes:
        values: int or str array, sorted, the known label values.
        numbers: int64 array, the class number of each value.
        names: The C class names.
    """

    values: Array
    numbers: npt.NDArray[np.int64]
    names: tuple[str, ...]


def tensors_of(dataset: Dataset) -> dict[str, Any]:
    """What of a data set was given as arrays or lists, as it keeps it: tensors and tuples.

    Inputs and targets are read as those of an archive, see `dal.data.npz`.

    Args:
        dataset: May hold anything that `numpy.asarray` takes.

    Returns:
        The fields that become others, by name.

    Raises:
        ValueError: Naming the field that cannot be used.
    """
    given = {
        f.name: value for f in fields(dataset) if (value := getattr(dataset, f.name)) is not None
    }
    found: dict[str, Any] = {
        role: _inputs(given[role], role)
        for role in present(given, "inputs")
        if not isinstance(given[role], Tensor | Store)
    }
    if dataset.contents is None and (told := _told({**given, **found})) is not None:
        found["contents"] = told
    for name in ("class_names", "mean", "std"):
        if not isinstance(given[name], tuple):
            found[name] = tuple(np.atleast_1d(np.asarray(given[name])).tolist())
    roles = present(given, "targets")
    if not all(isinstance(given[role], Tensor) for role in roles):
        arrays = {role: _plain(given[role]) for role in roles}
        names = found.get("class_names", given["class_names"]) or None
        targets, found["class_names"] = number_targets(
            arrays, {role: role for role in roles}, names
        )
        found |= targets
    return found


def _inputs(values: Any, role: str) -> Inputs | Store:
    if isinstance(values, Mapping):
        return dict(as_named(values, role))
    if (texts := as_texts(values)) is not None:
        return TextStore(checked_texts(texts, f"{role} row"))
    if is_mapped(values):
        return checked(MappedStore(values, role))
    return as_inputs(_plain(values), role)


def _told(given: Mapping[str, Any]) -> Sequence[str] | None:
    """The texts of all parts, where samples are texts."""
    stores = [given[role] for role in present(given, "inputs")]
    parts = [p for store in stores for p in getattr(store, "parts", [store])]
    if not all(isinstance(part, TextStore) for part in parts):
        return None
    return [text for part in parts for text in part.texts]


def as_texts(values: Any) -> list[Any] | None:
    """A list, an array or a column of strings as a list; None for anything else.

    What stands between the strings may be no text, such as None.
    """
    if isinstance(values, list | tuple):
        return list(values) if any(isinstance(value, str) for value in values) else None
    array = np.asarray(values) if hasattr(values, "__array__") else np.empty(0)
    if array.ndim != 1 or isinstance(values, Tensor):
        return None
    is_text = array.dtype.kind == "U" or (array.dtype == object and len(array) > 0)
    return array.tolist() if is_text and isinstance(array[0], str) else None


def _plain(values: Any) -> Array:
    """As an array; of strings, also where they were objects, as those of pandas are."""
    array = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    is_text = array.dtype == object and all(isinstance(value, str) for value in array.flat)
    return array.astype(str) if is_text else array


def present(given: Mapping[str, Any], role: str) -> list[str]:
    """The role, ``inputs`` or ``targets``, and its counterparts of test and validation part."""
    return [key for key in (role, f"test_{role}", f"validation_{role}") if key in given]


def number_targets(
    arrays: Mapping[str, Array], keys: Mapping[str, str], names: Sequence[str] | Array | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Targets of all parts as class numbers, or rows of 0 and 1; and class names.

    Args:
        arrays: ``targets``, and ``test_targets`` and ``validation_targets`` if there are any.
        keys: What to call each in errors.
        names: Class names, or None to make them from the targets.

    Returns:
        int64 (N,) or (N, C) by role; the C names.

    Raises:
        ValueError: Naming what cannot be used.
    """
    roles = present(arrays, "targets")
    if any(arrays[role].ndim == 2 for role in roles):
        return _label_rows(arrays, keys, names)
    labels = {role: as_labels(arrays[role], keys[role]) for role in roles}
    classes = find_classes(list(labels.values()), names)
    targets = {role: as_targets(array, classes) for role, array in labels.items()}
    _check_test_known(targets, keys)
    return targets, classes.names


def _label_rows(
    arrays: Mapping[str, Array], keys: Mapping[str, str], names: Sequence[str] | Array | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    rows = {role: as_label_rows(arrays[role], keys[role]) for role in present(arrays, "targets")}
    shapes = {tuple(part.shape[1:]) for part in rows.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{keys['targets']!r} and {keys['test_targets']!r} have {arrays['targets'].shape[1]} "
            f"and {arrays['test_targets'].shape[1]} columns; save the same labels in both"
        )
    _check_test_known(rows, keys)
    return rows, label_names(rows["targets"].shape[1], names)


def _check_test_known(targets: Mapping[str, Tensor], keys: Mapping[str, str]) -> None:
    if "test_targets" not in targets:
        return
    unknown = (~is_known(targets["test_targets"])).nonzero().flatten()
    if len(unknown):
        raise ValueError(
            f"{keys['test_targets']!r} has {len(unknown)} unknown labels, the first at row "
            f"{int(unknown[0])}; test samples must be labeled"
        )


def as_labels(array: Array, key: str) -> Array:
    """Labels as int64 or str array.

    Args:
        array: (N,), whole numbers or strings.
        key: What to call the array in errors.

    Returns:
        int64 or str array (N,).

    Raises:
        ValueError: If the array is no list of labels, has numbers beyond int64, or -1 may be one.
    """
    if array.ndim != 1:
        raise ValueError(
            f"{key!r} has shape {array.shape}; save one class number a sample, shape (N,), or "
            "multi-label rows of 0 and 1, shape (N, C), in all parts"
        )
    if array.dtype.kind not in "iuU":
        raise ValueError(
            f"{key!r} has type {array.dtype}; save whole numbers, for example "
            "with .astype('int64'), or strings"
        )
    if array.dtype.kind == "U":
        return array
    _check_range(array, key)
    if array.size and array.min() < UNKNOWN and (array == UNKNOWN).any():
        raise ValueError(
            f"{key!r} holds {array.min()} and {UNKNOWN}, which marks unknown labels and may be "
            "meant as a class; save class numbers from 0 on, or strings"
        )
    return array.astype(np.int64)


def _check_range(array: Array, key: str) -> None:
    """Refuse what int64 would turn into another number, such as -1, which means unknown."""
    if array.dtype == np.uint64 and array.size and array.max() > MOST_WHOLE:
        raise ValueError(
            f"{key!r} holds {array.max()}, which is beyond int64; save smaller numbers, or strings"
        )


def as_label_rows(array: Array, key: str) -> Tensor:
    """Multi-label targets: which of C labels each sample has.

    Args:
        array: (N, C), C of 2 or more, bool or whole numbers, 1 where a label holds and 0 where
            not; a row of `UNKNOWN` where nothing is known.
        key: What to call the array in errors.

    Returns:
        int64 (N, C).

    Raises:
        ValueError: If the array holds anything else.
    """
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iub":
        raise ValueError(
            f"{key!r} has shape {array.shape} and type {array.dtype}; save multi-label targets as "
            "whole numbers 0 and 1 of shape (N, C), two or more labels, and one class a sample as "
            "shape (N,) (argmax(axis=1) turns one-hot rows into class numbers)"
        )
    _check_range(array, key)
    rows = torch.from_numpy(array.astype(np.int64))
    good = ((rows == 0) | (rows == 1)).all(1) | (rows == UNKNOWN).all(1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"{key!r} has {rows[row].tolist()} in row {row}; save 1 where a label holds and 0 "
            f"where it does not, or {UNKNOWN} in the whole row where nothing is known"
        )
    known = rows[rows[:, 0] != UNKNOWN]
    if len(known) and bool((known.sum(1) == 1).all()):
        log.warning(
            "%s: every row has exactly one label, and is learned as if it could have several; if "
            "classes exclude each other, save argmax(axis=1)",
            key,
        )
    return rows


def label_names(count: int, names: Sequence[str] | Array | None) -> tuple[str, ...]:
    """The names of the columns of multi-label targets, or their numbers.

    Raises:
        ValueError: If there are not as many different names as columns.
    """
    if names is None:
        return tuple(str(number) for number in range(count))
    found = _as_names(names)
    if len(found) != count or len(set(found)) != count:
        raise ValueError(
            f"class_names has {len(set(found))} different names for {count} columns of labels; "
            "give one name a column"
        )
    return found


def find_classes(labels: Sequence[Array], names: Sequence[str] | Array | None) -> Classes:
    """Collect the classes of all label arrays.

    Args:
        labels: What `as_labels` gave for each part, at least one.
        names: Class names, or None to make them from the labels.

    Returns:
        The mapping from label values to class numbers.

    Raises:
        ValueError: If the names do not fit the labels, or there are fewer than two classes.
    """
    if len({array.dtype.kind for array in labels}) > 1:
        raise ValueError("the targets of one part are strings and of the other numbers; use one")
    values = np.unique(np.concatenate(labels))
    values = values[values != _unknown(values)]
    classes = _number(values, None if names is None else _as_names(names))
    if len(classes.names) < 2:
        raise ValueError(
            f"there are fewer than 2 classes ({', '.join(classes.names) or 'no labels'}); "
            "-1 and empty strings mark unknown labels and are no class"
        )
    return classes


def as_targets(labels: Array, classes: Classes) -> Tensor:
    """Labels as class numbers.

    Args:
        labels: (N,), one of the arrays that the classes were collected from.
        classes: The mapping.

    Returns:
        int64 (N,), in [0, C) or `UNKNOWN`.
    """
    targets = np.full(labels.shape, UNKNOWN, dtype=np.int64)
    is_known = labels != _unknown(labels)
    targets[is_known] = classes.numbers[np.searchsorted(classes.values, labels[is_known])]
    return torch.from_numpy(targets)


def _unknown(array: Array) -> int | str:
    return "" if array.dtype.kind == "U" else UNKNOWN


def _as_names(names: Sequence[str] | Array) -> tuple[str, ...]:
    array = np.asarray(names)
    if array.ndim != 1 or array.dtype.kind == "S":
        raise ValueError(
            f"class_names has shape {array.shape} and type {array.dtype}; "
            "give a plain list of strings"
        )
    return tuple(str(name) for name in array.tolist())


def _number(values: Array, names: tuple[str, ...] | None) -> Classes:
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"class_names {list(names)} are not all different; rename some")
    if values.dtype.kind == "U":
        return _number_strings(values, names)
    if len(values) == 0:
        return Classes(values, values.astype(np.int64), names or ())
    if names is not None and values[0] >= 0 and values[-1] < len(names):
        return Classes(values, values.astype(np.int64), names)
    if names is not None and len(names) != len(values):
        raise ValueError(
            f"class_names has length {len(names)} but the targets have {len(values)} classes "
            f"from {values[0]} to {values[-1]}; give one name a class"
        )
    names = names or tuple(str(value) for value in values.tolist())
    return Classes(values, np.arange(len(values), dtype=np.int64), names)


def _number_strings(values: Array, names: tuple[str, ...] | None) -> Classes:
    names = names or tuple(values.tolist())
    absent = [value for value in values.tolist() if value not in names]
    if absent:
        raise ValueError(f"the label {absent[0]!r} is not in class_names {list(names)}; add it")
    return Classes(values, np.array([names.index(value) for value in values], np.int64), names)
