"""Statistics of paired runs, as pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

LEVEL = 0.05
"""Below it a difference counts as shown."""

FEW_SEEDS = 5
"""Fewer support no claim: a report warns, and figures show the runs instead of an interval."""


@dataclass(frozen=True)
class Paired:
    """Differences of pairs, and the tests on them.

    Attributes:
        count: Number of pairs n.
        mean: Mean difference.
        half: Half the width of Student's 95 % interval of the mean; NaN for one pair.
        effect: Cohen's d_z, mean over standard deviation of the differences; NaN for one pair or
            without any spread.
        p: Paired t-test, two-sided; NaN for one pair.
        p_equivalent: Two one-sided tests for a mean difference within the margin; NaN for one pair.
    """

    count: int
    mean: float
    half: float
    effect: float
    p: float
    p_equivalent: float


def area(labels: Sequence[float], values: Sequence[float]) -> float:
    """Area under the learning curve by the label range; as `dal.metrics.aubc`, without torch.

    Raises:
        ValueError: The lengths differ or are zero.
    """
    if not labels or len(labels) != len(values):
        raise ValueError(f"an area needs as many labels as values: {len(labels)}, {len(values)}")
    if labels[-1] == labels[0]:
        return float(values[-1])
    widths, heights = np.diff(labels), np.asarray(values, dtype=np.float64)
    return float((widths * (heights[1:] + heights[:-1]) / 2).sum() / (labels[-1] - labels[0]))


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's confidence interval of the mean; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return error * float(stats.t.ppf((1 + level) / 2, len(values) - 1))


def half_widths(values: Floats, level: float = 0.95) -> Floats:
    """`half_width` of each column: float64, (n, k) to (k,)."""
    count = len(values)
    if count < 2:
        return np.full(values.shape[1], np.nan)
    errors = values.std(axis=0, ddof=1) / math.sqrt(count)
    return np.asarray(errors * stats.t.ppf((1 + level) / 2, count - 1), dtype=np.float64)


def paired(differences: Sequence[float], margin: float) -> Paired:
    """Test whether paired differences have mean zero, and whether it is within a margin.

    Args:
        differences: One a pair, n >= 1.
        margin: Means in (-margin, margin) count as equivalent; positive, in the same units.

    Returns:
        See `Paired`. Without any spread, p is 0 or 1, as the limit of less and less of it.

    Raises:
        ValueError: There are no differences, or the margin is not positive.

    Reference:
        D. J. Schuirmann. A comparison of the two one-sided tests procedure and the power approach
        for assessing the equivalence of average bioavailability. Journal of Pharmacokinetics and
        Biopharmaceutics 15(6), 1987.
    """
    if not differences or margin <= 0:
        raise ValueError(f"{len(differences)} differences, margin {margin}; give both above 0")
    count, mean = len(differences), float(np.mean(differences))
    if count == 1:
        return Paired(1, mean, math.nan, math.nan, math.nan, math.nan)
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        return Paired(count, mean, 0.0, math.nan, float(mean == 0), float(abs(mean) >= margin))
    error, freedom = spread / math.sqrt(count), count - 1
    return Paired(
        count,
        mean,
        half_width(differences),
        mean / spread,
        2 * float(stats.t.sf(abs(mean) / error, freedom)),
        float(stats.t.sf((margin - abs(mean)) / error, freedom)),
    )


def paired_p(differences: Floats) -> Floats:
    """Two-sided paired t-tests of several columns, as `paired` does one.

    Args:
        differences: float64, (n, k), n >= 2 pairs in each of k columns.

    Returns:
        float64, (k,), p-values; without any spread 1 where the mean is 0, else 0.
    """
    count = len(differences)
    mean, spread = differences.mean(axis=0), differences.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(mean) / (spread / math.sqrt(count))
    p = np.asarray(2 * stats.t.sf(statistic, count - 1), dtype=np.float64)
    return np.where(spread == 0, np.where(mean == 0, 1.0, 0.0), p)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for so many tests; each at least its own p-value, at most 1.

    Reference:
        S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of
        Statistics 6(2), 1979.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def detectable(spread: float, count: int, power: float = 0.8) -> float:
    """The mean difference that a paired t-test over so many pairs finds with a given power.

    Args:
        spread: Standard deviation of the differences.
        count: Number of pairs; infinite difference below two.
        power: Probability to find it, two-sided at the level 0.05.

    Reference:
        J. Cohen. Statistical power analysis for the behavioral sciences, 2nd edition, 1988,
        chapter 2.
    """
    if count < 2 or spread == 0:
        return math.inf if count < 2 else 0.0
    freedom = count - 1
    critical = stats.t.ppf(1 - LEVEL / 2, freedom)

    def missing(shift: float) -> float:
        # The chance of a difference shown in the wrong direction is below 1e-4 where this is 0.
        return float(stats.nct.sf(critical, freedom, shift) - power)

    return float(optimize.brentq(missing, 0.0, 2 * critical + 4)) * spread / math.sqrt(count)


def evenness(counts: Sequence[int]) -> float:
    """Entropy of the shares of classes by its largest value, in [0, 1]; 1 where all are alike.

    NaN without any count, or with one class only.
    """
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return math.nan
    return float(stats.entropy(counts) / math.log(len(counts)))
