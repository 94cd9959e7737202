"""Arrays of one's own, from a NumPy archive."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from torch import Tensor

from dal.data.arrays import number_targets, present
from dal.data.class_names import check_class_names
from dal.data.dataset import Dataset
from dal.data.faults import naming
from dal.data.inputs import Array, as_inputs
from dal.data.mapped import MappedStore, checked, is_mapped, open_mapped
from dal.data.prepare import check_normalization
from dal.data.store import Store, store_of
from dal.utils.inputs import in_words, one_shape

_ALIASES = {
    "inputs": (
        "inputs",
        "train_inputs",
        "train_images",
        "x_train",
        "images",
        "x",
        "X",
        "texts",
        "train_texts",
        "text",
    ),
    "targets": ("targets", "train_targets", "train_labels", "y_train", "labels", "y"),
    "test_inputs": ("test_inputs", "test_images", "x_test", "test_texts"),
    "test_targets": ("test_targets", "test_labels", "y_test"),
    "class_names": ("class_names",),
}
_READ_FAILURES = (
    ValueError,
    EOFError,
    OSError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def npz(
    path: str,
    name: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    standardize: bool | None = None,
    class_names: Sequence[str] | None = None,
    targets: str | None = None,
    test_path: str | None = None,
    test_targets: str | None = None,
) -> Dataset:
    """Images or features of one's own, saved with ``numpy.savez``, or too many for memory.

    The archive holds ``inputs`` and ``targets`` and may hold ``test_inputs`` with
    ``test_targets``, and ``class_names``. Common other names are known too: ``train_images`` and
    ``train_labels`` with ``test_images`` and ``test_labels``; ``x_train``, ``y_train``, ``x_test``
    and ``y_test``; ``images`` and ``labels``; ``x`` or ``X`` and ``y``.

    - Inputs are images (N, H, W), (N, H, W, channels) or (N, channels, H, W) with 1, 3 or 4
      channels: whole numbers in [0, 255], or floats, which are taken as they are (so scale them
      to [0, 1]). Or they are features (N, D), numbers of any kind.
    - Targets (N,) are class numbers from 0, any other whole numbers, or strings; the latter two
      become classes in sorted order. -1 or an empty string marks a training sample whose label is
      not known; -1 among lower numbers is refused.
    - Multi-label targets (N, C) are 1 where a label holds and 0 where not; a row of -1 marks a
      training sample whose labels are not known. Without ``class_names``, labels are called 0 to
      C - 1.

    Inputs that are too many for memory are saved with ``numpy.save``, as ``.npy`` files of the same
    shapes, and stay there: batches are read as they are needed. See `dal.data.mapped.MappedStore`
    for the types of numbers that such files may hold.

    Args:
        path: The archive, or an ``.npy`` file of inputs.
        name: Short name, used in the run directory; None for the name of the file.
        size: Side length in pixels that images are resized to on the device; None keeps theirs.
        mean: Mean that is subtracted, one number a channel (in units of [0, 1] for whole-numbered
            images) or a feature; None for none.
        std: Standard deviation that is divided by, likewise.
        standardize: Compute ``mean`` and ``std`` from the training part. None means: yes for
            features without a ``mean``, no for images.
        class_names: Names of the classes 0, 1, ...; for other targets, in their sorted order; for
            strings, in the order that the columns of outputs shall have. None for those in the
            archive, or made from the targets.
        targets: The ``.npy`` file of the targets, where ``path`` is one of inputs.
        test_path: Likewise the ``.npy`` file of test inputs, or None.
        test_targets: And that of their targets.

    Returns:
        uint8 or float32 images (N, channels, H, W) or float32 features (N, D), with the test part
        if the archive has one.

    Raises:
        FileNotFoundError: If there is no file at ``path``.
        ValueError: If the archive is damaged, lacks a key, or an array in it cannot be used; names
            the file and the key.
    """
    with naming(path):
        files = {
            "inputs": path, "targets": targets, "test_inputs": test_path,
            "test_targets": test_targets,
        }  # fmt: skip
        is_file = path.endswith(".npy")
        arrays, keys = _files(files) if is_file else _read(Path(path).expanduser(), files)
        inputs = {role: _inputs(arrays[role], keys[role]) for role in present(arrays, "inputs")}
        _check_alike(inputs, keys)
        shape = one_shape(store_of(inputs["inputs"]).spec, path)
        check_normalization(shape[0], mean, std, standardize)
        _check_size(size, len(shape))
        names = class_names if class_names is not None else arrays.get("class_names")
        numbers, class_names = number_targets(arrays, keys, names)
        check_class_names(class_names, numbers["targets"].ndim == 2, "class_names")
    return Dataset(
        name=name or Path(path).stem,
        inputs=inputs["inputs"],
        targets=numbers["targets"],
        class_names=class_names,
        test_inputs=inputs.get("test_inputs"),
        test_targets=numbers.get("test_targets"),
        size=size,
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        standardize=len(shape) == 1 and not mean if standardize is None else standardize,
    )


def stored_inputs(path: str) -> Store:
    """The inputs in an archive or an ``.npy`` file, whatever else it holds; see `npz`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds no inputs, or such that cannot be used; names it.
    """
    if path.endswith(".npy"):
        return store_of(_inputs(open_mapped(path, "path"), path))
    with naming(path), Path(path).open("rb") as stream, _open(stream) as archive:
        key = _find_key("inputs", list(archive.files))
        return store_of(_inputs(_read_array(archive, key), key))


def _files(files: Mapping[str, str | None]) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays by role, inputs staying on the disk, and the file of each."""
    keys = {role: file for role, file in files.items() if file is not None}
    if "targets" not in keys:
        raise ValueError(
            "an .npy file holds inputs alone; set data.targets to the .npy file of their targets"
        )
    _check_pair(keys)
    settings = {"inputs": "data.path", "test_inputs": "data.test_path"}
    arrays: dict[str, Array] = {
        role: open_mapped(file, settings.get(role, f"data.{role}")) for role, file in keys.items()
    }
    _check_lengths(arrays, keys)
    return arrays, keys


def _inputs(array: Array, key: str) -> Tensor | MappedStore:
    return checked(MappedStore(array, key)) if is_mapped(array) else as_inputs(array, key)


def _read(path: Path, files: Mapping[str, str | None]) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays by role, and the key that each role has in this archive."""
    if len([file for file in files.values() if file is not None]) > 1:
        raise ValueError(
            "an archive holds targets and test samples itself; leave data.targets, data.test_path "
            "and data.test_targets out, or give .npy files"
        )
    return read_archive(path)


def read_archive(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of an archive by role, ``inputs``, ``targets``, ..., and the key of each role.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or lacks a key, or parts of it have other lengths.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; set data.path to an .npz archive")
    # numpy.load would leave a file that it opens itself open when the archive is damaged.
    with path.open("rb") as stream, _open(stream) as archive:
        keys = _find_keys(list(archive.files))
        arrays = {role: _read_array(archive, key) for role, key in keys.items()}
    _check_lengths(arrays, keys)
    return arrays, keys


def _open(stream: BinaryIO) -> NpzFile:
    remedy = "save it again with numpy.savez"
    if not zipfile.is_zipfile(stream):
        raise ValueError(f"truncated, or no .npz archive at all; {remedy}")
    stream.seek(0)
    try:
        archive: NpzFile = np.load(stream, allow_pickle=False)
    except _READ_FAILURES as error:
        raise ValueError(f"damaged ({error}); {remedy}") from error
    return archive


def _read_array(archive: Mapping[str, Array], key: str) -> Array:
    try:
        return archive[key]
    except _READ_FAILURES as error:
        raise ValueError(
            f"key {key!r} cannot be read ({error}); save it again with numpy.savez, "
            "as numbers or strings, not as objects"
        ) from error


def _find_keys(stored: list[str]) -> dict[str, str]:
    keys = {role: _find_key(role, stored) for role in ("inputs", "targets")}
    for role in _ALIASES.keys() - keys:
        if any(key in stored for key in _ALIASES[role]):
            keys[role] = _find_key(role, stored)
    _check_pair(keys)
    return keys


def _find_key(role: str, stored: list[str]) -> str:
    """The key that a role has in an archive."""
    found = [key for key in _ALIASES[role] if key in stored]
    if len(found) > 1:
        raise ValueError(f"it holds {' and '.join(found)}, all of them {role}; keep one")
    if not found:
        raise ValueError(
            f"it lacks the key {role!r} (or {', '.join(_ALIASES[role][1:])}); "
            f"it holds {', '.join(stored) or 'nothing'}"
        )
    return found[0]


def _check_pair(keys: Mapping[str, str]) -> None:
    if ("test_inputs" in keys) != ("test_targets" in keys):
        present, absent = sorted(("test_inputs", "test_targets"), key=lambda role: role not in keys)
        raise ValueError(f"it has {keys[present]!r} but no {absent!r}; save both or none")


def _check_lengths(arrays: dict[str, Array], keys: dict[str, str]) -> None:
    for role in present(arrays, "inputs"):
        other = role.replace("inputs", "targets")
        for key in (role, other):
            if arrays[key].ndim == 0:
                raise ValueError(
                    f"{keys[key]!r} has shape (), a single number; save a row for each sample"
                )
        lengths = [len(arrays[role]), len(arrays[other])]
        if 0 in lengths:
            raise ValueError(
                f"{keys[role]!r} or {keys[other]!r} is empty; save at least one sample"
            )
        if lengths[0] != lengths[1]:
            raise ValueError(
                f"{keys[role]!r} has {lengths[0]} samples but {keys[other]!r} has {lengths[1]}; "
                "save one target for each input"
            )


def _check_alike(inputs: Mapping[str, Tensor | MappedStore], keys: Mapping[str, str]) -> None:
    kinds = [in_words(store_of(each).first) for each in inputs.values()]
    if len(set(kinds)) > 1:
        raise ValueError(
            f"samples of {keys['inputs']!r} are {kinds[0]} but those of {keys['test_inputs']!r} "
            f"are {kinds[1]}; save both alike"
        )


def _check_size(size: int | None, ndim: int) -> None:
    if size is not None and (size < 1 or ndim != 3):
        raise ValueError(f"size={size} resizes images to at least 1 pixel; drop it for features")
