"""Stopping criteria: each a threshold on one column of the rows of metrics.

Columns that begin with ``stop/`` are those of `dal.stopping.signals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dal.stopping.base import Criterion, Row, check_number, values_of
from dal.utils.direction import direction


@dataclass(frozen=True)
class Target(Criterion):
    """A metric has reached a value: a test accuracy, the lower bound of an audit, a cost.

    Attributes:
        value: What it must reach: from below, or from above where lower is better (losses and the
            like, by the end of their names).
        metric: The column; None for the run's headline metric.

    Raises:
        ValueError: The value is negative or not finite.
    """

    value: float
    metric: str | None = None

    def __post_init__(self) -> None:
        check_number(self, "value", 0)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        found = rows[-1].get(metric)
        if found is None:
            return ""
        lower = direction(metric) == "min"
        reached = found <= self.value if lower else found >= self.value
        return f"{metric} {found:.4g}, {self.value:g} asked" if reached else ""


@dataclass(frozen=True)
class Plateau(Criterion):
    """A metric has not become better by more than a little for some rounds.

    Attributes:
        window: So many rounds, at least 1, ...
        delta: ... of which none is better by more than this than the best of those before.
        metric: The column; None for the run's headline metric. Lower is better where its name ends
            like that of a loss.

    Raises:
        ValueError: A number is out of range.
    """

    window: int = 5
    delta: float = 0.005
    metric: str | None = None

    def __post_init__(self) -> None:
        check_number(self, "window", 1)
        check_number(self, "delta", 0)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        values = values_of(rows, metric)
        if len(values) <= self.window:
            return ""
        sign = -1 if direction(metric) == "min" else 1
        now = max(sign * value for value in values[-self.window :])
        before = max(sign * value for value in values[: -self.window])
        if now - before > self.delta:
            return ""
        rounds = f"{self.window} round{'s' * (self.window > 1)}"
        return f"{metric} better by {now - before:+.4f} in {rounds}, {self.delta:g} counts"


@dataclass(frozen=True)
class StabilizingPredictions(Criterion):
    """Models of successive rounds agree on a fixed set of samples.

    The mean of Cohen's kappa between successive models over a window has reached a threshold.

    Attributes:
        window: Pairs of successive models, at least 1: with 3, the last four models.
        kappa: The threshold, 0 to 1: lower stops earlier.

    Raises:
        ValueError: A number is out of range.

    Reference:
        M. Bloodgood and K. Vijay-Shanker. A method for stopping active learning based on
        stabilizing predictions and the need for user-adjustable stopping. CoNLL 2009, section 3:
        window 3, threshold 0.99.
    """

    metric = "stop/kappa"
    window: int = 3
    kappa: float = 0.99

    def __post_init__(self) -> None:
        check_number(self, "window", 1)
        check_number(self, "kappa", 0, 1)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        last = values_of(rows, metric, self.window)
        if len(last) < self.window or (mean := fmean(last)) < self.kappa:
            return ""
        return f"mean kappa of {self.window} {mean:.4f}, {self.kappa:g} asked"


@dataclass(frozen=True)
class ClassificationChange(Criterion):
    """Hardly a prediction of a fixed set of samples changes from one model to the next.

    Attributes:
        share: Of the samples, 0 to 1, whose prediction may change; the paper's is 0.
        window: In so many successive rounds, at least 1; the paper's is 1.

    Raises:
        ValueError: A number is out of range.

    Reference:
        J. Zhu, H. Wang and E. Hovy. Multi-criteria-based strategy to stop active learning for data
        annotation. COLING 2008, section 4.3.

    Differs from the paper: a fixed random stop set stands in for what is left of the pool, which
    shrinks.
    """

    metric = "stop/changed"
    share: float = 0.0
    window: int = 1

    def __post_init__(self) -> None:
        check_number(self, "share", 0, 1)
        check_number(self, "window", 1)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        last = values_of(rows, metric, self.window)
        if len(last) < self.window or max(last) > self.share:
            return ""
        return f"{max(last):.2%} of the predictions changed, {self.share:.2%} may"


@dataclass(frozen=True)
class OverallUncertainty(Criterion):
    """The model is sure of a fixed set of samples on the whole.

    Attributes:
        entropy: Mean entropy in nats, at least 0, below which that holds.

    Raises:
        ValueError: The number is out of range.

    Reference:
        J. Zhu, H. Wang and E. Hovy. Multi-criteria-based strategy to stop active learning for data
        annotation. COLING 2008, section 4.2: 0.01.

    Differs from the paper: see `ClassificationChange`.
    """

    metric = "stop/entropy"
    entropy: float = 0.01

    def __post_init__(self) -> None:
        check_number(self, "entropy", 0)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        return _below(rows, metric, self.entropy, "mean entropy")


@dataclass(frozen=True)
class MaxConfidence(Criterion):
    """The model is sure of each of a fixed set of samples.

    Attributes:
        entropy: In nats, at least 0: no sample may be less certain than that.

    Raises:
        ValueError: The number is out of range.

    Reference:
        J. Zhu, H. Wang and E. Hovy. Learning a stopping criterion for active learning for word
        sense disambiguation and text classification. IJCNLP 2008, section 3 (Entropy-MCS): 0.01.

    Differs from the paper: see `ClassificationChange`.
    """

    metric = "stop/entropy_max"
    entropy: float = 0.01

    def __post_init__(self) -> None:
        check_number(self, "entropy", 0)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        return _below(rows, metric, self.entropy, "largest entropy")


@dataclass(frozen=True)
class PerformanceConvergence(Criterion):
    """The F1 that the model expects of itself is at its highest, and hardly rises any more.

    Attributes:
        window: So many rounds are averaged, at least 1.
        gradient: By this much at most, at least 0, their mean has risen from one round to the next.

    Raises:
        ValueError: A number is out of range.

    Reference:
        F. Laws and H. Schütze. Stopping criteria for active learning of named entity recognition.
        COLING 2008, section 4.1: 0.00005, over 100 queries of one sample each.

    Differs from the paper: on a fixed random stop set, and with windows of rounds.
    """

    metric = "stop/expected_f1"
    window: int = 10
    gradient: float = 5e-5

    def __post_init__(self) -> None:
        check_number(self, "window", 1)
        check_number(self, "gradient", 0)

    def reason(self, rows: Sequence[Row], metric: str) -> str:
        """See `Criterion.reason`."""
        values = values_of(rows, metric)
        if len(values) <= self.window or values[-1] < max(values):
            return ""
        rise = (values[-1] - values[-1 - self.window]) / self.window
        if not 0 <= rise <= self.gradient:
            return ""
        return f"expected F1 {values[-1]:.4f} rises by {rise:.1e} a round, {self.gradient:g} counts"


def _below(rows: Sequence[Row], metric: str, threshold: float, name: str) -> str:
    """Words for a threshold that the last row is below."""
    found = rows[-1].get(metric)
    reached = found is not None and found < threshold
    return f"{name} {found:.2e}, below {threshold:g} asked" if reached else ""
