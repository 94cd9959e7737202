"""Density: how typical of the pool a candidate is, alone and as a weight of another score."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy, check_need
from dal.query.coverage import check_width, median_distance
from dal.query.distances import Points, gaussian_sums, nearest_neighbors
from dal.query.needs import Features
from dal.query.over_score import OverScore
from dal.query.selection import blocks, check_reference, random_keys, seeded_sample
from dal.query.uncertainty import Entropy

Kind = Literal["knn", "gaussian", "cosine"]
KINDS = ("knn", "gaussian", "cosine")


def knn_density(points: Points, neighbors: int, among: Tensor) -> Tensor:
    """1 / (1 + m / m̄), with m the mean distance to the nearest neighbors, m̄ its mean.

    One half at the average distance, near 1 in the densest region, near 0 far away; finite where
    samples coincide. O(N M D) in tiles.

    Args:
        points: N rows.
        neighbors: k >= 1, lowered to the number of other samples.
        among: int64, (M,), positions of those that count as neighbors; none is its own.

    Returns:
        Float, (N,), in (0, 1]; 1 where all samples coincide, or there is only one.

    Reference:
        G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies
        suit high and low budgets. ICML 2022, equation 1 (typicality 1 / m); the rest is ours.
    """
    distances, _ = nearest_neighbors(points, neighbors, among)
    if not distances.numel():
        return torch.ones_like(points.norms_N)
    means = distances.double().mean(1)
    scale = means.mean()
    return 1 / (1 + means / scale) if scale > 0 else torch.ones_like(means)


def gaussian_density(points: Points, bandwidth: float, among: Tensor) -> Tensor:
    """Mean Gaussian kernel exp(-d² / 2h²) between a sample and others, itself included.

    O(N M D) in tiles.

    Args:
        points: N rows.
        bandwidth: h > 0, in the units of the points.
        among: int64, (M,), positions of the others; a sample that is not one of them is added to
            its own mean, so that no density is 0.

    Returns:
        Float64, (N,), in (0, 1]; 1 where all samples coincide.

    Reference:
        E. Parzen. On estimation of a probability density function and mode. Annals of
        Mathematical Statistics, 1962. Without the factor that makes it integrate to one.
    """
    sums = gaussian_sums(points, points.subset(among), bandwidth).double()
    outside = torch.ones(len(points), dtype=torch.float64, device=points.device)
    outside[among] = 0
    return (sums + outside) / (len(among) + outside)


def cosine_density(features_ND: Tensor) -> Tensor:
    """Mean of (1 + cos) / 2 between a sample and all, itself included.

    The mean of the cosines is the product with the mean of the normalised rows, so this is O(N D):
    two passes in blocks, and a few vectors of N numbers.

    Args:
        features_ND: float, (N, D), may be float16 and memory-mapped.

    Returns:
        Float32 (64 for float64), (N,), in [0, 1]; a row of zeros is at a right angle to all.

    Reference:
        B. Settles and M. Craven. An analysis of active learning strategies for sequence labeling
        tasks. EMNLP 2008 (information density).

    Differs from the paper: (1 + cos) / 2 in place of cos, since features may point away from
    each other and a power of a negative mean means nothing.
    """
    total = torch.zeros(features_ND.shape[1], dtype=torch.float64, device=features_ND.device)
    for _, block in blocks(features_ND):
        total += _directions(block).sum(0)
    mean = total / len(features_ND)
    parts = [(_directions(block) @ mean).to(block.dtype) for _, block in blocks(features_ND)]
    return ((1 + torch.cat(parts)) / 2).clamp(0, 1)


def _directions(block: Tensor) -> Tensor:
    """Rows of length one, or zero, in float64: identical rows then get identical sums."""
    return torch.nn.functional.normalize(block.double(), eps=torch.finfo(torch.float32).tiny)


def fixed_keys(view: PoolView) -> Tensor:
    """Random keys of the candidates that are the same in every call: float64, (N,).

    They belong to the samples of the training part and are drawn from a generator with a fixed
    seed, so that a density is a function of the candidates alone: the run's seed, the round and
    the order of the pool play no part.
    """
    keys = random_keys(view.num_total, torch.Generator().manual_seed(0))
    return keys[view.indices.cpu()].to(view[Features()].device)


class Density(ScoreStrategy):
    """Query where the features of the pool are densest: typical samples first.

    Alone it helps before the model is of use and asks for near duplicates after; it is meant as
    the weight in `DensityWeighted` or as one criterion of `Parallel`. Outliers come last under all
    kinds: they are similarities, never distances.

    Args:
        density: ``knn``, see `knn_density`; ``gaussian``, see `gaussian_density`; ``cosine``, see
            `cosine_density`.
        neighbors: k of ``knn``, >= 1.
        bandwidth: h of ``gaussian``, in the units of the features; None for the median distance
            between pairs of at most 2,000 candidates.
        reference: Compare with a sample of so many candidates, which makes ``knn`` and ``gaussian``
            O(N M D) for M of them; None for all, O(N^2 D). Who is in it is a function of the
            candidates alone, see `fixed_keys`. ``cosine`` always looks at all.

    Raises:
        ValueError: A setting is out of range.
    """

    needs = frozenset({Features()})
    tasks = frozenset({"multiclass", "multilabel"})
    independent = False

    def __init__(
        self,
        density: Kind = "knn",
        neighbors: int = 20,
        bandwidth: float | None = None,
        reference: int | None = 5000,
    ) -> None:
        if density not in KINDS:
            raise ValueError(f"strategy.density={density!r}; choose {', '.join(KINDS)}")
        if neighbors < 1:
            raise ValueError(f"strategy.neighbors={neighbors} must be at least 1")
        if bandwidth is not None:
            check_width("strategy.bandwidth", bandwidth)
        self.density: Kind = density
        self.neighbors, self.bandwidth = neighbors, bandwidth
        self.reference = None if reference is None else check_reference(reference)

    def score(self, view: PoolView) -> Tensor:
        """The density of each candidate among all: float, (N,), in [0, 1]."""
        features = view[Features()]
        check_need(features, view.indices, Features(), type(self).__name__)
        if self.density == "cosine":
            return cosine_density(features)
        points, keys = Points(features), fixed_keys(view)
        among = None if self.reference is None else seeded_sample(keys, self.reference)
        among = torch.arange(len(points), device=points.device) if among is None else among
        if self.density == "knn":
            return knn_density(points, self.neighbors, among)
        return gaussian_density(points, self.bandwidth or median_distance(points, keys), among)


class DensityWeighted(OverScore, ScoreStrategy):
    """Weight a score by density: (u - its lower bound) · p̂(x)^beta.

    Keeps an informative score from spending labels on outliers. Hurts where the classes' borders
    run through thin regions, and late, when the dense regions are known. Costs the score and the
    density. Subtracting the lower bound makes every score >= 0 first, so that a denser candidate
    is never worse for it, margin included.

    Args:
        score: Any score with a lower bound.
        beta: Exponent of the density, >= 0: 0 leaves the score's order as it is.
        density: See `Density`, as the settings below.
        neighbors: See `Density`.
        bandwidth: See `Density`.
        reference: See `Density`.

    Raises:
        ValueError: The score has no lower bound, or a setting is out of range.

    Reference:
        B. Settles and M. Craven. An analysis of active learning strategies for sequence labeling
        tasks. EMNLP 2008 (information density). B. Settles. Active learning literature survey,
        2009, section 3.6.
    """

    independent = False

    def __init__(
        self,
        score: ScoreStrategy,
        beta: float = 1.0,
        density: Kind = "knn",
        neighbors: int = 20,
        bandwidth: float | None = None,
        reference: int | None = 5000,
    ) -> None:
        super().__init__(score, frozenset({Features()}))
        if score.lower_bound == -torch.inf:
            raise ValueError(
                f"{type(score).__name__} has no lower bound, so a weight could turn its order "
                "round; choose another score, or combine it with density by Parallel, which needs "
                "no bound"
            )
        if not 0 <= beta < float("inf"):
            raise ValueError(f"strategy.beta={beta} must be finite and >= 0")
        self.beta = beta
        self.density = Density(density, neighbors, bandwidth, reference)

    def score(self, view: PoolView) -> Tensor:
        """See the class: float, (N,), >= 0."""
        check_need(view[Features()], view.indices, Features(), type(self).__name__)
        informative = self.base.heights(view, self.base.score(view))
        return informative * self.density.score(view).to(informative.device) ** self.beta


class InformationDensity(DensityWeighted):
    """Entropy times mean cosine similarity to the pool: H(x) · p̂(x)^beta; see `DensityWeighted`.

    O(N (C + D)), the cheapest of the density weights. In high dimensions cosines of learned
    features differ little, so a larger beta is needed for the weight to matter.

    Args:
        beta: Exponent of the similarity, >= 0.

    Raises:
        ValueError: ``beta`` is out of range.

    Reference:
        B. Settles and M. Craven. An analysis of active learning strategies for sequence labeling
        tasks. EMNLP 2008 (information density).

    Differs from the paper: see `cosine_density`; and the entropy is that of the class.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__(Entropy(), beta, "cosine")
