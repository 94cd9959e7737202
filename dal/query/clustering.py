"""k-means++ draws and k-means, deterministic and in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dal.query.distances import Points
from dal.query.selection import check_size, draw

WIDTH = 16
"""Draws, or rejected proposals, after which distances are brought up to date."""


def d_squared_sampling(
    nearest: Callable[[Tensor, Tensor | None], Tensor],
    first: int,
    count: int,
    rng: torch.Generator,
) -> Tensor:
    """Draw points with probability proportional to the squared distance to the nearest drawn.

    The seeding of k-means++, for any distance: spread out, and drawn toward what is far away. No
    point is drawn twice; when all that remain coincide with drawn ones, the rest is drawn
    uniformly.

    Exact, in about ``count`` / 16 passes over the points: one is proposed by distances that do not
    know the last few draws yet, and accepted with the probability by which these have shrunk its
    own, so that what is accepted has the distribution of the shrunk ones.

    Args:
        nearest: Squared distances to the nearest of the points at some positions, int64, (M,):
            float, (R,), >= 0, from the points at other positions, int64, (R,), or from all where
            None. Called with M <= 16.
        first: Position of the first point, chosen by the caller.
        count: How many in all, from 1 to N.
        rng: CPU generator.

    Returns:
        Positions, int64, (count,), distinct, in the order drawn, on the device of the distances.

    Raises:
        ValueError: ``count`` is out of range.

    Reference:
        D. Arthur and S. Vassilvitskii. k-means++: the advantages of careful seeding. SODA 2007,
        section 2.2. The proposals are ours.
    """
    chosen = torch.tensor([first])
    weights_N = nearest(chosen, None).clone()
    check_size(count, len(weights_N))
    free_N = torch.ones(len(weights_N), dtype=torch.bool, device=weights_N.device)
    weights_N[first], free_N[first] = 0, False
    known, rejected = 1, 0
    while len(chosen) < count:
        if WIDTH in (len(chosen) - known, rejected):
            torch.minimum(weights_N, nearest(chosen[known:], None), out=weights_N)
            known, rejected = len(chosen), 0
        some = bool(weights_N.any())
        proposal = torch.tensor([draw(weights_N if some else free_N, rng)])
        if some and len(chosen) > known:
            threshold = (
                torch.rand((), generator=rng, dtype=torch.float64) * weights_N[proposal].cpu()
            )
            if nearest(chosen[known:], proposal).cpu() <= threshold:
                rejected += 1
                continue
        chosen = torch.cat([chosen, proposal])
        weights_N[proposal], free_N[proposal] = 0, False
    return chosen.to(weights_N.device)


def greedy_start(points: Points, k: int, rng: torch.Generator) -> Tensor:
    """Draw starting points for k-means: of a few k-means++ draws the best is kept each time.

    2 + ln k draws a step, of which the one that leaves the smallest sum of squared distances is
    taken, which loses clusters less often than a single one. O(N k D log k).

    Args:
        points: N rows.
        k: How many, from 1 to N.
        rng: CPU generator.

    Returns:
        Positions, int64, (k,), distinct.

    Reference:
        Arthur and Vassilvitskii 2007, section 6.
    """
    trials = 2 + int(math.log(k))
    chosen = [int(torch.randint(len(points), (), generator=rng))]
    weights_N = points.squared_distances_to(chosen[0])
    free_N = torch.ones_like(weights_N, dtype=torch.bool)
    free_N[chosen] = False
    while len(chosen) < k:
        weighted = bool(weights_N.any())
        drawn = [draw(weights_N if weighted else free_N, rng) for _ in range(trials)]
        rows = points.take(torch.tensor(drawn, device=points.device))
        left_TN = torch.minimum(points.squared_distances(rows), weights_N)
        best = int(left_TN.sum(1, dtype=torch.float64).argmin())
        chosen.append(drawn[best])
        free_N[chosen[-1]] = False
        weights_N = left_TN[best] * free_N
    return torch.tensor(chosen, device=points.device)


def assign(points: Points, centers_KD: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of every point, the first of equally near ones.

    O(N K D), in blocks.

    Args:
        points: N rows.
        centers_KD: float, (K, D), in the space of the points.

    Returns:
        Numbers of the centers, int64, (N,), and squared distances to them, float, (N,).
    """
    assignment_N = torch.empty(len(points), dtype=torch.int64, device=points.device)
    squared_N = torch.empty_like(points.norms_N)
    for start, block in points.blocks():
        part = slice(start, start + len(block))
        assignment_N[part], squared_N[part] = _nearest(points, start, block, centers_KD)
    return assignment_N, squared_N


def _nearest(
    points: Points, start: int, block: Tensor, centers_KD: Tensor
) -> tuple[Tensor, Tensor]:
    norms_K = torch.linalg.vector_norm(centers_KD, dim=1) ** 2
    least = torch.addmm(norms_K, block, centers_KD.T, alpha=-2).min(1)
    squared = least.values + points.norms_N[start : start + len(block)]
    return least.indices, squared.clamp_(min=0)


def lloyd(points: Points, centers_KD: Tensor, iterations: int = 25) -> tuple[Tensor, Tensor]:
    """Improve centers until no point changes its cluster, or the iterations are used up.

    O(N K D) an iteration; memory for the centers and a few numbers a point. Sums run in ascending
    order of the points, in float64 across blocks, so a result can be repeated. A cluster left
    without points goes to the point farthest from its center, unless every point is at one.

    Args:
        points: N rows.
        centers_KD: float, (K, D), where to start, in the space of the points.
        iterations: At most how many.

    Returns:
        Centers, float, (K, D), and the nearest one of every point, int64, (N,).

    Reference:
        S. P. Lloyd. Least squares quantization in PCM. IEEE Transactions on Information Theory,
        1982.
    """
    previous: Tensor | None = None
    for _ in range(iterations):
        assignment_N, squared_N, sums_KD, counts_K = _pass(points, centers_KD)
        if previous is not None and torch.equal(assignment_N, previous):
            return centers_KD, assignment_N
        _refill(points, assignment_N, squared_N, sums_KD, counts_K)
        means_KD = (sums_KD / counts_K.clamp(min=1)[:, None]).to(centers_KD.dtype)
        centers_KD = torch.where(counts_K[:, None] > 0, means_KD, centers_KD)
        previous = assignment_N
    return centers_KD, assign(points, centers_KD)[0]


def _pass(points: Points, centers_KD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nearest centers, squared distances, and the sums and counts of the clusters."""
    assignments: list[Tensor] = []
    distances: list[Tensor] = []
    sums_KD = torch.zeros_like(centers_KD, dtype=torch.float64)
    for start, block in points.blocks():
        assignment, squared = _nearest(points, start, block, centers_KD)
        sums_KD += _sums(block, assignment, len(centers_KD))
        assignments.append(assignment)
        distances.append(squared)
    assignment_N = torch.cat(assignments)
    counts_K = torch.bincount(assignment_N, minlength=len(centers_KD))
    return assignment_N, torch.cat(distances), sums_KD, counts_K


def _sums(block_BD: Tensor, assignment_B: Tensor, k: int) -> Tensor:
    """Sum of the rows of each cluster, in an order that is always the same."""
    if block_BD.device.type == "cpu":
        return block_BD.new_zeros(k, block_BD.shape[1]).index_add_(0, assignment_B, block_BD)
    members_BK = torch.nn.functional.one_hot(assignment_B, k).to(block_BD.dtype)
    return members_BK.T @ block_BD  # index_add_ sums in any order there


def _refill(
    points: Points, assignment_N: Tensor, squared_N: Tensor, sums_KD: Tensor, counts_K: Tensor
) -> None:
    """Move the points farthest from their centers into the empty clusters, in the sums."""
    empty = (counts_K == 0).nonzero().squeeze(1)
    if not len(empty):
        return
    far = squared_N.topk(min(len(empty), len(squared_N)))
    moved = far.indices[far.values > 0]
    empty = empty[: len(moved)]
    rows = points.take(moved).double()
    sums_KD[empty] = rows
    counts_K[empty] = 1
    for row, old in zip(rows, assignment_N[moved].tolist(), strict=True):
        sums_KD[old] -= row
        counts_K[old] -= 1


def kmeans(
    points: Points,
    k: int,
    rng: torch.Generator,
    iterations: int = 25,
    sample: int | None = None,
) -> tuple[Tensor, Tensor]:
    """k-means from one start; see `greedy_start` and `lloyd`.

    O(N k D log k) for the start, O(N k D) for each iteration and the final assignment; with
    ``sample`` the first two look at so many points only. Memory for the centers and a few numbers
    a point, beside a sample of the rows.

    Args:
        points: N rows.
        k: Number of clusters, from 1 to N. Fewer distinct points leave clusters empty.
        rng: CPU generator.
        iterations: At most how many improvements; see `lloyd`.
        sample: Fit on this many points drawn uniformly (k at least), then assign all; None for all.

    Returns:
        Centers, float, (k, D), in the space of the points, and the nearest one of every point,
        int64, (N,).

    Raises:
        ValueError: ``k`` is out of range.
    """
    if not 1 <= k <= len(points):
        raise ValueError(f"{k} clusters of {len(points)} points; k must lie between 1 and that")
    part = points
    if sample is not None and max(sample, k) < len(points):
        drawn = torch.randperm(len(points), generator=rng)[: max(sample, k)].sort().values
        part = points.subset(drawn.to(points.device))
    centers_KD, assignment_N = lloyd(part, part.take(greedy_start(part, k, rng)), iterations)
    return centers_KD, assignment_N if part is points else assign(points, centers_KD)[0]


def kmeans_jointly(
    points: Points,
    others: Points,
    k: int,
    rng: torch.Generator,
    iterations: int = 25,
    sample: int | None = None,
) -> tuple[Tensor, Tensor]:
    """k-means of two arrays together, without joining them; see `kmeans`.

    Args:
        points: N rows.
        others: M rows in the same space, M >= 0.
        k: Number of clusters, from 1 to N + M.
        rng: CPU generator.
        iterations: See `kmeans`.
        sample: See `kmeans`; drawn from both. It is copied, so None copies all rows.

    Returns:
        Clusters of the points, int64, (N,), and of the others, int64, (M,).
    """
    total = len(points) + len(others)
    size = total if sample is None else min(max(sample, k), total)
    drawn = torch.randperm(total, generator=rng)[:size].sort().values.to(points.device)
    ours, theirs = drawn[drawn < len(points)], drawn[drawn >= len(points)] - len(points)
    joined = points.of_prepared(torch.cat([points.take(ours), others.take(theirs)]))
    centers_KD, _ = kmeans(joined, k, rng, iterations)
    return assign(points, centers_KD)[0], assign(others, centers_KD)[0]
