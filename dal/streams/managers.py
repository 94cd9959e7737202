"""Budget managers: whether a sample that arrives is asked about, or let go, decided at once.

Each is a pure function of the sample, and of what is remembered of those before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple


class Arrival(NamedTuple):
    """What a manager knows of a sample that arrives.

    Attributes:
        score: By the strategy; higher = more wanted.
        certainty: 1 - the score's height by its reach, in [0, 1]: of least confidence it is the
            highest probability. 1 where no reach is known.
        branch: Uniform draw in [0, 1), of this sample alone.
        chance: Another one.
        noise: Normal draw, of mean 0 and variance 1.
    """

    score: float
    certainty: float
    branch: float = 0.0
    chance: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Memory:
    """What a manager remembers.

    Attributes:
        seen: Samples that have arrived.
        asked: How many of them were asked about.
        spending: Answers asked for lately, those of long ago forgotten by degrees: see `spent`.
        threshold: Where it stands.
        scores: Those of the last window, oldest first, where it is looked at.
    """

    seen: int = 0
    asked: int = 0
    spending: float = 0.0
    threshold: float = 1.0
    scores: tuple[float, ...] = ()


def spent(spending: float, asked: bool, window: int) -> float:
    """Answers asked for in about the last ``window`` samples: u (w - 1) / w + 1[asked].

    Divided by the window it estimates the share of samples that are asked about.

    Reference:
        I. Žliobaitė, A. Bifet, B. Pfahringer, G. Holmes. Active learning with drifting streaming
        data. IEEE Transactions on Neural Networks and Learning Systems 25(1), 2014.
    """
    return spending * (window - 1) / window + asked


def moved(threshold: float, asked: bool, step: float) -> float:
    """A threshold of certainty after a decision: lower when one was asked, else higher."""
    return threshold * (1 - step if asked else 1 + step)


def quantile_of(ascending: list[float], share: float) -> float:
    """The quantile of sorted values, linear between neighbors: share 0 is the first, 1 the last."""
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


class BudgetManager(ABC):
    """Asks about some of the samples that arrive, and about a share of them at most.

    Attributes:
        share: Of all samples that arrive, those that may be asked about, in (0, 1].
        by_certainty: Whether it looks at `Arrival.certainty`: scores must have a reach then.
        fixed: The threshold of scores, where it is one that stays.
    """

    share: float
    by_certainty: bool = False
    fixed: float | None = None

    def start(self) -> Memory:
        """What it remembers before the first sample."""
        return Memory()

    @abstractmethod
    def decide(self, arrival: Arrival, memory: Memory) -> tuple[bool, Memory]:
        """Whether a sample is asked about, and what is remembered then."""


class Spending(BudgetManager):
    """Asks what its threshold says, as long as lately fewer than its share were asked about.

    Args:
        share: See `BudgetManager`.
        window: Samples by which spending is estimated, see `spent`.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        Žliobaitė et al. 2014 (the framework that the strategies share); see `spent`.
    """

    def __init__(self, share: float = 0.1, window: int = 100) -> None:
        self.share, self.window = _share(share), _at_least("window", window, 1)

    def decide(self, arrival: Arrival, memory: Memory) -> tuple[bool, Memory]:
        """See `BudgetManager.decide`."""
        asked, threshold = False, memory.threshold
        if self.share == 1 or memory.spending / self.window < self.share:
            asked, threshold = self.wanted(arrival, memory.threshold)
        return asked, replace(
            memory,
            seen=memory.seen + 1,
            asked=memory.asked + asked,
            spending=spent(memory.spending, asked, self.window),
            threshold=threshold,
        )

    @abstractmethod
    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """Whether a sample would be asked about, and the threshold after it."""


class AtRandom(Spending):
    """Asks about each sample with the same chance: what others must beat at the same spending.

    Args:
        share: The chance; see also `Spending`.
        window: See `Spending`.

    Reference:
        Žliobaitė et al. 2014 (random strategy).
    """

    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """See `Spending.wanted`."""
        return arrival.chance < self.share, threshold


class AboveThreshold(Spending):
    """Asks where the score is above a threshold that stays.

    Simple, and blind: a model that becomes sure asks about nothing any more, one that is unsure of
    everything spends its share on whatever comes first. A run says so when it sees it.

    Args:
        threshold: In the units of the score, whose order it does not change: of
            least_confidence 0.5 asks where the highest probability is below 0.5.
        share: See `Spending`; 1 for no limit.
        window: See `Spending`.

    Reference:
        Žliobaitė et al. 2014 (fixed uncertainty).
    """

    def __init__(self, threshold: float = 0.5, share: float = 1.0, window: int = 100) -> None:
        super().__init__(share, window)
        if not math.isfinite(threshold):
            raise ValueError(f"setting.manager.threshold={threshold}; give a finite number")
        self.fixed = self._threshold = threshold

    def start(self) -> Memory:
        """See `BudgetManager.start`."""
        return Memory(threshold=self._threshold)

    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """See `Spending.wanted`."""
        return arrival.score > threshold, threshold


class VariableThreshold(Spending):
    """Asks below a certainty that falls with every question and rises with every sample let go.

    So it asks about the least certain samples of any stretch of the stream, however certain the
    model is. Far from the decision boundary it never asks: changes there are not seen.

    Args:
        share: See `Spending`.
        window: See `Spending`.
        step: By which share the threshold moves with every sample, in (0, 1).

    Reference:
        Žliobaitė et al. 2014 (variable uncertainty).
    """

    by_certainty = True

    def __init__(self, share: float = 0.1, window: int = 100, step: float = 0.01) -> None:
        super().__init__(share, window)
        if not 0 < step < 1:
            raise ValueError(f"setting.manager.step={step:g}; give a share, between 0 and 1")
        self.step = step

    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """See `Spending.wanted`."""
        asked = arrival.certainty < threshold
        return asked, moved(threshold, asked, self.step)


class RandomizedThreshold(VariableThreshold):
    """Asks below a variable certainty times a normal draw, so that any sample may be asked about.

    Args:
        share: See `Spending`.
        window: See `Spending`.
        step: See `VariableThreshold`.
        deviation: Standard deviation of the draw, whose mean is 1; >= 0.

    Reference:
        Žliobaitė et al. 2014 (variable uncertainty with randomization).
    """

    def __init__(
        self, share: float = 0.1, window: int = 100, step: float = 0.01, deviation: float = 1.0
    ) -> None:
        super().__init__(share, window, step)
        if not 0 <= deviation < math.inf:
            raise ValueError(f"setting.manager.deviation={deviation:g} must be finite and >= 0")
        self.deviation = deviation

    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """See `Spending.wanted`."""
        asked = arrival.certainty < threshold * (1 + self.deviation * arrival.noise)
        return asked, moved(threshold, asked, self.step)


class SplitThreshold(VariableThreshold):
    """Asks about some of the stream at random, about the rest by a variable certainty.

    The random part sees changes wherever they are.

    Args:
        share: See `Spending`; within the random part, the chance of a sample.
        window: See `Spending`.
        step: See `VariableThreshold`.
        random: Share of the stream that is asked about at random, in [0, 1].

    Reference:
        Žliobaitė et al. 2014 (split strategy), without its detector of changes: the learner is
        fitted anew on all labels.
    """

    def __init__(
        self, share: float = 0.1, window: int = 100, step: float = 0.01, random: float = 0.2
    ) -> None:
        super().__init__(share, window, step)
        if not 0 <= random <= 1:
            raise ValueError(f"setting.manager.random={random:g}; give a share, from 0 to 1")
        self.random = random

    def wanted(self, arrival: Arrival, threshold: float) -> tuple[bool, float]:
        """See `Spending.wanted`."""
        if arrival.branch < self.random:
            return arrival.chance < self.share, threshold
        return super().wanted(arrival, threshold)


class Quantile(BudgetManager):
    """Asks about scores in the highest share of those of a window, the sample's own included.

    It looks at nothing but the order of scores, so it takes any. The window remembers scores of
    earlier models: after a fit that moves all of them, so many samples pass until it has followed.

    Args:
        share: See `BudgetManager`.
        window: How many scores are compared.
        tolerance: The threshold is lowered by the range of the window's scores times (questions
            that are missing to the share of all samples so far) / tolerance, and raised where
            there were too many: the smaller, the closer spending follows; None leaves it.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        D. Kottke, G. Krempl, M. Spiliopoulou. Probabilistic active learning in datastreams. IDA
        2015 (incremental quantile filter, balanced incremental quantile filter).
    """

    def __init__(
        self, share: float = 0.1, window: int = 100, tolerance: float | None = 50.0
    ) -> None:
        self.share, self.window = _share(share), _at_least("window", window, 2)
        if tolerance is not None and not 0 < tolerance < math.inf:
            raise ValueError(f"setting.manager.tolerance={tolerance:g}; give more than 0, or null")
        self.tolerance = tolerance

    def decide(self, arrival: Arrival, memory: Memory) -> tuple[bool, Memory]:
        """See `BudgetManager.decide`."""
        scores = (*memory.scores, arrival.score)[-self.window :]
        ascending, seen = sorted(scores), memory.seen + 1
        threshold = quantile_of(ascending, 1 - self.share)
        if self.tolerance is not None:
            missing = self.share * seen - memory.asked
            threshold -= (ascending[-1] - ascending[0]) * missing / self.tolerance
        asked = arrival.score >= threshold
        return asked, replace(
            memory, seen=seen, asked=memory.asked + asked, threshold=threshold, scores=scores
        )


def _share(share: float) -> float:
    if not 0 < share <= 1:
        raise ValueError(f"setting.manager.share={share:g}; give a share, above 0 up to 1")
    return share


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"setting.manager.{name}={value}; give at least {least}")
    return value
