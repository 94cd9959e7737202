"""MNIST and Fashion-MNIST, read straight from their IDX files.

The files are read with gzip and NumPy, packed or unpacked, and their folder is not written to.
torchvision is imported only to download them.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.faults import damaged, downloading

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049
_NUM_CLASSES = 10
_PARTS = ("train", "t10k")
_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist(root: str, size: int | None = None) -> Dataset:
    """Handwritten digits: 60,000 training and 10,000 test images, 1x28x28, 10 classes.

    Args:
        root: Folder that holds ``MNIST/raw`` with the four IDX files, unpacked or as ``.gz``;
            missing ones are downloaded into it.
        size: Side length in pixels that images are resized to on the device; None keeps 28.

    Returns:
        uint8 inputs (N, 1, 28, 28) in [0, 255] with the official test part.

    Raises:
        RuntimeError: If files are missing and cannot be downloaded.
        ValueError: If a file is damaged.

    Reference:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
        recognition", Proceedings of the IEEE, 1998.
    """
    return _load("MNIST", root, size, tuple("0123456789"), mean=0.1307, std=0.3081)


def fashion_mnist(root: str, size: int | None = None) -> Dataset:
    """Photographs of clothing: 60,000 training and 10,000 test images, 1x28x28, 10 classes.

    Args:
        root: Folder that holds ``FashionMNIST/raw`` with the four IDX files, unpacked or as
            ``.gz``; missing ones are downloaded into it.
        size: Side length in pixels that images are resized to on the device; None keeps 28.

    Returns:
        uint8 inputs (N, 1, 28, 28) in [0, 255] with the official test part.

    Raises:
        RuntimeError: If files are missing and cannot be downloaded.
        ValueError: If a file is damaged.

    Reference:
        H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
        machine learning algorithms", arXiv:1708.07747, 2017.
    """
    return _load("FashionMNIST", root, size, _FASHION_CLASSES, mean=0.2860, std=0.3530)


_Kind = Literal["MNIST", "FashionMNIST"]
_NAMES: dict[_Kind, str] = {"MNIST": "mnist", "FashionMNIST": "fashion_mnist"}


def _load(
    kind: _Kind,
    root: str,
    size: int | None,
    class_names: tuple[str, ...],
    mean: float,
    std: float,
) -> Dataset:
    folder = Path(root) / kind / "raw"
    missing = [name for name in _file_names() if _find(folder, name) is None]
    if missing:
        _download(kind, root, folder, missing)
    (inputs, targets), (test_inputs, test_targets) = (_read_part(folder, part) for part in _PARTS)
    return Dataset(
        name=_NAMES[kind],
        inputs=inputs,
        targets=targets,
        class_names=class_names,
        test_inputs=test_inputs,
        test_targets=test_targets,
        size=size,
        mean=(mean,),
        std=(std,),
        depicts="digits" if kind == "MNIST" else "objects",
    )


def _file_names() -> list[str]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return [f"{part}-{kind}" for part in _PARTS for kind in kinds]


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _download(kind: _Kind, root: str, folder: Path, missing: list[str]) -> None:
    with downloading(kind, [f"{name}.gz" for name in missing], folder):
        import torchvision.datasets

        getattr(torchvision.datasets, kind)(root, download=True)
        absent = [name for name in missing if _find(folder, name) is None]
        if absent:
            raise RuntimeError(f"{', '.join(absent)} still missing afterwards")


def _read_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images_path, images = _read_idx(folder, f"{part}-images-idx3-ubyte", _IMAGES_MAGIC)
    labels_path, labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", _LABELS_MAGIC)
    if len(images) != len(labels):
        raise damaged(
            labels_path,
            f"it has {len(labels)} labels for the {len(images)} images of {images_path.name}",
        )
    if len(labels) and labels.max() >= _NUM_CLASSES:
        raise damaged(labels_path, f"label {labels.max()} is outside 0..{_NUM_CLASSES - 1}")
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def _read_idx(folder: Path, name: str, magic: int) -> tuple[Path, npt.NDArray[np.uint8]]:
    path = _find(folder, name)
    if path is None:
        raise damaged(folder / name, "it vanished while it was being read")
    content = _read_bytes(path)
    ndim = magic & 0xFF
    start = 4 + 4 * ndim
    if len(content) < start:
        raise damaged(path, f"it ends inside its header, after {len(content)} bytes")
    found, *shape = (int(x) for x in np.frombuffer(content[:start], dtype=">u4"))
    if found != magic:
        raise damaged(path, f"its magic number is {found} instead of {magic}")
    if len(content) - start != math.prod(shape):
        raise damaged(
            path, f"{len(content) - start} bytes of data where its header says {math.prod(shape)}"
        )
    # A copy, because torch wants memory that it may write to.
    return path, np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def _read_bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as stream:
            return stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"gzip says: {error}") from error
