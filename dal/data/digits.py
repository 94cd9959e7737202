"""The small handwritten digits that come with scikit-learn: images without any download."""

from __future__ import annotations

import numpy as np
import torch

from dal.data.dataset import Dataset


def digits(size: int | None = 28) -> Dataset:
    """Handwritten digits: 1,797 images, 1x8x8, 10 classes, no official test part.

    The quickest image data set to try things on; it comes with scikit-learn.

    Args:
        size: Side length in pixels that images are resized to on the device; None keeps 8.

    Returns:
        uint8 inputs (1797, 1, 8, 8): the original gray values 0..16 spread over [0, 255].

    Reference:
        E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning
        Repository, 1998 (the test part).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Dataset(
        name="digits",
        inputs=torch.from_numpy(images).unsqueeze(1),
        targets=torch.from_numpy(bunch.target.astype(np.int64)),
        class_names=tuple("0123456789"),
        size=size,
        mean=(0.3053,),
        std=(0.3759,),
        depicts="digits",
    )
