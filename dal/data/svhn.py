"""Street View House Numbers, the cropped digits, through torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.faults import damaged, downloading, require_intact


def svhn(root: str, size: int | None = None) -> Dataset:
    """House numbers: 73,257 training and 26,032 test images, 3x32x32, 10 classes.

    Args:
        root: Folder that holds ``SVHN/train_32x32.mat`` and ``SVHN/test_32x32.mat``; missing ones
            are downloaded into it. Their md5 sums are compared with the official ones.
        size: Side length in pixels that images are resized to on the device; None keeps 32.

    Returns:
        uint8 inputs (N, 3, 32, 32) in [0, 255] with the official test part; class c is digit c.

    Raises:
        RuntimeError: If files are missing and cannot be downloaded.
        ValueError: If a file is damaged.

    Reference:
        Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng, "Reading digits in natural
        images with unsupervised feature learning", NIPS workshop, 2011.
    """
    folder = Path(root) / "SVHN"
    _require_files(folder)
    inputs, targets = _read_part(folder, "train")
    test_inputs, test_targets = _read_part(folder, "test")
    return Dataset(
        name="svhn",
        inputs=inputs,
        targets=targets,
        class_names=tuple("0123456789"),
        test_inputs=test_inputs,
        test_targets=test_targets,
        size=size,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        depicts="signs",
    )


def _require_files(folder: Path) -> None:
    from torchvision.datasets import SVHN

    missing = {}
    for split in ("train", "test"):
        _, name, md5 = SVHN.split_list[split]
        require_intact(folder / name, md5)
        if not (folder / name).exists():
            missing[split] = name
    with downloading("SVHN", list(missing.values()), folder):
        for split in missing:
            SVHN(str(folder), split, download=True)


def _read_part(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import SVHN

    try:
        part = SVHN(str(folder), split)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(
            folder / SVHN.split_list[split][1], f"it is no SVHN file ({error})"
        ) from error
    # The file keeps the images last and torchvision only changes the view: make them contiguous.
    images = np.ascontiguousarray(part.data)
    return torch.from_numpy(images), torch.from_numpy(part.labels)
