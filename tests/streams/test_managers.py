"""Budget managers decide as plain loops do that were written from the papers' algorithms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dal.streams import (
    AboveThreshold,
    AtRandom,
    BudgetManager,
    Quantile,
    RandomizedThreshold,
    SplitThreshold,
    VariableThreshold,
)
from dal.streams.managers import Arrival

SEEDS = range(4)


def stream(seed: int, size: int = 600) -> list[Arrival]:
    """Highest probabilities of three classes that become surer; scores are least confidence."""
    rng = random.Random(seed)
    sure = [1 / 3 + 2 / 3 * rng.random() ** (1 - n / (1.2 * size)) for n in range(size)]
    return [Arrival(1 - p, p, rng.random(), rng.random(), rng.gauss(0, 1)) for p in sure]


def decisions(manager: BudgetManager, arrivals: list[Arrival]) -> list[bool]:
    memory, found = manager.start(), []
    for arrival in arrivals:
        asked, memory = manager.decide(arrival, memory)
        found.append(asked)
    assert (memory.seen, memory.asked) == (len(found), sum(found))
    return found


def zliobaite(
    arrivals: list[Arrival],
    budget: float,
    window: int,
    strategy: Callable[[Arrival], bool],
) -> Iterator[bool]:
    """The paper's framework, with its estimate of spending: u_t = u_(t-1) λ + labeling_t."""
    lam, spending = (window - 1) / window, 0.0
    for arrival in arrivals:
        labeling = False
        if spending / window < budget:
            labeling = strategy(arrival)
        spending = spending * lam + (1 if labeling else 0)
        yield labeling


class VarUncertainty:
    """θ is 1 at first; X is labeled where P(ŷ|X) < θ."""

    def __init__(self, s: float) -> None:
        self.theta, self.s = 1.0, s

    def __call__(self, arrival: Arrival) -> bool:
        return self.below(arrival, self.theta)

    def below(self, arrival: Arrival, theta: float) -> bool:
        if arrival.certainty < theta:
            self.theta *= 1 - self.s
            return True
        self.theta *= 1 + self.s
        return False


class RanVarUncertainty(VarUncertainty):
    """θ_randomized = θ η, η drawn from N(1, δ), at every instance."""

    def __init__(self, s: float, delta: float) -> None:
        super().__init__(s)
        self.delta = delta

    def __call__(self, arrival: Arrival) -> bool:
        eta = 1 + self.delta * arrival.noise
        return self.below(arrival, self.theta * eta)


class SplitStrategy(VarUncertainty):
    """With probability v by the random strategy, else by variable uncertainty."""

    def __init__(self, s: float, v: float, budget: float) -> None:
        super().__init__(s)
        self.v, self.budget = v, budget

    def __call__(self, arrival: Arrival) -> bool:
        if arrival.branch < self.v:
            return arrival.chance < self.budget
        return self.below(arrival, self.theta)


@pytest.mark.parametrize("seed", SEEDS)
def test_managers_of_thresholds_decide_as_the_papers_algorithms(seed: int) -> None:
    b, w, s = (0.1, 100, 0.01) if seed % 2 else (0.25, 40, 0.05)
    arrivals = stream(seed)
    pairs: list[tuple[BudgetManager, Callable[[Arrival], bool]]] = [
        (AtRandom(b, w), lambda arrival: arrival.chance < b),
        (AboveThreshold(0.4, b, w), lambda arrival: arrival.certainty < 0.6),
        (VariableThreshold(b, w, s), VarUncertainty(s)),
        (RandomizedThreshold(b, w, s, 0.7), RanVarUncertainty(s, 0.7)),
        (SplitThreshold(b, w, s, 0.3), SplitStrategy(s, 0.3, b)),
    ]
    for manager, reference in pairs:
        expected = list(zliobaite(arrivals, b, w, reference))
        assert decisions(manager, arrivals) == expected, type(manager).__name__
        assert 0 < sum(expected) < len(expected)


def balanced_quantile_filter(
    scores: list[float], budget: float, window: int, tolerance: float | None
) -> Iterator[bool]:
    """Kottke et al.: a sorted window, and a threshold moved by what is missing."""
    history: list[float] = []
    acquired = 0
    for seen, score in enumerate(scores, 1):
        history.append(score)
        if len(history) > window:
            history.pop(0)
        theta = float(np.quantile(history, 1 - budget))
        if tolerance is not None:
            left = seen * budget - acquired
            theta -= (max(history) - min(history)) * left / tolerance
        wanted = score >= theta
        acquired += wanted
        yield wanted


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tolerance", [None, 50.0, 5.0])
def test_quantile_decides_as_the_incremental_filter(seed: int, tolerance: float | None) -> None:
    arrivals = stream(seed)
    scores = [arrival.score for arrival in arrivals]
    for budget, window in ((0.1, 100), (0.3, 37)):
        found = decisions(Quantile(budget, window, tolerance), arrivals)
        assert found == list(balanced_quantile_filter(scores, budget, window, tolerance))


def test_quantile_spends_its_share_whatever_the_scores_do() -> None:
    arrivals = [replace_score(a, a.score * 0.99**n) for n, a in enumerate(stream(0, 2000))]
    alone, balanced = (
        sum(decisions(Quantile(0.1, tolerance=tolerance), arrivals)) for tolerance in (None, 5.0)
    )
    assert abs(balanced - 200) < 15
    assert abs(alone - 200) > 50


def replace_score(arrival: Arrival, score: float) -> Arrival:
    return arrival._replace(score=score)


def test_managers_that_estimate_spending_keep_within_their_share() -> None:
    sure = [Arrival(0.9, 0.1, 0.5, 0.0, 0.0)] * 3000  # all of them are wanted
    for make in (AtRandom, VariableThreshold, SplitThreshold):
        assert sum(decisions(make(share=0.1), sure)) <= 0.1 * 3000 + 100


def test_fixed_threshold_without_a_share_has_no_limit() -> None:
    assert all(decisions(AboveThreshold(0.5), [Arrival(0.6, math.nan)] * 500))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AtRandom(share=0), "setting.manager.share=0"),
        (lambda: Quantile(share=1.5), "setting.manager.share=1.5"),
        (lambda: Quantile(window=1), "setting.manager.window=1"),
        (lambda: Quantile(tolerance=0.0), "setting.manager.tolerance=0"),
        (lambda: AboveThreshold(math.nan), "setting.manager.threshold=nan"),
        (lambda: VariableThreshold(step=1.0), "setting.manager.step=1"),
        (lambda: RandomizedThreshold(deviation=-1.0), "setting.manager.deviation=-1"),
        (lambda: SplitThreshold(random=2.0), "setting.manager.random=2"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
