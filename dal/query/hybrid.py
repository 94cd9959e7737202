"""Hybrid strategies: batches that are uncertain and diverse at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.coverage import MaxHerding
from dal.query.needs import Features, Probs
from dal.query.selection import blocks, draw, random_keys, top_k
from dal.query.uncertainty import indecision, margin


def falcun_relevance(uncertainty_N: Tensor, distances_N: Tensor, free_N: Tensor) -> Tensor:
    """Uncertainty plus the distance to the batch, brought to [0, 1] over the free candidates.

    Args:
        uncertainty_N: float, (N,), in [0, 1].
        distances_N: float, (N,), >= 0.
        free_N: bool, (N,), candidates not picked yet; at least one.

    Returns:
        float, (N,), in [0, 2] where free, 0 elsewhere.

    Reference:
        S. Gilhuber, A. Beer, Y. Ma and T. Seidl. FALCUN: a simple and efficient deep active
        learning strategy. ECML PKDD 2024, equations 4 and 5.
    """
    lowest, highest = distances_N[free_N].aminmax()
    span = highest - lowest
    scaled = (distances_N - lowest) / span if span > 0 else torch.zeros_like(distances_N)
    return torch.where(free_N, uncertainty_N + scaled, 0.0)


class Falcun(BatchStrategy):
    """Draw candidates by uncertainty plus distance to the batch, both in probability space.

    With u = 1 - (p1 - p2), a candidate is drawn with probability proportional to
    (u + d)^gamma, where d is the L1 distance of its probabilities to the nearest ones picked,
    brought to [0, 1] over the candidates left; before the first pick d starts from u. Needs no
    features, so it is as cheap as margin: O(b N C). Helps where BADGE is too slow and a batch of
    the most uncertain samples would lie between the same two classes. It sees no difference
    between samples predicted alike.

    Args:
        gamma: Exponent, >= 0: 0 draws uniformly; the larger, the closer to the maximum.

    Raises:
        ValueError: ``gamma`` is negative or not finite.

    Reference:
        S. Gilhuber, A. Beer, Y. Ma and T. Seidl. FALCUN: a simple and efficient deep active
        learning strategy. ECML PKDD 2024, equations 1 to 6.

    Differs from the paper: nothing known; where its text leaves the range of the normalisation
    open, we follow the authors' program: over the candidates left, anew for every pick.
    """

    needs = frozenset({Probs()})

    def __init__(self, gamma: float = 10.0) -> None:
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"strategy.gamma={gamma} must be finite and >= 0")
        self.gamma = gamma

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score of a pick is its relevance when it was picked."""
        probs = view[Probs()]
        uncertainty = indecision(probs)
        distances = uncertainty
        free = torch.ones(len(view), dtype=torch.bool, device=probs.device)
        picks: list[int] = []
        scores = []
        for _ in range(query_size):
            relevance = falcun_relevance(uncertainty, distances, free)
            weights = torch.where(free, (relevance / relevance.max()) ** self.gamma, 0.0)
            pick = draw(weights if relevance.max() > 0 else free, rng)
            picks.append(pick)
            scores.append(relevance[pick])
            free[pick] = False
            distances = distances.minimum((probs - probs[pick]).abs().sum(1))
        return torch.tensor(picks, device=probs.device), torch.stack(scores), {}


def round_robin(labels_N: Tensor, query_size: int, keys_N: Tensor) -> Tensor:
    """Take one of each cluster in turn, beginning with the smallest cluster, until b are taken.

    Args:
        labels_N: int64, (N,), cluster of each candidate, N >= b.
        query_size: b.
        keys_N: float64, (N,), distinct random numbers: order within a cluster, and of clusters
            of the same size.

    Returns:
        Positions, int64, (b,), distinct, in the order taken.

    Reference:
        G. Citovsky et al. Batch active learning at scale. NeurIPS 2021, algorithm 2.
    """
    by_key = keys_N.argsort()
    _, level, counts = torch.unique(labels_N[by_key], return_inverse=True, return_counts=True)
    by_cluster = level.argsort(stable=True)  # within a cluster by key
    starts = counts.cumsum(0) - counts
    turn = torch.empty_like(level)
    turn[by_cluster] = torch.arange(len(level), device=level.device) - starts[level[by_cluster]]
    size = counts[level]
    first_key = keys_N[by_key][by_cluster[starts]]
    order = first_key[level].argsort(stable=True)
    order = order[size[order].argsort(stable=True)]
    order = order[turn[order].argsort(stable=True)]
    return by_key[order[:query_size]]


class ClusterMargin(BatchStrategy):
    """Cluster the candidates with the smallest margins, then take from the clusters in turn.

    Keeps the ``factor`` times b candidates with the smallest difference of the two highest
    probabilities, clusters their features by average linkage, and takes a random one of each
    cluster in turn, from the smallest cluster on. Helps with large batches. Small clusters come
    first, so outliers with small margins are preferred. O(N C + (factor b)^2 D) and
    (factor b)^2 numbers of memory, bounded by ``limit``.

    Args:
        factor: Candidates kept for each one queried, >= 1.
        clusters: Number of clusters for each candidate queried, in (0, 1].
        limit: Most candidates to cluster; the batch itself if that is larger.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        G. Citovsky, G. DeSalvo, C. Gentile, L. Karydas, A. Rajagopalan, A. Rostamizadeh and
        S. Kumar. Batch active learning at scale. NeurIPS 2021, algorithms 1 and 2.

    Differs from the paper: it clusters the whole pool once, before the first query, and stops
    merging at a distance set by hand; we cluster the candidates with small margins in every round,
    by the features of the current model, into a given number of clusters. Both keep the linkage
    and the order in which clusters are visited.
    """

    needs = frozenset({Probs(), Features()})

    def __init__(self, factor: float = 10.0, clusters: float = 1.0, limit: int = 4000) -> None:
        if not 1 <= factor < float("inf"):
            raise ValueError(f"strategy.factor={factor} must be at least 1")
        if not 0 < clusters <= 1:
            raise ValueError(f"strategy.clusters={clusters} must lie in (0, 1]")
        if limit < 1:
            raise ValueError(f"strategy.limit={limit} must be at least 1")
        self.factor, self.clusters, self.limit = factor, clusters, limit

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score of a pick is minus its margin."""
        probs = view[Probs()]
        heights = indecision(probs)
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(probs.device)
        wanted = max(int(min(self.factor * query_size, self.limit, len(view))), query_size)
        kept = top_k(heights, wanted, keys)[0].sort().values
        count = max(round(self.clusters * query_size), 1)
        labels = average_linkage(view[Features()][kept], min(count, len(kept)))
        positions = kept[round_robin(labels.to(kept.device), query_size, keys[kept])]
        return positions, margin(probs[positions]).to(probs.dtype), {"kept": len(kept)}


def average_linkage(rows_ND: Tensor, num_clusters: int) -> Tensor:
    """Clusters by agglomeration with average linkage of Euclidean distances.

    Args:
        rows_ND: float, (N, D); N^2 distances are held.
        num_clusters: From 1 to N.

    Returns:
        int64, (N,), on the CPU, in [0, num_clusters).
    """
    if num_clusters == 1 or len(rows_ND) == 1:
        return torch.zeros(len(rows_ND), dtype=torch.int64)
    from sklearn.cluster import AgglomerativeClustering  # slow to import

    rows = torch.cat([block for _, block in blocks(rows_ND)]).cpu().numpy()
    model = AgglomerativeClustering(num_clusters, linkage="average")
    return torch.from_numpy(model.fit_predict(rows)).long()


class UHerding(MaxHerding):
    """Query the samples that raise most the uncertainty-weighted similarity of the pool to labels.

    Greedy maximization of (1/N) sum_n u_n max over labeled and chosen s of exp(-|x_n - s|² / 2h²)
    with u = 1 - (p1 - p2): what is covered matters by how uncertain it is. With few labels, when
    all is uncertain, it acts like `MaxHerding`; later it turns to the classes' borders. Hurts when
    the network is sure of its mistakes, or the features do not separate the classes.

    O(N R D) time for R = min(N, reference), and little more for the picks; O(N + R) memory.

    Args:
        bandwidth: h, in the units of the features; null for the median distance between pairs of
            candidates, estimated each round on at most 2,000 of them.
        normalize: Scale features to length one first.
        reference: The mean is taken over at most this many candidates, drawn by the seed; every
            candidate can be chosen all the same.

    Raises:
        ValueError: A bandwidth or a reference that is not positive.

    Reference:
        W. Bae, G. L. Oliveira and D. J. Sutherland. Uncertainty herding: one active learning
        method for all label budgets. ICLR 2025.

    Differs from the paper: it scales the temperature of the softmax on held-out labels and shrinks
    the bandwidth as labels come in; here the probabilities are the network's own, and the bandwidth
    follows the scale of the features unless it is given.
    """

    needs = frozenset({Probs(), Features(), Features("labeled")})
    tasks = frozenset({"multiclass"})

    def weights(self, view: PoolView) -> Tensor:
        """The uncertainty, see `indecision`."""
        return indecision(view[Probs()])
