"""Combining criteria: one after the other, one a round by chance, or all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dal.query.base import (
    BatchStrategy,
    PoolView,
    ScoreStrategy,
    Strategy,
    check_finite,
    check_need,
)
from dal.query.clustering import kmeans
from dal.query.distances import Points
from dal.query.needs import Features, Needs, of_candidates
from dal.query.over_score import OverScore
from dal.query.selection import draw, random_keys, top_k

Combine = Literal["scores", "ranks"]
COMBINE = ("scores", "ranks")


def min_max(scores_N: Tensor) -> Tensor:
    """Scores moved and scaled to [0, 1]; all 0 where all are the same.

    Args:
        scores_N: float, (N,), finite.

    Returns:
        float64, (N,): 0 for the lowest, 1 for the highest.
    """
    scores = scores_N.double()
    lowest, highest = scores.aminmax()
    span = highest - lowest
    return (scores - lowest) / span if span > 0 else torch.zeros_like(scores)


def rank_scores(scores_N: Tensor) -> Tensor:
    """Ranks of the scores, scaled to [0, 1]; equal scores share the mean of their ranks.

    Args:
        scores_N: float, (N,), finite.

    Returns:
        float64, (N,): (rank - 1) / (N - 1), ranks counted from the lowest; 1/2 for N = 1.
    """
    _, level, counts = torch.unique(scores_N, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    middle = last - (counts - 1) / 2
    count = len(scores_N)
    ranks: Tensor = (middle[level] - 1) / (count - 1) if count > 1 else torch.full_like(last, 0.5)
    return ranks


def representatives(points: Points, centers_KD: Tensor, labels_N: Tensor, keys_N: Tensor) -> Tensor:
    """The member of each cluster that is nearest to its center.

    Args:
        points: N rows.
        centers_KD: float, (K, D), in the space of the points.
        labels_N: int64, (N,), the cluster of each point.
        keys_N: float64, (N,), distinct random numbers; the smallest decides among equally near.

    Returns:
        Positions, int64, one for each cluster that has members.
    """
    parts = [
        (block - centers_KD[labels_N[start : start + len(block)]]).square().sum(1)
        for start, block in points.blocks()
    ]
    order = keys_N.argsort()
    order = order[torch.cat(parts)[order].argsort(stable=True)]
    order = order[labels_N[order].argsort(stable=True)]
    labels = labels_N[order]
    first = torch.ones_like(labels, dtype=torch.bool)
    first[1:] = labels[1:] != labels[:-1]
    return order[first]


def spread_out(
    features_ND: Tensor,
    heights_N: Tensor,
    count: int,
    query_size: int,
    keys_N: Tensor,
    rng: torch.Generator,
) -> tuple[Tensor, int]:
    """Of the highest candidates those nearest to the centers of as many clusters as are queried.

    Clusters that stay empty, which only copies cause, leave their turn to the highest others.

    Args:
        features_ND: float, (N, D), which k-means clusters.
        heights_N: float, (N,), finite, what candidates rank by.
        count: How many of the highest are clustered, from b to N.
        query_size: b.
        keys_N: float64, (N,), distinct random numbers that break ties, where the heights are.
        rng: CPU generator.

    Returns:
        Positions, int64, (b,), the highest first; and the number of clusters.
    """
    kept = top_k(heights_N, count, keys_N)[0].sort().values
    points = Points(features_ND[kept.to(features_ND.device)])
    centers, labels = kmeans(points, query_size, rng)
    central = representatives(points, centers, labels, keys_N[kept].to(points.device))
    chosen = kept[central.to(kept.device)]
    rank = heights_N.double().clone()
    rank[chosen] = torch.inf  # so that only free turns go to the highest of the others
    chosen = top_k(rank, query_size, keys_N)[0]
    chosen = chosen[top_k(heights_N[chosen], query_size, keys_N[chosen])[0]]
    return chosen, len(torch.unique(labels))


class Serial(OverScore, BatchStrategy):
    """Filter by a score, then spread out: query the centers of clusters of the best candidates.

    Keeps the ``factor`` times b candidates with the highest scores, clusters their features by
    k-means into b clusters, and queries the candidate nearest to each center; clusters that stay
    empty, which only copies cause, leave their turn to the highest scores. Helps with large batches
    of near duplicates. With a large factor it queries what is merely typical, and with 1 what the
    score alone would. O(factor b^2 D) an iteration besides the score.

    Args:
        score: Any score.
        factor: Candidates kept for each one queried, >= 1.

    Raises:
        ValueError: ``factor`` is below 1.
        TypeError: ``score`` gives no scores.

    Reference:
        F. Zhdanov. Diverse mini-batch active learning. arXiv:1901.05954, 2019.

    Differs from the paper: clusters are not weighted by the score.
    """

    def __init__(self, score: ScoreStrategy, factor: float = 10.0) -> None:
        super().__init__(score, frozenset({Features()}))
        if not 1 <= factor < float("inf"):
            raise ValueError(f"strategy.factor={factor} must be at least 1")
        self.factor = factor

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """See the class; picks come in the order of their scores."""
        scores = self.base.checked_scores(view)
        heights = self.base.heights(view, scores)
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(scores.device)
        count = int(min(self.factor * query_size, len(view)))
        chosen, clusters = spread_out(view[Features()], heights, count, query_size, keys, rng)
        return chosen, scores[chosen], {"kept": count, "clusters": clusters}


class Combination(Strategy):
    """What strategies made of several named ones share.

    Args:
        criteria: Strategies by name; at least one.
        place: Where the settings have them.

    Raises:
        ValueError: No kind of task suits all criteria.
        TypeError: A criterion is no strategy.
    """

    def __init__(self, criteria: Mapping[str, Strategy], place: str) -> None:
        kind = type(self).__name__
        for name, criterion in criteria.items():
            if not isinstance(criterion, Strategy):
                raise TypeError(
                    f"{kind}: {name}={criterion!r} is no strategy; set it by "
                    f"strategy@{place}.{name}=entropy"
                )
        self.criteria = {name: criteria[name] for name in sorted(criteria)}
        self.needs: Needs = frozenset().union(*(c.needs for c in criteria.values()))
        self.tasks = frozenset.intersection(*(c.tasks for c in criteria.values()))
        if not self.tasks:
            kinds = {name: sorted(c.tasks) for name, c in self.criteria.items()}
            raise ValueError(f"{kind}: no kind of task suits all criteria ({kinds})")

    def state_dict(self) -> dict[str, Any]:
        """The states of those criteria that keep one, by name."""
        states = {name: criterion.state_dict() for name, criterion in self.criteria.items()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        unknown = sorted(set(state) - set(self.criteria))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no criteria {unknown}")
        for name, criterion in self.criteria.items():
            criterion.load_state_dict(state.get(name, {}))


class Weighted(Combination):
    """A combination in which each criterion has a weight.

    Args:
        criteria: Strategies by name; at least one.
        weights: One for every name, >= 0, not all 0; only their proportions matter.

    Raises:
        ValueError: Names and weights do not fit; see `Combination`.
        TypeError: See `Combination`.
    """

    def __init__(self, criteria: Mapping[str, Strategy], weights: Mapping[str, float]) -> None:
        kind = type(self).__name__
        if not criteria or set(criteria) != set(weights):
            raise ValueError(
                f"{kind} has criteria {sorted(criteria)} but weights {sorted(weights)}; "
                "give every criterion a weight"
            )
        super().__init__(criteria, "strategy.criteria")
        total = sum(weights.values())
        if min(weights.values()) < 0 or not 0 < total < float("inf"):
            raise ValueError(f"{kind}: weights={dict(weights)} must be >= 0 and not all 0")
        self.weights = {name: weights[name] / total for name in self.criteria}


class Probabilistic(Weighted, BatchStrategy):
    """Draw one criterion a round by chance and query by it; its name is recorded.

    Mixes criteria over the rounds without making their scores comparable, and hedges against one
    that fails; `Random` among them gives an epsilon-greedy rule. Each batch has the weaknesses of
    the criterion drawn. The pass computes the needs of all criteria in every round.

    Args:
        criteria: Strategies by name.
        weights: Probability of each, by name, up to a common factor.

    Raises:
        ValueError: See `Weighted`.

    Reference:
        W.-N. Hsu and H.-T. Lin. Active learning by learning. AAAI 2015.

    Differs from the paper: it learns the probabilities by a bandit's rule; here they are fixed.
    """

    def ready(self, view: PoolView) -> bool:
        """The criterion drawn answers for itself."""
        return True

    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Draw the criterion, then let it choose."""
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)
        name = list(self.criteria)[draw(weights, rng)]
        query = self.criteria[name].select(view, query_size, rng)
        positions = torch.searchsorted(view.indices, query.indices)
        return positions, query.scores, {**query.info, "criterion": name}


class Parallel(Weighted, ScoreStrategy):
    """Weighted mean of several scores, each brought to [0, 1] over the candidates first.

    ``scores`` keeps distances between scores, so an outlier can flatten the rest; ``ranks`` keeps
    their order only. Helps when the criteria are wrong about different candidates; a weight that
    suits the first rounds may not suit later ones. O(N) for scores, O(N log N) for ranks, besides
    the criteria themselves. While one of them has nothing to score by the query is random.

    Args:
        criteria: Score strategies by name.
        weights: One for every name, >= 0, up to a common factor.
        combine: ``scores``: (s - min s) / (max s - min s), 0 where all are the same; ``ranks``:
            (rank - 1) / (N - 1), ties share the mean of their ranks.

    Raises:
        ValueError: See `Weighted`; or ``combine`` is unknown.
        TypeError: A criterion gives no scores.

    Reference:
        S. Ebert, M. Fritz and B. Schiele. RALF: a reinforced active learning formulation for
        object class recognition. CVPR 2012 (linear combinations of ranked criteria).
    """

    independent = False

    def __init__(
        self,
        criteria: Mapping[str, ScoreStrategy],
        weights: Mapping[str, float],
        combine: Combine = "scores",
    ) -> None:
        super().__init__(criteria, weights)
        for name, criterion in criteria.items():
            if not isinstance(criterion, ScoreStrategy):
                raise TypeError(
                    f"Parallel needs scores, and {type(criterion).__name__} ({name}) gives none; "
                    "choose a strategy that scores candidates, or combine by Probabilistic"
                )
        if combine not in COMBINE:
            raise ValueError(f"strategy.combine={combine!r}; choose {', '.join(COMBINE)}")
        self.scorers = {name: criteria[name] for name in self.criteria}
        self.combine: Combine = combine

    def ready(self, view: PoolView) -> bool:
        """Whether all criteria have something to score by."""
        return all(criterion.ready(view) for criterion in self.criteria.values())

    def score(self, view: PoolView) -> Tensor:
        """Weighted mean of the normalised scores: float64, (N,), in [0, 1]."""
        for need in sorted(filter(of_candidates, self.needs), key=repr):
            check_need(view[need], view.indices, need, type(self).__name__)
        total = torch.zeros(len(view), dtype=torch.float64)
        for name, criterion in self.scorers.items():
            scores = criterion.score(view)
            check_finite(scores, view.indices, f"Parallel ({name})")
            heights = criterion.heights(view, scores)
            scaled = min_max(heights) if self.combine == "scores" else rank_scores(heights)
            total = total.to(scaled.device) + self.weights[name] * scaled
        return total
