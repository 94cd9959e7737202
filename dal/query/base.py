"""What a strategy asks for (`Needs`), what it is given (`PoolView`), what it returns (`Query`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dal.query.selection import random_keys, top_k


@dataclass(frozen=True)
class Probs:
    """Class probabilities of the current model: float32, (N, C), rows sum to one."""


@dataclass(frozen=True)
class Features:
    """Last hidden features of the current model: float32, (N, D)."""


@dataclass(frozen=True)
class GradNorms:
    """Euclidean length of the loss gradient for each possible label: float32, (N, C) or (N, 1).

    Attributes:
        scope: With respect to ``all`` trainable parameters, those of the ``last`` layer, or the
            ``input``.
        labels: ``all`` C labels, one column each, or the ``predicted`` label alone.
    """

    scope: Literal["all", "last", "input"] = "all"
    labels: Literal["all", "predicted"] = "all"


@dataclass(frozen=True)
class History:
    """Class probabilities of the last models, oldest first: float32, (T, N, C), T <= rounds.

    The current model is the last of them; T is smaller while fewer models have been fitted.
    """

    rounds: int


Need = Probs | Features | GradNorms | History
Needs = frozenset[Need]


class PoolView:
    """What the pass computed for the candidates: read-only, without any unknown label.

    Tensors live on the CPU, or on the device that computed them, and must not be modified.

    Attributes:
        indices: int64, (N,), distinct positions of the candidates in the training part.
        num_total: Size of the whole training part; random keys are drawn over it, so that a
            choice does not depend on which candidates are handed in or in which order.
        num_classes: Number of classes C.
    """

    def __init__(
        self,
        indices: Tensor,
        results: Mapping[Need, Tensor],
        *,
        num_total: int,
        num_classes: int,
    ) -> None:
        self.indices = indices
        self.num_total = num_total
        self.num_classes = num_classes
        self._results = dict(results)

    def with_result(self, need: Need, value: Tensor) -> PoolView:
        """The same view with one more need answered."""
        return PoolView(
            self.indices,
            {**self._results, need: value},
            num_total=self.num_total,
            num_classes=self.num_classes,
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, need: Need) -> Tensor:
        """The tensor that answers a need.

        Raises:
            KeyError: The strategy did not list the need in its ``needs``.
        """
        if need not in self._results:
            raise KeyError(f"{need} was not computed; list it in the strategy's needs")
        return self._results[need]


@dataclass(frozen=True)
class Query:
    """The samples a strategy wants labeled.

    Attributes:
        indices: int64, (b,), positions in the training part, most wanted first.
        scores: float, (b,), the score of each; higher means more wanted.
        info: Plain values worth recording, such as ``tied`` or ``random``.
        pool_scores: float, (N,), the scores of all candidates where the strategy has them.
    """

    indices: Tensor
    scores: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    pool_scores: Tensor | None = None


class Strategy(ABC):
    """Chooses the samples whose labels are worth most.

    Attributes:
        needs: What the pass must compute for `select`; the empty set means no pass.
    """

    needs: Needs = frozenset()

    @abstractmethod
    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Choose ``query_size`` of the candidates.

        Args:
            view: The candidates and what was computed for them.
            query_size: How many to choose, from 1 to ``len(view)``.
            rng: CPU generator; the only source of randomness a strategy may use.

        Raises:
            ValueError: ``query_size`` is out of range, or a score is not finite.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the strategy must remember between rounds: plain containers and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but was given {list(state)}")


class ScoreStrategy(Strategy):
    """A strategy that scores each candidate alone and takes the highest scores."""

    @abstractmethod
    def score(self, view: PoolView) -> Tensor:
        """Score the candidates: float, (N,), higher means query first."""

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Take the highest scores; ties are broken by a seeded permutation and counted."""
        scores = self.score(view)
        check_finite(scores, view.indices, type(self).__name__)
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(scores.device)
        positions, tied = top_k(scores, query_size, keys)
        return Query(
            indices=view.indices[positions.to(view.indices.device)],
            scores=scores[positions],
            info={"tied": tied},
            pool_scores=scores,
        )


def check_finite(scores: Tensor, indices: Tensor, strategy: str) -> None:
    """Refuse scores that are not finite.

    Raises:
        ValueError: Naming the strategy, the first such sample and its score.
    """
    bad = ~torch.isfinite(scores)
    if bad.any():
        position = int(bad.nonzero()[0])
        raise ValueError(
            f"{strategy} scored sample {int(indices[position])} with {scores[position].item()} "
            f"({int(bad.sum())} of {len(scores)} scores are not finite); check the inputs of "
            "that sample for extreme values, or lower the learning rate"
        )
