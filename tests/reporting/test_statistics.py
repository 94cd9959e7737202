"""Statistics against scipy and textbook definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dal.metrics import aubc
from dal.reporting.statistics import area, detectable, evenness, half_width, holm, paired

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(1, 2, 8), RNG.normal(0, 1, 8)


def test_area_is_that_of_a_run() -> None:
    labels, values = [20, 30, 50, 55], [0.2, 0.7, 0.6, 0.9]
    assert area(labels, values) == pytest.approx(aubc(labels, values), abs=1e-12)
    assert area([20], [0.4]) == 0.4
    with pytest.raises(ValueError, match="as many labels as values"):
        area([1, 2], [0.1])


def test_interval_is_the_one_of_scipy() -> None:
    low, high = stats.t.interval(0.95, 7, FIRST.mean(), stats.sem(FIRST))
    assert half_width(list(FIRST)) == pytest.approx((high - low) / 2)
    assert math.isnan(half_width([1.0]))


def test_paired_test_is_the_one_of_scipy() -> None:
    result = paired(list(FIRST - SECOND), 0.5)
    expected = stats.ttest_rel(FIRST, SECOND)
    low, high = expected.confidence_interval()
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.mean - result.half, result.mean + result.half) == pytest.approx((low, high))
    assert result.effect == pytest.approx((FIRST - SECOND).mean() / (FIRST - SECOND).std(ddof=1))


@pytest.mark.parametrize("shift", [-3.0, -0.2, 0.0, 0.1, 2.0])
def test_equivalence_is_the_larger_of_two_one_sided_tests(shift: float) -> None:
    differences = RNG.normal(shift, 0.4, 12)
    above = stats.ttest_1samp(differences, -0.5, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 0.5, alternative="less").pvalue
    assert paired(list(differences), 0.5).p_equivalent == pytest.approx(max(above, below))


def test_differences_without_spread_or_alone() -> None:
    assert paired([0.0, 0.0], 0.5).p == 1
    same = paired([0.3, 0.3, 0.3], 0.5)
    assert (same.p, same.p_equivalent, same.half) == (0, 0, 0)
    assert paired([0.5, 0.5], 0.5).p_equivalent == 1
    alone = paired([0.3], 0.5)
    assert alone.mean == 0.3
    assert all(map(math.isnan, (alone.half, alone.effect, alone.p, alone.p_equivalent)))
    with pytest.raises(ValueError, match="0 differences"):
        paired([], 0.5)


def test_correction_is_the_textbook_one() -> None:
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p_values) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_detectable_difference_is_found_that_often() -> None:
    spread, count = 1.7, 5
    shift = detectable(spread, count)
    samples = np.random.default_rng(1).normal(shift, spread, (20_000, count))
    found = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.01)
    assert detectable(spread, 1) == math.inf
    assert detectable(spread, 20) < detectable(spread, 5)


def test_evenness_of_picks() -> None:
    assert evenness([5, 5, 5]) == pytest.approx(1)
    assert evenness([7, 0]) == 0
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert evenness([3, 1]) == pytest.approx(expected)
    assert math.isnan(evenness([0, 0]))
