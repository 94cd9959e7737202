"""Graphs of nearest neighbors, and how labels spread along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dal.query.distances import Points, nearest_neighbors

Floats = NDArray[np.float64]
ROWS = 4096
"""Points whose neighbors are looked for between two looks at signals."""
TOLERANCE = 1e-8
"""Length of the residual, against that of the labels, at which spreading ends."""
MOST_STEPS = 2000


def affinities(distances_NK: Tensor) -> Tensor:
    """exp(-(d / r)²), r the distance of the row's farthest neighbor: float64, in [1/e, 1].

    The width follows the density, so that a neighbor in a thin region counts like one in a dense
    region, and none so little that rounding decides. Duplicates have 1.

    Args:
        distances_NK: float, (N, k), ascending along a row.

    Reference:
        L. Zelnik-Manor and P. Perona. Self-tuning spectral clustering. NIPS 2004, with the width of
        one end only.
    """
    distances_NK = distances_NK.double()
    reach = distances_NK[:, -1:].clamp(min=torch.finfo(torch.float64).tiny)
    return torch.exp(-((distances_NK / reach) ** 2))


def neighbor_graph(
    points: Points, k: int, check: Callable[[], None] = lambda: None, shown: str | None = None
) -> Any:
    """Similarities of neighbors, S = D^-1/2 W D^-1/2: a sparse (N, N) array of float64.

    W is the mean of the `affinities` of the k nearest others and of their transpose; D has its
    sums of rows. O(N^2 D) time in tiles, O(N k) memory. Parts of the graph may lie apart.

    Args:
        points: N rows.
        k: Neighbors of each.
        check: Called between blocks of points.
        shown: Named at a progress bar; None for no bar.

    Returns:
        `scipy.sparse.csr_array`, symmetric, eigenvalues in [-1, 1]; a row of zeros where k is 0.

    Raises:
        ValueError: A row is not finite.

    Reference:
        D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schölkopf. Learning with local and global
        consistency. NIPS 2003, section 2, steps 1 and 2.
    """
    from scipy.sparse import csr_array, diags_array

    bad = (~points.norms_N.isfinite()).nonzero()
    if len(bad):
        raise ValueError(
            f"features that are not finite, or too large: of {len(bad)} samples, the first is "
            f"number {int(bad[0])} of the training part; check its inputs for extreme values"
        )
    found = []
    blocks = torch.split(torch.arange(len(points), device=points.device), ROWS)
    for part in tqdm(blocks, shown, leave=False, disable=True if shown is None else None):
        check()
        distances, neighbors = nearest_neighbors(points, k, rows=part)
        found.append((affinities(distances).cpu(), neighbors.cpu()))
    values, columns = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    starts = np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
    size = (len(values),) * 2
    one_way = csr_array((values.ravel(), columns.ravel(), starts), shape=size)
    both = ((one_way + one_way.T) / 2).tocsr()
    degrees = both.sum(1)
    scale = diags_array(np.where(degrees > 0, np.maximum(degrees, 1e-300) ** -0.5, 0.0))
    return (scale @ both @ scale).tocsr()


def components(graph: Any) -> Tensor:
    """Which part of the graph each of its N points is in: int64, (N,), from 0."""
    from scipy.sparse.csgraph import connected_components

    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()


def spread(
    graph: Any, labels_NG: Floats, alpha: float, check: Callable[[], None] = lambda: None
) -> Floats:
    """Spread numbers along a graph: F = (1 - alpha) (I - alpha S)^-1 Y, float64, (N, G).

    Solved by conjugate gradients, each column for itself until it is done. A step costs one product
    with the graph; there are about sqrt((1 + alpha) / (1 - alpha)) * 10 of them, 150 for 0.99.

    Args:
        graph: S, from `neighbor_graph`.
        labels_NG: Y, float64, (N, G).
        alpha: In [0, 1): how far labels are carried, 0 for not at all.
        check: Called between steps.

    Reference:
        D. Zhou et al. Learning with local and global consistency. NIPS 2003, equation 4. By
        conjugate gradients: A. Iscen, G. Tolias, Y. Avrithis and O. Chum. Label propagation for
        deep semi-supervised learning. CVPR 2019.
    """
    right_NG = (1 - alpha) * labels_NG
    x_NG = np.zeros_like(right_NG)
    residual_NG, direction_NG = right_NG.copy(), right_NG.copy()
    squared_G = (residual_NG**2).sum(0)
    limit_G = TOLERANCE**2 * squared_G
    for _ in range(MOST_STEPS):
        open_G = squared_G > limit_G
        if not open_G.any():
            break
        check()
        product_NG = direction_NG - alpha * (graph @ direction_NG)
        curvature_G = (direction_NG * product_NG).sum(0)
        step_G = np.divide(squared_G, curvature_G, out=np.zeros_like(squared_G), where=open_G)
        x_NG += step_G * direction_NG
        residual_NG -= step_G * product_NG
        new_G = (residual_NG**2).sum(0)
        turn_G = np.divide(new_G, squared_G, out=np.zeros_like(new_G), where=open_G)
        direction_NG = residual_NG + turn_G * direction_NG
        squared_G = new_G
    return x_NG
