"""People whose answers have a price and take time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import NormalDist

import torch

from dal.oracles.base import Answers, Oracle
from dal.oracles.wrapped import Draws, Wrapped

__all__ = ["Costly"]

WIDEST = 10.0
"""Spread of times, at most: with it, two answers of three take between 1/22,000 of the median and
22,000 times it."""


class Costly(Wrapped):
    """Sets what answers cost, and draws how long they take.

    The prices may stand around any oracle, people's as well; seconds that an answer came with stay.

    Args:
        of: The oracle whose answers these are.
        class_names: The C class names.
        seed: Decides the draws.
        cost: Of an answer.
        by_class: Of answers that name a class, by its name; of several labels, added for each that
            holds to ``cost``. None for the same price everywhere.
        abstention: Of an answer that gives no label; None for ``cost``.
        seconds: Median time of an answer; None for no times.
        spread: Standard deviation of its logarithm: with 0.5, two answers of three take between
            0.6 and 1.65 times the median (log-normal, as reaction times are).

    Raises:
        ValueError: A number is out of range, or a class is unknown.
    """

    def __init__(
        self,
        of: Oracle,
        class_names: tuple[str, ...],
        seed: int = 0,
        cost: float = 1.0,
        by_class: Mapping[str, float] | None = None,
        abstention: float | None = None,
        seconds: float | None = None,
        spread: float = 0.5,
    ) -> None:
        super().__init__(of, seed)
        by_class = {str(name): price for name, price in (by_class or {}).items()}  # 8 is '8'
        numbers = {"cost": cost, "abstention": abstention, "seconds": seconds, "spread": spread}
        if spread > WIDEST:
            raise ValueError(f"spread={spread} of a costly oracle; give up to {WIDEST:g}")
        prices = {f"by_class.{name}": price for name, price in by_class.items()}
        for name, number in (numbers | prices).items():
            if number is not None and not 0 <= number < math.inf:
                raise ValueError(f"{name}={number} of a costly oracle; give a number of 0 or more")
        for name in by_class:
            if name not in class_names:
                listed = ", ".join(class_names[:20])
                raise ValueError(
                    f"by_class of a costly oracle has no class {name!r}; the classes are {listed}"
                )
        self._cost, self._seconds, self._spread = cost, seconds, spread
        self._abstention = cost if abstention is None else abstention
        self._by_class = {class_names.index(n): price for n, price in by_class.items()}

    def change(self, answers: Answers, draws: Draws) -> Answers:
        """The same answers with their prices and times."""
        cost = torch.full((len(answers.indices),), self._cost, dtype=torch.float64)
        several = answers.targets.ndim == 2
        for number, price in self._by_class.items():
            if several:
                cost += price * (answers.targets[:, number] == 1)
            else:
                cost[answers.targets == number] = price
        cost[answers.abstained] = self._abstention
        return replace(answers, cost=cost, seconds=self._times(answers, draws))

    def _times(self, answers: Answers, draws: Draws) -> torch.Tensor | None:
        if self._seconds is None:
            return answers.seconds
        drawn, normal = draws.uniform("seconds").clamp(min=2**-60).tolist(), NormalDist()
        spread = [math.exp(self._spread * normal.inv_cdf(share)) for share in drawn]
        times = self._seconds * torch.tensor(spread, dtype=torch.float64)
        if answers.seconds is None:
            return times
        return torch.where(answers.seconds.isnan(), times, answers.seconds.double())
