"""Distances between rows of large arrays: in blocks, in float32, from whatever holds the rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from dal.query.selection import blocks

Metric = Literal["euclidean", "cosine", "pearson"]
METRICS = ("euclidean", "cosine", "pearson")

CACHE = 2**30
"""Bytes up to which prepared rows are kept; above it they are prepared again in every pass."""
TILE = 2**20
"""Numbers of a block of rows: few enough to stay in the caches of a CPU."""
MOST_ROWS = 4096
"""Rows of a block, so that a table between two blocks of short rows stays below 64 MiB too."""
ROUNDING = 16
"""Squared distances below this many roundings of the squared lengths are 0: see `Points`."""


def check_metric(metric: str) -> Metric:
    """The name of a metric, refused where it is unknown.

    Raises:
        ValueError: With the known ones.
    """
    if metric not in METRICS:
        raise ValueError(f"distance={metric!r}; choose {', '.join(METRICS)}")
    return metric  # type: ignore[return-value]


def prepare(block_BD: Tensor, metric: Metric, origin_D: Tensor | None = None) -> Tensor:
    """Rows whose Euclidean distances are those of a metric; the block handed in is left alone.

    Half the squared Euclidean distance of rows of length one is the cosine distance 1 - cos; of
    rows centered and then scaled to length one, the Pearson distance 1 - r.

    Args:
        block_BD: float, (B, D).
        metric: What is to be measured.
        origin_D: float, (D,), subtracted under ``euclidean``, which changes no distance.

    Returns:
        Float, (B, D). A row of zeros (for Pearson: a constant row) stays at the origin, at cosine
        (Pearson) distance 1/2 from all others and 0 from its like.
    """
    if metric == "euclidean":
        return block_BD if origin_D is None else block_BD - origin_D
    if metric == "pearson":
        # What is left of a constant row is rounding, not a direction.
        limit = block_BD.abs().amax(1, keepdim=True) * (ROUNDING * torch.finfo(block_BD.dtype).eps)
        block_BD = block_BD - block_BD.mean(1, keepdim=True)
        constant = block_BD.abs().amax(1, keepdim=True) <= limit  # not so for NaN
        block_BD = block_BD.masked_fill(constant, 0.0)
    return torch.nn.functional.normalize(block_BD, eps=torch.finfo(block_BD.dtype).tiny)


def squared_norms(rows_ND: Tensor) -> Tensor:
    """Squared length of every row: float32 (64), (N,), in blocks."""
    parts = [torch.linalg.vector_norm(block, dim=1) ** 2 for _, block in blocks(rows_ND)]
    return torch.cat(parts) if parts else rows_ND.new_zeros(0, dtype=torch.float32)


def squared_distances_to(rows_ND: Tensor, norms_N: Tensor, point_D: Tensor) -> Tensor:
    """Squared Euclidean distance of every row to one point, |x|² + |y|² - 2 x·y.

    One matrix-vector product; rows in half precision go through in blocks.

    Args:
        rows_ND: float, (N, D); float16 and memory-mapped too.
        norms_N: float, (N,), from `squared_norms`.
        point_D: float, (D,), in the precision of the norms.

    Returns:
        Float, (N,), >= 0, and 0 below the rounding of the squared lengths: the distance of a row
        to itself, or to its duplicate, is exactly 0.
    """
    if rows_ND.dtype == point_D.dtype:
        products_N = rows_ND @ point_D
    else:
        size = rows_per_block(rows_ND)
        products_N = torch.cat([block @ point_D for _, block in blocks(rows_ND, size)])
    norm = point_D.dot(point_D)
    return _clear(products_N.mul_(-2).add_(norms_N).add_(norm), norm)


def squared_distances(a_BD: Tensor, a_norms_B: Tensor, b_MD: Tensor, b_norms_M: Tensor) -> Tensor:
    """Squared Euclidean distances between two blocks of rows: float, (B, M), >= 0.

    See `squared_distances_to`; the caller keeps the blocks small.
    """
    products_BM = (a_BD @ b_MD.T).mul_(-2).add_(a_norms_B[:, None]).add_(b_norms_M)
    return _clear(products_BM, a_norms_B[:, None])


def _clear(squared: Tensor, norms: Tensor) -> Tensor:
    """Set to 0 what rounding has left; where a distance is that small both norms are equal."""
    limit = norms * (2 * ROUNDING * torch.finfo(squared.dtype).eps)
    return squared.mul_(~(squared <= limit))  # written so that NaN stays


def rows_per_block(rows_ND: Tensor) -> int:
    """How many rows make a block of about `TILE` numbers; at most `MOST_ROWS`."""
    return min(max(TILE // max(rows_ND.shape[1], 1), 64), MOST_ROWS)


class Points:
    """Rows of a large array as a metric sees them; distances between them are Euclidean.

    Rows come out in blocks, float32 (float64 stays). If all of them fit in `CACHE` bytes a
    prepared copy is kept; otherwise, so for a memory-mapped float16 array, each pass prepares
    them again and no copy is made. The array handed in is never modified.

    Squared distances are computed from lengths and products, so differences below the rounding of
    the squared lengths cannot be seen: they count as 0. Under ``euclidean`` the rows are moved to
    their mean first, so that a common offset costs no digits.

    Args:
        rows_ND: float, (N, D), on any device.
        metric: ``euclidean``, ``cosine`` or ``pearson``; see `prepare` for the last two.
        origin_D: float, (D,), what to move by under ``euclidean``; None for the mean.

    Attributes:
        norms_N: float, (N,), squared lengths of the prepared rows.
        origin_D: What was subtracted; None for the other metrics.
    """

    def __init__(
        self, rows_ND: Tensor, metric: Metric = "euclidean", origin_D: Tensor | None = None
    ) -> None:
        if rows_ND.ndim != 2:
            raise ValueError(f"rows must have two axes, got shape {tuple(rows_ND.shape)}")
        self.metric: Metric = metric
        self._rows = rows_ND
        self._ready = False
        self._size = rows_per_block(rows_ND)
        self.dtype = torch.float64 if rows_ND.dtype == torch.float64 else torch.float32
        self.device = rows_ND.device
        self.origin_D = None
        if metric == "euclidean":
            self.origin_D = self._mean() if origin_D is None else origin_D.to(self.dtype)
        if rows_ND.numel() * self.dtype.itemsize <= CACHE:
            prepared = torch.empty(rows_ND.shape, dtype=self.dtype, device=self.device)
            for start, block in self.blocks():
                prepared[start : start + len(block)] = block
            self._rows, self._ready = prepared, True
        norms = [torch.linalg.vector_norm(block, dim=1) ** 2 for _, block in self.blocks()]
        self.norms_N = torch.cat(norms) if norms else self._rows.new_zeros(0, dtype=self.dtype)

    def _mean(self) -> Tensor:
        total = torch.zeros(self._rows.shape[1], dtype=torch.float64, device=self.device)
        for _, block in blocks(self._rows, self._size):
            total += block.sum(0)
        return (total / max(len(self._rows), 1)).to(self.dtype)

    def __len__(self) -> int:
        return len(self._rows)

    def like(self, rows_MD: Tensor) -> Points:
        """Other rows in the same space, so that distances between the two can be measured."""
        rows_MD = rows_MD.to(self.device)
        if torch.float64 in (rows_MD.dtype, self.dtype):
            rows_MD = rows_MD.to(self.dtype)
        return Points(rows_MD, self.metric, self.origin_D)

    def subset(self, positions: Tensor) -> Points:
        """Some of the rows, copied."""
        return self.of_prepared(self.take(positions))

    def of_prepared(self, rows_BD: Tensor) -> Points:
        """Rows that are in this space already, as `take` gives them; kept as they are."""
        part = copy.copy(self)
        part._rows, part._ready = rows_BD, True
        part.norms_N = torch.linalg.vector_norm(rows_BD, dim=1) ** 2
        return part

    def take(self, positions: Tensor) -> Tensor:
        """Some prepared rows: float, (B, D), a copy."""
        return self._prepare(self._rows[positions])

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The number of the first row, and the prepared rows of a block; not to be modified."""
        for start, block in blocks(self._rows, self._size):
            yield start, self._prepare(block)

    def _prepare(self, block: Tensor) -> Tensor:
        if self._ready:
            return block
        return prepare(block.to(self.dtype), self.metric, self.origin_D)

    def squared_distances_to(self, position: int) -> Tensor:
        """Squared distance of every row to one of them: float, (N,), exactly 0 to itself."""
        point = self.take(torch.tensor([position], device=self.device))[0]
        if self._ready:
            squared = squared_distances_to(self._rows, self.norms_N, point)
        else:
            products = torch.cat([block @ point for _, block in self.blocks()])
            norm = point.dot(point)
            squared = _clear(products.mul_(-2).add_(self.norms_N).add_(norm), norm)
        squared[position] = 0
        return squared

    def squared_distances(self, rows_BD: Tensor) -> Tensor:
        """Squared distances of a few prepared rows to all: float, (B, N)."""
        norms_B = torch.linalg.vector_norm(rows_BD, dim=1) ** 2
        table_BN: Tensor = norms_B.new_empty(len(rows_BD), len(self))
        for start, block in self.blocks():
            part = slice(start, start + len(block))
            table_BN[:, part] = squared_distances(rows_BD, norms_B, block, self.norms_N[part])
        return table_BN


def nearest_squared_distances(points: Points, others: Points) -> Tensor:
    """Squared distance of every point to the nearest of the others: float, (N,).

    O(N M D), in tiles. Infinite where there are no others.

    Args:
        points: N rows.
        others: M rows in the same space, from ``points.like``.
    """
    nearest_N = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for start, block in points.blocks():
        part, norms = slice(start, start + len(block)), points.norms_N[start : start + len(block)]
        for other, rows in others.blocks():
            other_norms = others.norms_N[other : other + len(rows)]
            found = squared_distances(block, norms, rows, other_norms).amin(1)
            nearest_N[part] = torch.minimum(nearest_N[part], found)
    return nearest_N


def nearest_neighbors(
    points: Points, k: int, among: Tensor | None = None, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k nearest other points of every point, by brute force in tiles.

    O(N M D) time, O(N k) memory beside the tiles. A point is no neighbor of itself; its duplicates
    are, at distance 0.

    Args:
        points: N rows.
        k: How many; lowered to the number of other points.
        among: int64, (M,), positions of the points that count as neighbors; all where None.
        rows: int64, (R,), positions of the points whose neighbors are wanted; all where None.

    Returns:
        Distances, float, (R, k), ascending along a row, and positions, int64, (R, k).
    """
    every = torch.arange(len(points), device=points.device)
    among = every if among is None else among
    rows = every if rows is None else rows
    k = max(min(k, len(among) - int(torch.isin(rows, among).any())), 0)
    others = points if len(among) == len(points) else points.subset(among)
    distances = torch.empty(len(rows), k, dtype=points.dtype, device=points.device)
    neighbors = torch.empty(len(rows), k, dtype=torch.int64, device=points.device)
    size = rows_per_block(points.norms_N[:, None].expand(-1, 512))
    for start in range(0, len(rows) if k else 0, size):
        part = rows[start : start + size]
        squared, found = _neighbors_of(points, part, others, among, k)
        distances[start : start + size] = squared.sqrt()
        neighbors[start : start + size] = found
    return distances, neighbors


def nearest_points(rows_BD: Tensor, points: Points, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest points of a few rows that need not be among them, by brute force in tiles.

    Args:
        rows_BD: float, (B, D), prepared rows in the space of the points; see `Points.like`.
        points: N rows.
        k: How many; lowered to N.

    Returns:
        Distances, float, (B, k), ascending along a row, and positions, int64, (B, k).
    """
    norms_B = torch.linalg.vector_norm(rows_BD, dim=1) ** 2
    every = torch.arange(len(points), device=points.device)
    squared, found = _nearest(rows_BD, norms_B, points, every, min(k, len(points)))
    return squared.sqrt(), found


def _neighbors_of(
    points: Points, part_B: Tensor, others: Points, among: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Squared distances and positions of the nearest neighbors of one block of points."""
    block, norms = points.take(part_B), points.norms_N[part_B]
    return _nearest(block, norms, others, among, k, part_B)


def _nearest(
    block: Tensor, norms: Tensor, others: Points, among: Tensor, k: int, own_B: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The nearest of others, at positions ``among``, to rows that stand at ``own_B`` themselves."""
    best = torch.full((len(block), 0), torch.inf, dtype=others.dtype, device=others.device)
    found = torch.empty(len(block), 0, dtype=torch.int64, device=others.device)
    for start, rows in others.blocks():
        names = among[start : start + len(rows)]
        tile = squared_distances(block, norms, rows, others.norms_N[start : start + len(rows)])
        if own_B is not None:
            tile.masked_fill_(own_B[:, None] == names, torch.inf)
        values, columns = tile.topk(min(k, tile.shape[1]), largest=False)
        best, found = torch.cat([best, values], 1), torch.cat([found, names[columns]], 1)
        best, columns = best.topk(min(k, best.shape[1]), largest=False)
        found = found.gather(1, columns)
    return best, found


def gaussian_sums(
    points: Points, centers: Points, bandwidth: float, weights_M: Tensor | None = None
) -> Tensor:
    """Sum over centers of exp(-d² / (2 bandwidth²)), weighted: float, (N,).

    O(N M D), in tiles. A point that is among the centers counts itself with 1.

    Args:
        points: N rows.
        centers: M rows in the same space.
        bandwidth: > 0, in the units of the distance.
        weights_M: float, (M,); all 1 where None.

    Raises:
        ValueError: The bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth={bandwidth}; it must be positive")
    sums_N = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    weights_M = torch.ones_like(centers.norms_N) if weights_M is None else weights_M
    for start, block in points.blocks():
        part = slice(start, start + len(block))
        for other, rows in centers.blocks():
            some = slice(other, other + len(rows))
            tile = squared_distances(block, points.norms_N[part], rows, centers.norms_N[some])
            tile.mul_(-0.5 / bandwidth**2).exp_()
            sums_N[part] += tile @ weights_M[some].to(tile.dtype)
    return sums_N.to(points.dtype)
