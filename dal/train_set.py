"""The labeled samples that a model is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainSet:
    """What a learner is fitted on.

    Attributes:
        indices: int64, (M,), positions in the training part, in the order of first labeling.
        targets: int64, (M,); multi-label (M, C).
        weights: float32, (M,), weight of each sample in the loss.
        guessed: bool, (M,), which of them are guesses of a model; None for none of them.
    """

    indices: Tensor
    targets: Tensor
    weights: Tensor
    guessed: Tensor | None = None

    def part(self, places: Tensor) -> TrainSet:
        """Some of them: int64 (m,), places from 0 to M - 1."""
        guessed = None if self.guessed is None else self.guessed[places]
        return TrainSet(self.indices[places], self.targets[places], self.weights[places], guessed)

    @property
    def is_guess(self) -> Tensor:
        """bool, (M,): see ``guessed``."""
        none = torch.zeros(len(self), dtype=torch.bool)
        return none if self.guessed is None else self.guessed

    def answers(self) -> TrainSet:
        """Those that are no guesses: what people said, which is what is measured by."""
        return self.part((~self.is_guess).nonzero().squeeze(1))

    def guesses(self) -> TrainSet:
        """The guesses among them."""
        return self.part(self.is_guess.nonzero().squeeze(1))

    def __len__(self) -> int:
        return len(self.indices)
