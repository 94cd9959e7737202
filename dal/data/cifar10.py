"""CIFAR-10 through torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.faults import downloading, require_intact

_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def cifar10(root: str, size: int | None = None) -> Dataset:
    """Small photographs: 50,000 training and 10,000 test images, 3x32x32, 10 classes.

    Args:
        root: Folder that holds ``cifar-10-batches-py`` (the Python version, unpacked); if any of
            its files is missing, the archive is downloaded into ``root`` and unpacked there. The
            md5 sums of the files are compared with the official ones.
        size: Side length in pixels that images are resized to on the device; None keeps 32.

    Returns:
        uint8 inputs (N, 3, 32, 32) in [0, 255] with the official test part.

    Raises:
        RuntimeError: If files are missing and cannot be downloaded.
        ValueError: If a file is damaged.

    Reference:
        A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report,
        University of Toronto, 2009.
    """
    _require_files(Path(root))
    inputs, targets = _read_part(root, train=True)
    test_inputs, test_targets = _read_part(root, train=False)
    return Dataset(
        name="cifar10",
        inputs=inputs,
        targets=targets,
        class_names=_CLASSES,
        test_inputs=test_inputs,
        test_targets=test_targets,
        size=size,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        depicts="natural",
    )


def _require_files(root: Path) -> None:
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    meta = [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]
    sums = dict([*CIFAR10.train_list, *CIFAR10.test_list, meta])
    for name, md5 in sums.items():
        require_intact(folder / name, md5)
    if not all((folder / name).exists() for name in sums):
        with downloading("CIFAR-10", [CIFAR10.filename], root):
            CIFAR10(str(root), download=True)


def _read_part(root: str, train: bool) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import CIFAR10

    part = CIFAR10(root, train)
    # torchvision keeps the channels last.
    images = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(images), torch.tensor(part.targets, dtype=torch.int64)
