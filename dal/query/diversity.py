"""Diversity: choose samples that differ from each other and stand for the pool."""

from __future__ import annotations

import heapq
from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.clustering import assign, kmeans, kmeans_jointly
from dal.query.coverage import FIT, candidate_keys, feature_points
from dal.query.distances import (
    Metric,
    Points,
    check_metric,
    nearest_neighbors,
    nearest_squared_distances,
)
from dal.query.needs import Features
from dal.query.selection import check_reference, check_size, pick_max, seeded_sample


def k_center(
    points: Points, nearest_N: Tensor, count: int, keys_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose again and again the point farthest from its nearest center.

    A 2-approximation of the smallest radius with which ``count`` balls reach every point.
    O(count N D), one matrix-vector product a step; memory for a few numbers a point.

    Args:
        points: N rows.
        nearest_N: float, (N,), squared distances to the nearest center there is; all infinite
            where there is none, and then the first is random by the keys.
        count: How many, from 1 to N.
        keys_N: float64, (N,), distinct random numbers; equal distances are decided by the
            smallest.

    Returns:
        Positions, int64, (count,), distinct, in the order of choice, and squared distances to the
        nearest center when chosen, float, (count,), never rising; that of a first without centers
        is the largest from it to any point.

    Raises:
        ValueError: ``count`` is out of range.

    Reference:
        T. F. Gonzalez. Clustering to minimize the maximum intercluster distance. Theoretical
        Computer Science, 1985.
    """
    check_size(count, len(points))
    nearest_N = nearest_N.clone()
    distances_from = _Ahead(points, nearest_N)
    chosen: list[int] = []
    scores: list[Tensor] = []
    while len(chosen) < count:
        farthest = pick_max(nearest_N, keys_N)
        score = nearest_N[farthest].clone()
        squared_N = distances_from(farthest)
        scores.append(squared_N.max() if bool(score.isinf()) else score)
        torch.minimum(nearest_N, squared_N, out=nearest_N)
        chosen.append(farthest)
        nearest_N[farthest] = -torch.inf
    return torch.tensor(chosen, device=nearest_N.device), torch.stack(scores)


class _Ahead:
    """Distances from one point after the other, computed for likely next points in one go.

    A pass over the rows costs about as much for sixteen points as for one, as it waits for memory.
    The farthest points now are likely the next centers; how many are computed ahead follows how
    many of the last ones were used.
    """

    def __init__(self, points: Points, nearest_N: Tensor) -> None:
        self.points = points
        self.nearest_N = nearest_N
        self.size = 4
        self.used = 0
        self.rows: dict[int, Tensor] = {}

    def __call__(self, position: int) -> Tensor:
        """Squared distances of all points to one: float, (N,)."""
        if position not in self.rows:
            self._compute(position)
        self.used += 1
        return self.rows.pop(position)

    def _compute(self, position: int) -> None:
        if self.used == self.size:
            self.size = min(2 * self.size, 32)
        elif 2 * self.used < self.size:
            self.size = max(self.size // 2, 1)
        self.used = 0
        farthest = self.nearest_N.topk(min(self.size, len(self.nearest_N))).indices.tolist()
        wanted = [position, *(p for p in farthest if p != position)][: self.size]
        found = self.points.take(torch.tensor(wanted, device=self.nearest_N.device))
        table = self.points.squared_distances(found)
        self.rows = dict(zip(wanted, table, strict=True))


class CoreSet(BatchStrategy):
    """Query by k-center: each pick is the candidate farthest from all that is labeled or picked.

    The score is that distance. Helps with large batches and features in which distance means
    something, as nothing is picked twice in one place; hurts when there are outliers, which are
    far from everything, and in the first rounds, when features say little.

    O(N M D + b N D) time, one matrix-vector product a pick; O(N) memory.

    Args:
        distance: ``euclidean``, ``cosine`` (1 - cos) or ``pearson`` (1 - r) of the features. A
            row of zeros (for Pearson, a constant row) is at cosine distance 1/2 from all others.

    Raises:
        ValueError: The distance is unknown.

    Reference:
        O. Sener and S. Savarese. Active learning for convolutional neural networks: a core-set
        approach. ICLR 2018, algorithm 1.

    Differs from the paper: only the greedy algorithm, not the mixed integer program that improves
    it. Without labeled samples the first pick is random.
    """

    needs = frozenset({Features(), Features("labeled")})
    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(self, distance: Metric = "euclidean") -> None:
        self.distance: Metric = check_metric(distance)

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See `k_center`."""
        points, labeled = feature_points(view, self.distance)
        nearest_N = nearest_squared_distances(points, labeled)
        keys = candidate_keys(view, rng)
        positions, squared = k_center(points, nearest_N, query_size, keys)
        return positions, squared.sqrt() if self.distance == "euclidean" else squared / 2, {}


def nearest_members(
    clusters_N: Tensor, squared_N: Tensor, keys_N: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The member of each cluster nearest to its center, largest clusters first.

    Args:
        clusters_N: int64, (N,), from 0 to k - 1.
        squared_N: float, (N,), squared distances to the centers.
        keys_N: float64, (N,); equal distances, and equal sizes, are decided by the smallest.
        k: Number of clusters; some may be empty.

    Returns:
        Positions, int64, one for each cluster that is not empty, and its share of all points.
    """
    order = keys_N.argsort()
    order = order[squared_N[order].argsort(stable=True)]
    order = order[clusters_N[order].argsort(stable=True)]
    counts_K = torch.bincount(clusters_N, minlength=k)
    starts_K = counts_K.cumsum(0) - counts_K
    first = order[starts_K[counts_K > 0]]
    sizes = counts_K[counts_K > 0]
    first_by_key = keys_N[first].argsort()
    ranked = first_by_key[sizes[first_by_key].argsort(descending=True, stable=True)]
    return first[ranked], sizes[ranked] / len(clusters_N)


class KMeans(BatchStrategy):
    """Query the candidates nearest to the centers of as many clusters as there are queries.

    Each pick is a member of its own cluster, largest cluster first; the score is the cluster's
    share of the pool. Picks stand for regions of the pool and repeat nothing within a batch;
    helps with large batches and few labels. Hurts when labels are many: neither the predictions
    nor the labeled samples are looked at, so regions are queried again each round.

    O(b N D) an iteration; O(N + b D) memory beside the sample.

    Args:
        distance: ``euclidean``, ``cosine`` or ``pearson``, of the features.
        iterations: At most how many improvements of the centers.
        sample: Centers are fitted on at most this many candidates, drawn by the seed.

    Raises:
        ValueError: The distance is unknown, or a number is not positive.

    Reference:
        F. Zhdanov. Diverse mini-batch active learning. arXiv:1901.05954, 2019, without its
        weights.
    """

    needs = frozenset({Features()})
    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(
        self, distance: Metric = "euclidean", iterations: int = 25, sample: int = FIT
    ) -> None:
        if min(iterations, sample) < 1:
            raise ValueError(
                f"strategy.iterations={iterations}, strategy.sample={sample}; both must be positive"
            )
        self.distance: Metric = check_metric(distance)
        self.iterations = iterations
        self.sample = sample

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; clusters left empty, by duplicates, give way to random candidates."""
        points, keys = Points(view[Features()], self.distance), candidate_keys(view, rng)
        centers_KD, _ = kmeans(points, query_size, rng, self.iterations, self.sample)
        clusters_N, squared_N = assign(points, centers_KD)
        positions, shares = nearest_members(clusters_N, squared_N, keys, query_size)
        missing = query_size - len(positions)
        keys = keys.index_fill(0, positions, torch.inf)
        others = keys.argsort()[:missing]
        scores = torch.cat([shares, shares.new_zeros(missing)])
        return torch.cat([positions, others]), scores, {"uninformed": missing}


MIN_CLUSTER = 5
"""Clusters of up to this many samples come last."""


def typicality(
    points: Points, members: Tensor, neighbors: int, keys_N: Tensor, reference: int
) -> Tensor:
    """Inverse mean distance to the nearest other members of a cluster.

    High in dense places. Neighbors are at most half of the cluster, as in the authors' code, at
    least one; a cluster of one has none, and its member typicality 0. O(n min(n, reference) D) for
    n members.

    Args:
        points: N rows.
        members: int64, (n,), ascending.
        neighbors: K, over how many nearest neighbors the mean is taken.
        keys_N: float64, (N,), random numbers: in larger clusters neighbors are looked for among
            the ``reference`` members with the smallest.
        reference: See ``keys_N``.

    Returns:
        float, (n,), >= 0, at most 1e12, where all neighbors are duplicates.
    """
    k = max(min(neighbors, len(members) // 2), 1)
    drawn = seeded_sample(keys_N[members], reference)
    among = members if drawn is None else members[drawn]
    distances, _ = nearest_neighbors(points, k, among, members)
    if not distances.shape[1]:
        return distances.new_zeros(len(members))
    return 1 / distances.mean(1).clamp(min=1e-12)


class TypiClust(BatchStrategy):
    """Query the most typical sample of the largest clusters that hold no label yet.

    The pool and the labeled samples are clustered together into as many clusters as there will be
    labels, at most ``max_clusters``. Clusters with the fewest labeled samples come first, and
    among these the largest; in each the candidate is picked whose K nearest neighbors in the
    cluster are nearest: the score is the inverse of their mean distance. Helps in the first
    rounds, with few labels; hurts when labels are many, as it prefers what is easy and dense and
    never looks at the predictions.

    O(N k D) for k clusters, and O(n min(n, reference) D) in each cluster of n queried; O(N) memory
    beside the sample the clusters are fitted on.

    Args:
        neighbors: K.
        max_clusters: Largest number of clusters.
        normalize: Scale features to length one first, as the authors do.
        reference: Neighbors are looked for among at most this many members of a cluster.

    Raises:
        ValueError: A number is not positive.

    Reference:
        G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies
        suit high and low budgets. ICML 2022, section 3 and algorithm 1.

    Differs from the authors' code: clusters of up to 5 samples are not left out but come last, so
    that every sample can be chosen; the mean is taken over distances, as the paper says, not over
    squared ones; a second pick from one cluster takes the next in the same order of typicality.
    """

    needs = frozenset({Features(), Features("labeled")})
    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(
        self,
        neighbors: int = 20,
        max_clusters: int = 500,
        normalize: bool = True,
        reference: int = 10_000,
    ) -> None:
        if min(neighbors, max_clusters) < 1:
            raise ValueError(
                f"strategy.neighbors={neighbors}, strategy.max_clusters={max_clusters}; "
                "both must be positive"
            )
        self.neighbors = neighbors
        self.max_clusters = max_clusters
        self.normalize = normalize
        self.reference = check_reference(reference)

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class."""
        points, labeled = feature_points(view, "cosine" if self.normalize else "euclidean")
        keys = candidate_keys(view, rng)
        k = min(len(labeled) + query_size, self.max_clusters)
        clusters_N, of_labeled = kmeans_jointly(points, labeled, k, rng, sample=FIT)
        queue = _queue(clusters_N, of_labeled, k)
        ranked: dict[int, list[tuple[int, float]]] = {}
        picks: list[tuple[int, float]] = []
        while len(picks) < query_size:
            small, covered, size, cluster = heapq.heappop(queue)
            if cluster not in ranked:
                members = (clusters_N == cluster).nonzero().squeeze(1)
                ranked[cluster] = self._rank(points, members, keys)
            picks.append(ranked[cluster].pop())
            if ranked[cluster]:
                heapq.heappush(queue, (small, covered + 1, size, cluster))
        device = points.device
        positions = torch.tensor([position for position, _ in picks], device=device)
        scores = torch.tensor([score for _, score in picks], dtype=points.dtype, device=device)
        info = {"clusters": k, "queried_clusters": len(ranked)}
        return positions, scores, info

    def _rank(self, points: Points, members: Tensor, keys_N: Tensor) -> list[tuple[int, float]]:
        """Members and their typicality, the most typical last; of equals the smallest key last."""
        members = members[keys_N[members].argsort(descending=True)]
        scores = typicality(points, members, self.neighbors, keys_N, self.reference)
        order = scores.argsort(stable=True)
        return list(zip(members[order].tolist(), scores[order].tolist(), strict=True))


def _queue(clusters_N: Tensor, of_labeled: Tensor, k: int) -> list[tuple[bool, int, int, int]]:
    """Clusters with candidates: small or not, labeled samples, minus the size, number."""
    candidates = torch.bincount(clusters_N, minlength=k).tolist()
    covered = torch.bincount(of_labeled, minlength=k).tolist()
    queue = [
        (free + held <= MIN_CLUSTER, held, -(free + held), cluster)
        for cluster, (free, held) in enumerate(zip(candidates, covered, strict=True))
        if free
    ]
    heapq.heapify(queue)
    return queue
