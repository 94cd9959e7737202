"""Coverage: choose samples so that every sample of the pool has one of them near by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dal.query.base import BatchStrategy, PoolView
from dal.query.clustering import kmeans
from dal.query.distances import (
    TILE,
    Metric,
    Points,
    nearest_squared_distances,
    squared_distances,
)
from dal.query.needs import Features
from dal.query.selection import (
    check_reference,
    check_size,
    pick_max,
    random_keys,
    seeded_sample,
)

Profile = Callable[[Tensor], Tensor]
"""Turns squared distances into similarities from 0 to 1, never rising with the distance."""

SAMPLE = 2000
"""Samples on which a radius or a bandwidth is estimated."""
FIT = 100_000
"""Samples that clusters are fitted on."""
NARROWEST, WIDEST = 1e-18, 1e18
"""Between these a radius or a bandwidth has a square, and an inverse of it, that float32 holds."""


def check_width(name: str, width: float) -> float:
    """A radius or a bandwidth, refused where it is not positive, or its square means nothing.

    Raises:
        ValueError: With the range.
    """
    if not NARROWEST <= width <= WIDEST:
        raise ValueError(
            f"{name}={width}; it must lie between {NARROWEST:g} and {WIDEST:g}, or be null to be "
            "estimated"
        )
    return width


def gaussian(bandwidth: float) -> Profile:
    """The similarity exp(-d² / (2 bandwidth²)).

    Raises:
        ValueError: The bandwidth is out of range; see `check_width`.
    """
    check_width("bandwidth", bandwidth)
    return lambda squared: (squared * (-0.5 / bandwidth**2)).exp_()


def ball(radius: float) -> Profile:
    """The similarity 1 within an open ball of that radius, 0 outside.

    Raises:
        ValueError: The radius is out of range; see `check_width`.
    """
    check_width("radius", radius)
    return lambda squared: (squared < radius**2).to(squared.dtype)


def greedy_coverage(
    kernel: Callable[[Tensor], Tensor],
    covered_R: Tensor,
    count: int,
    keys_N: Tensor,
    weights_R: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose one by one what adds most to the weighted sum over references of max similarity.

    A candidate's gain is sum_r w_r max(k(x, r) - c_r, 0), where c_r is the largest similarity of
    reference r to anything chosen so far. Gains never rise as more is chosen, so old ones bound
    new ones and most candidates need not be looked at again: the sequence is that of the plain
    greedy algorithm, at the cost of little more than one pass, O(N R) kernel values, as a rule.
    Memory O(N + R) beside blocks.

    Args:
        kernel: Similarities in [0, 1], float, (B, R), of the candidates at positions int64, (B,),
            to the R references.
        covered_R: float, (R,), largest similarity of each reference to the labeled samples; zeros
            where there are none.
        count: How many to choose, from 1 to N.
        keys_N: float64, (N,), distinct random numbers; equal gains are decided by the smallest.
            Once nothing is gained any more, the choice is random by them.
        weights_R: float, (R,), >= 0; all 1 where None.

    Returns:
        Positions, int64, (count,), distinct, in the order of choice, and the gain of each when it
        was chosen, float, (count,), never rising.

    Raises:
        ValueError: ``count`` is out of range, or a weight is negative.

    Reference:
        W. Bae, J. Noh and D. J. Sutherland. Generalized coverage for more robust low-budget active
        learning. ECCV 2024. The bounds: M. Minoux, Accelerated greedy algorithms for maximizing
        submodular set functions, 1978.
    """
    check_size(count, len(keys_N))
    if weights_R is not None and bool((weights_R < 0).any()):
        raise ValueError("a weight is negative; coverage can only be weighted by numbers >= 0")
    size = max(4 * TILE // max(len(covered_R), 1), 1)

    def gains(positions: Tensor) -> Tensor:
        added = (kernel(positions) - covered_R).clamp_(min=0)
        return added.sum(1) if weights_R is None else added @ weights_R.to(added.dtype)

    every = torch.arange(len(keys_N), device=covered_R.device)
    bounds_N = covered_R.new_empty(len(keys_N))
    for part in torch.split(every, size):
        bounds_N[part] = gains(part)  # many small results kept would keep their blocks' memory
    exact_N = torch.ones_like(bounds_N, dtype=torch.bool)
    chosen: list[int] = []
    scores: list[Tensor] = []
    while len(chosen) < count:
        _make_exact(bounds_N, exact_N, gains, size)
        best = pick_max(bounds_N.where(exact_N, -torch.inf), keys_N)
        chosen.append(best)
        scores.append(bounds_N[best].clone())
        bounds_N[best] = -torch.inf
        covered_R = torch.maximum(covered_R, kernel(every[best : best + 1])[0])
        exact_N = bounds_N <= 0
    return torch.tensor(chosen, device=covered_R.device), torch.stack(scores)


def _make_exact(
    bounds_N: Tensor, exact_N: Tensor, gains: Callable[[Tensor], Tensor], size: int
) -> None:
    """Measure again, highest bounds first, until no bound reaches the best measured gain."""
    step = 16
    while True:
        best = bounds_N.where(exact_N, -torch.inf).max()
        open_N = ~exact_N & (bounds_N >= best)
        remaining = int(open_N.sum())
        if not remaining:
            return
        some = bounds_N.where(open_N, -torch.inf).topk(min(step, remaining)).indices
        bounds_N[some] = torch.minimum(bounds_N[some], gains(some))
        exact_N[some] = True
        step = min(2 * step, size)


def cover(
    points: Points,
    labeled: Points,
    profile: Profile,
    count: int,
    keys_N: Tensor,
    references: Tensor | None = None,
    weights_R: Tensor | None = None,
) -> tuple[Tensor, Tensor, float]:
    """`greedy_coverage` of the points by themselves, the labeled ones counting as chosen.

    O(N R D + R M D) time in tiles.

    Args:
        points: N candidates.
        labeled: M labeled samples in the same space; they count as chosen.
        profile: `gaussian` or `ball`.
        count: How many to choose.
        keys_N: See `greedy_coverage`.
        references: int64, (R,), positions of the points over which the coverage is averaged; all
            where None.
        weights_R: Weights of the references; see `greedy_coverage`.

    Returns:
        Positions and gains, divided by R: the increase of the mean coverage; and the mean
        coverage by the labeled samples alone.
    """
    aims = points if references is None else points.subset(references)
    covered_R = profile(nearest_squared_distances(aims, labeled))
    positions, gains = greedy_coverage(
        lambda some: profile(aims.squared_distances(points.take(some))),
        covered_R,
        count,
        keys_N,
        weights_R,
    )
    before = covered_R if weights_R is None else covered_R * weights_R
    return positions, gains / len(aims), float(before.mean())


def median_distance(points: Points, keys_N: Tensor) -> float:
    """Median distance between pairs of a sample of at most `SAMPLE` points; 1 where all coincide.

    Args:
        points: N rows.
        keys_N: float64, (N,), random numbers that decide who is in the sample.
    """
    drawn = seeded_sample(keys_N, SAMPLE)
    part = points if drawn is None else points.subset(drawn)
    squared = part.squared_distances(part.take(torch.arange(len(part), device=part.device)))
    pairs = squared[squared > 0]
    return _in_range(float(pairs.median().sqrt())) if len(pairs) else 1.0


def _in_range(width: float) -> float:
    """An estimated width moved into the range of `check_width`."""
    return min(max(width, NARROWEST), WIDEST)


def purity_radius(
    points: Points, num_clusters: int, purity: float, keys_N: Tensor, rng: torch.Generator
) -> float:
    """The largest radius at which that share of balls holds points of one cluster only.

    A ball around x is pure up to the distance of the nearest point of another cluster, so the
    radius is a quantile of these distances. They are measured from at most `SAMPLE` points to all,
    O(SAMPLE N D), after a k-means fitted on at most `FIT` points.

    Args:
        points: N rows.
        num_clusters: Clusters that stand in for the unknown classes.
        purity: Share of balls, from 0 to 1.
        keys_N: float64, (N,), random numbers that decide around which points balls are laid.
        rng: CPU generator, for the clustering.

    Returns:
        Radius of open balls; one that reaches everything where there is one cluster only.
    """
    _, clusters_N = kmeans(points, min(num_clusters, len(points)), rng, sample=FIT)
    drawn = seeded_sample(keys_N, SAMPLE)
    if drawn is None:
        drawn = torch.arange(len(points), device=points.device)
    rows, norms = points.take(drawn), points.norms_N[drawn]
    foreign = torch.full_like(norms, torch.inf)
    for start, block in points.blocks():
        part = slice(start, start + len(block))
        tile = squared_distances(rows, norms, block, points.norms_N[part])
        tile.masked_fill_(clusters_N[drawn][:, None] == clusters_N[part], torch.inf)
        foreign = torch.minimum(foreign, tile.amin(1))
    impure = int((1 - purity) * len(foreign) + 1e-9)
    radius = float(foreign.sort().values[min(impure, len(foreign) - 1)].sqrt())
    reach = 2 * float(points.norms_N.amax().sqrt()) + 1
    return _in_range(min(radius, reach))  # 0 where different clusters hold the same rows


def feature_points(view: PoolView, metric: Metric) -> tuple[Points, Points]:
    """Features of the candidates and of the labeled samples, in one space.

    Raises:
        ValueError: A labeled sample's features are not finite.
    """
    points = Points(view[Features()], metric)
    labeled = points.like(view[Features("labeled")])
    bad = (~labeled.norms_N.isfinite()).nonzero()
    if len(bad):
        raise ValueError(
            f"labeled samples whose features are not finite: {len(bad)}, first number "
            f"{int(bad[0])} in the order of labeling; check its inputs for extreme values"
        )
    return points, labeled


def candidate_keys(view: PoolView, rng: torch.Generator) -> Tensor:
    """Random keys of the candidates: float64, (N,), where the features are."""
    return random_keys(view.num_total, rng)[view.indices.cpu()].to(view[Features()].device)


class ProbCover(BatchStrategy):
    """Query the samples whose balls cover most of what no labeled sample's ball covers yet.

    Greedy: each pick is the candidate with most uncovered samples within the radius; when nothing
    is left to cover, the rest is random. Helps with few labels and features in which classes lie
    apart; hurts when the radius does not suit the features (too small: every ball covers its
    center only; too large: a few picks cover all, the rest is random), and with many labels.

    O(N R D) time for R = min(N, reference), and little more for the picks; O(N + R) memory.

    Args:
        radius: Radius of the balls in the space of the features; null to estimate it each round
            as the largest at which the share ``purity`` of balls holds members of one cluster
            only, with as many k-means clusters as classes.
        purity: See ``radius``.
        normalize: Scale features to length one first, as the authors do.
        reference: Coverage is counted over at most this many candidates, drawn by the seed; every
            candidate can be chosen all the same.

    Raises:
        ValueError: A radius that is not positive, or a purity outside (0, 1].

    Reference:
        O. Yehuda, A. Dekel, G. Hacohen and D. Weinshall. Active learning through a covering lens.
        NeurIPS 2022, algorithm 1 and section 3.2.

    Differs from the paper: the radius is estimated on the features of the current model with balls
    around at most 2,000 candidates, and found as a quantile instead of by search. Differs from the
    authors' code: no candidate is left out of the graph, and the graph is not stored.
    """

    needs = frozenset({Features(), Features("labeled")})
    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(
        self,
        radius: float | None = None,
        purity: float = 0.95,
        normalize: bool = True,
        reference: int = 20_000,
    ) -> None:
        if radius is not None:
            ball(radius)
        if not 0 < purity <= 1:
            raise ValueError(f"strategy.purity={purity}; it is a share, above 0 and at most 1")
        self.radius = radius
        self.purity = purity
        self.normalize = normalize
        self.reference = check_reference(reference)

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score is the share of the pool that a pick newly covers."""
        points, labeled = feature_points(view, "cosine" if self.normalize else "euclidean")
        keys, draws = candidate_keys(view, rng), candidate_keys(view, rng)
        radius = self.radius
        if radius is None:
            radius = purity_radius(points, view.num_classes, self.purity, draws, rng)
        drawn = seeded_sample(draws, self.reference)
        positions, gains, before = cover(points, labeled, ball(radius), query_size, keys, drawn)
        info = {
            "radius": radius,
            "coverage": before + float(gains.sum()),
            "uninformed": int((gains == 0).sum()),
        }
        return positions, gains, info


class MaxHerding(BatchStrategy):
    """Query the samples that raise most the mean similarity of the pool to its nearest label.

    Greedy maximization of (1/N) sum_n max over labeled and chosen s of exp(-|x_n - s|² / 2h²):
    a smooth form of the ball coverage of `ProbCover`, far less sensitive to its width. Helps with
    few labels and informative features; hurts when the features do not separate the classes, and
    with many labels, as it never looks at the predictions.

    O(N R D) time for R = min(N, reference), and little more for the picks; O(N + R) memory.

    Args:
        bandwidth: h, in the units of the features; null for the median distance between pairs of
            candidates, estimated each round on at most 2,000 of them.
        normalize: Scale features to length one first, as the authors do.
        reference: The mean is taken over at most this many candidates, drawn by the seed; every
            candidate can be chosen all the same.

    Raises:
        ValueError: A bandwidth that is not positive.

    Reference:
        W. Bae, J. Noh and D. J. Sutherland. Generalized coverage for more robust low-budget active
        learning. ECCV 2024, section 3.

    Differs from the paper: it uses features of a self-supervised network and a fixed bandwidth;
    here the features are those of the current model, and the bandwidth follows their scale unless
    it is given.
    """

    needs = frozenset({Features(), Features("labeled")})
    tasks = frozenset({"multiclass", "multilabel"})

    def __init__(
        self, bandwidth: float | None = None, normalize: bool = True, reference: int = 5000
    ) -> None:
        if bandwidth is not None:
            gaussian(bandwidth)
        self.bandwidth = bandwidth
        self.normalize = normalize
        self.reference = check_reference(reference)

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; the score is the increase of the mean similarity."""
        points, labeled = feature_points(view, "cosine" if self.normalize else "euclidean")
        keys, draws = candidate_keys(view, rng), candidate_keys(view, rng)
        width = self.bandwidth or median_distance(points, draws)
        drawn = seeded_sample(draws, self.reference)
        weights = self.weights(view)
        if weights is not None and drawn is not None:
            weights = weights[drawn]
        positions, gains, before = cover(
            points, labeled, gaussian(width), query_size, keys, drawn, weights
        )
        return positions, gains, {"bandwidth": width, "coverage": before + float(gains.sum())}

    def weights(self, view: PoolView) -> Tensor | None:
        """How much it matters that each candidate is covered: float, (N,), >= 0; None: equal."""
        return None
