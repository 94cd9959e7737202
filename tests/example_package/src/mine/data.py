"""A data set: two rings, one around the other."""

import numpy as np
import torch

from dal.data import Dataset


def rings(count: int = 300, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Points of the plane in two classes.

    Args:
        count: How many samples, N.
        noise: Standard deviation of a point's distance from its ring.
        seed: Draws the points.
    """
    rng = np.random.default_rng(seed)
    outer = np.arange(count) % 2
    radius = 1 + outer + noise * rng.normal(size=count)
    angle = rng.uniform(0, 2 * np.pi, count)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Dataset(
        name="rings",
        inputs=torch.from_numpy(points).float(),  # (N, 2)
        targets=torch.from_numpy(outer),  # (N,), or -1 where nobody knows
        class_names=("inner", "outer"),
        contents=[f"point {n}" for n in range(count)],  # for people who label
    )
