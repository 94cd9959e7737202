"""Simulated people who cannot always tell."""

from __future__ import annotations

from dataclasses import replace

from dal.oracles.base import Answers, Oracle
from dal.oracles.wrapped import Draws, Wrapped

__all__ = ["Abstaining"]


class Abstaining(Wrapped):
    """Gives no label for some samples.

    Args:
        of: The oracle whose answers these are.
        seed: Decides the draws.
        share: Of the answers, drawn for each anew, in [0, 1].
        hard: Share of the samples, in [0, 1], that nobody can tell, however often asked: the same
            for all people of a run.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, of: Oracle, seed: int = 0, share: float = 0.1, hard: float = 0.0) -> None:
        super().__init__(of, seed)
        for name, value in (("share", share), ("hard", hard)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} of an abstaining oracle; give a share, 0 to 1")
        self._share, self._hard = share, hard

    def change(self, answers: Answers, draws: Draws) -> Answers:
        """Some answers are taken back."""
        hard = draws.of_samples("hard") < self._hard
        return replace(
            answers, abstained=answers.abstained | hard | (draws.uniform("share") < self._share)
        )
