"""Margin among typical samples of many clusters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.clustering import kmeans
from dal.query.coverage import FIT, candidate_keys
from dal.query.distances import Points
from dal.query.diversity import typicality
from dal.query.needs import Features, Probs
from dal.query.selection import check_reference, pick_max, top_k
from dal.query.uncertainty import indecision, margin


class TypicalMargin(BatchStrategy):
    """Query the smallest margins among the most typical samples of many clusters.

    The pool is clustered into ``factor`` clusters for each query, at most ``max_clusters``, and of
    each cluster the sample whose neighbors are nearest may be queried: so picks are no outliers,
    and no two of a batch are neighbors. Among these the difference of the two highest
    probabilities decides. Helps `LabelPropagation` most, whose doubt lies between clusters; the
    first labels should cover the pool (``initial=typiclust``). Hurts when labels are many and
    clusters too coarse for what is still confused.

    O(N k D) for k clusters, and O(n min(n, reference) D) in each of n samples; O(N) memory beside
    the sample the clusters are fitted on.

    Args:
        factor: Clusters for each one queried, >= 1.
        max_clusters: Most clusters; as many as are queried, if those are more.
        neighbors: K, over whose distances typicality is the inverse mean.
        normalize: Scale features to length one first.
        reference: Neighbors are looked for among at most this many members of a cluster.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        Ours. Typicality: G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget.
        ICML 2022. Clusters, then margin: G. Citovsky et al. Batch active learning at scale.
        NeurIPS 2021, who take them the other way round.
    """

    needs = frozenset({Probs(), Features()})

    def __init__(
        self,
        factor: float = 20.0,
        max_clusters: int = 500,
        neighbors: int = 20,
        normalize: bool = True,
        reference: int = 10_000,
    ) -> None:
        if not 1 <= factor < float("inf"):
            raise ValueError(f"strategy.factor={factor} must be at least 1")
        if min(max_clusters, neighbors) < 1:
            raise ValueError(
                f"strategy.max_clusters={max_clusters}, strategy.neighbors={neighbors}; "
                "both must be positive"
            )
        self.factor, self.max_clusters, self.neighbors = factor, max_clusters, neighbors
        self.normalize, self.reference = normalize, check_reference(reference)

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score of a pick is minus its margin.

        Clusters left empty, by duplicates, give way to the smallest margins elsewhere.
        """
        points = Points(view[Features()], "cosine" if self.normalize else "euclidean")
        probs_NC, keys_N = view[Probs()].to(points.device), candidate_keys(view, rng)
        wanted = int(min(self.factor * query_size, self.max_clusters))
        k = min(max(wanted, query_size), len(points))
        _, clusters_N = kmeans(points, k, rng, sample=FIT)
        typical_N = self._typical(points, clusters_N, k, keys_N)
        unsure_N = indecision(probs_NC)
        picked: list[Tensor] = []
        for places in (typical_N.nonzero().squeeze(1), (~typical_N).nonzero().squeeze(1)):
            count = min(query_size - sum(len(some) for some in picked), len(places))
            if count:
                picked.append(places[top_k(unsure_N[places], count, keys_N[places])[0]])
        picks = torch.cat(picked)
        info = {"clusters": int(typical_N.sum()), "others": int((~typical_N[picks]).sum())}
        return picks, margin(probs_NC[picks]), info

    def _typical(self, points: Points, clusters_N: Tensor, k: int, keys_N: Tensor) -> Tensor:
        """Which candidates are the most typical of their clusters: bool, (N,)."""
        typical_N = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for cluster in range(k):
            members = (clusters_N == cluster).nonzero().squeeze(1)
            if len(members):
                scores = typicality(points, members, self.neighbors, keys_N, self.reference)
                typical_N[members[pick_max(scores, keys_N[members])]] = True
        return typical_N
