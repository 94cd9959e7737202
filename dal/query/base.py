"""What a strategy asks for (`Needs`), what it is given (`PoolView`), what it returns (`Query`)."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dal.query.needs import (
    Features,
    Heights,
    History,
    Members,
    Need,
    Needs,
    Scores,
    of_candidates,
    of_one_row,
)
from dal.query.selection import BLOCK, check_size, random_keys, top_k

log = logging.getLogger(__name__)

LARGEST_FEATURE = 1e17
"""Squared distances between rows of larger features may not fit in float32."""


class PoolView:
    """What the pass computed for the candidates: read-only, without any unknown label.

    Tensors live on the CPU, or on the device that computed them, and must not be modified.

    Attributes:
        indices: int64, (N,), distinct positions of the candidates in the training part.
        num_total: Size of the whole training part; random keys are drawn over it, so that a
            choice does not depend on which candidates are handed in or in which order.
        num_classes: Number of classes C.
        multilabel: Whether a sample has any of them: rows of probabilities need not sum to one.
    """

    def __init__(
        self,
        indices: Tensor,
        results: Mapping[Need, Tensor],
        *,
        num_total: int,
        num_classes: int,
        multilabel: bool = False,
    ) -> None:
        self.indices = indices
        self.num_total = num_total
        self.num_classes = num_classes
        self.multilabel = multilabel
        self._results = dict(results)

    def _like(self, indices: Tensor, results: Mapping[Need, Tensor]) -> PoolView:
        """Other candidates, or results, of the same training part."""
        return PoolView(
            indices,
            results,
            num_total=self.num_total,
            num_classes=self.num_classes,
            multilabel=self.multilabel,
        )

    def with_result(self, need: Need, value: Tensor) -> PoolView:
        """The same view with one more need answered."""
        return self._like(self.indices, {**self._results, need: value})

    def ascending(self) -> PoolView:
        """The same candidates in ascending order of their indices, itself if they are already."""
        order = self.indices.argsort()
        if torch.equal(order, torch.arange(len(order), device=order.device)):
            return self
        return self.part(order)

    def part(self, places: Tensor) -> PoolView:
        """Some of the candidates: int64 (n,), distinct places from 0 to N - 1."""
        results = {need: _rows(need, value, places) for need, value in self._results.items()}
        return self._like(self.indices[places], results)

    def rows(self, need: Need, indices: Tensor) -> Tensor | None:
        """What answers a need for some of the candidates, or None where it was not computed.

        Args:
            need: One whose tensor has a row a candidate.
            indices: int64, (b,), some of the candidates.
        """
        if need not in self._results:
            return None
        order = self.indices.argsort()
        places = torch.searchsorted(self.indices[order], indices.to(order.device))
        return self._results[need][order[places]]

    def __len__(self) -> int:
        return len(self.indices)

    def __contains__(self, need: object) -> bool:
        return need in self._results

    def get(self, need: Need, otherwise: Tensor) -> Tensor:
        """The tensor that answers a need, or another one where it was not computed."""
        return self._results.get(need, otherwise)

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
        probs: float, (b, C), the current model's class probabilities of each sample, which the
            loop adds for an oracle that shows them; no strategy gives or sees them.
        again: int64, (r,), labeled samples to be asked about once more, besides ``indices``; None
            for none. They count toward the size of the query.
        audit: int64, those of ``indices`` whose answers are measured by and never trained on; None
            for none.
        before: int64, (b,), how many answers the ledger holds of each of ``indices``, which the
            loop adds; None for none.
    """

    indices: Tensor
    scores: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    pool_scores: Tensor | None = None
    probs: Tensor | None = None
    again: Tensor | None = None
    audit: Tensor | None = None
    before: Tensor | None = None


class Strategy(ABC):
    """Chooses the samples whose labels are worth most.

    Attributes:
        needs: What the pass must compute for `select`; the empty set means no pass.
        tasks: Kinds of `dal.task.Task` for which the choice means something.
    """

    needs: Needs = frozenset()
    tasks: frozenset[str] = frozenset({"multiclass"})

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

    def current(self, labels: int) -> Strategy:
        """What chooses while there are so many labels, so that a round computes its needs alone."""
        return self

    def ready(self, view: PoolView) -> bool:
        """Whether there is anything to score by; a random subset is queried while there is not.

        Scores of a committee, and of past models, need two members.
        """
        return all(
            len(view[need]) > 1 for need in self.needs if isinstance(need, History | Members)
        )

    def state_dict(self) -> dict[str, Any]:
        """What the strategy must remember between rounds: plain containers and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state but was given {list(state)}")


class ScoreStrategy(Strategy):
    """A strategy that scores the candidates once and takes the highest scores.

    Attributes:
        lower_bound: No score can be lower; wrappers that multiply scores take their `heights`
            above it, so that a factor never turns the order round. -inf where there is no bound.
        independent: A score depends on its candidate alone, not on which others there are.
    """

    lower_bound: float = 0.0
    independent: bool = True

    @abstractmethod
    def score(self, view: PoolView) -> Tensor:
        """Score the candidates: float, (N,), higher means query first."""

    def heights(self, view: PoolView, scores: Tensor) -> Tensor:
        """How far each score is above the lower bound, if there is one: what candidates rank by.

        Near a bound other than 0 numbers are coarser than the differences of the scores; a score
        that knows what it is above its bound overrides this.

        Args:
            view: The candidates.
            scores: What `score` gave for them.

        Returns:
            float, (N,), in the order of the scores, with fewer ties; >= 0 if there is a bound.
        """
        if self.lower_bound in (0.0, -math.inf):
            return scores
        return scores.double() - self.lower_bound

    def reach(self, num_classes: int) -> float:
        """How far above the lower bound a score can be: a stream's thresholds are shares of it.

        It need not be reached; infinite where nothing is known.
        """
        return math.inf

    @property
    def fits_blocks(self) -> bool:
        """Whether scores made batch by batch are those made of all candidates at once.

        They are where a score looks at nothing but its candidate's own row of what a network gives.
        """
        return self.independent and all(map(of_one_row, self.needs))

    def of_block(self, view: PoolView) -> dict[Need, Tensor]:
        """`Scores` of some candidates, and `Heights` where these differ."""
        scores = self.score(view)
        heights = self.heights(view, scores)
        found: dict[Need, Tensor] = {Scores(self): scores}
        return found if heights is scores else found | {Heights(self): heights}

    def _heights(self, view: PoolView, scores: Tensor) -> Tensor:
        if Scores(self) in view:
            return view.get(Heights(self), scores)
        return self.heights(view, scores)

    def checked_scores(self, view: PoolView) -> Tensor:
        """The scores, refused where one is not finite; the same ones for all are warned about."""
        scores = view[Scores(self)] if Scores(self) in view else self.score(view)
        name = type(self).__name__
        check_finite(scores, view.indices, name)
        if len(scores) > 1 and _same(scores) and _same(self._heights(view, scores)):
            log.warning(
                "%s scored all %d candidates with %g: the query is random",
                name,
                len(scores),
                scores[0].item(),
            )
        return scores

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """Take the highest scores; ties are broken by a seeded permutation and counted."""
        if not self.ready(view):
            return random_query(view, query_size, rng)
        if not self.independent:
            view = view.ascending()  # so that no sum depends on the order handed in
        scores = self.checked_scores(view)
        keys = random_keys(view.num_total, rng)[view.indices.cpu()].to(scores.device)
        positions, tied = top_k(self._heights(view, scores), query_size, keys)
        return Query(
            indices=view.indices[positions.to(view.indices.device)],
            scores=scores[positions],
            info={"tied": tied},
            pool_scores=scores,
        )


class BatchStrategy(Strategy):
    """A strategy that chooses the batch as a whole, because the candidates bear on each other.

    It sees the candidates in ascending order of their indices, so that no sum and no draw depends
    on the order in which they were handed in.
    """

    @abstractmethod
    def choose(
        self, view: PoolView, query_size: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Choose from candidates in ascending order.

        Args:
            view: The candidates, ascending.
            query_size: How many, from 1 to N.
            rng: CPU generator. Keys drawn with `random_keys` and gathered by ``view.indices`` do
                not depend on which other candidates there are.

        Returns:
            Positions in the view, int64, (b,), distinct, in the order of choice; a score of each,
            float, (b,); plain values worth recording.
        """

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """See `choose`."""
        check_size(query_size, len(view))
        if not self.ready(view):
            return random_query(view, query_size, rng)
        view = view.ascending()
        for need in sorted(self.needs, key=repr):
            if of_candidates(need):
                check_need(view[need], view.indices, need, type(self).__name__)
        positions, scores, info = self.choose(view, query_size, rng)
        return Query(view.indices[positions.to(view.indices.device)], scores, info)


def _same(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def random_query(view: PoolView, query_size: int, rng: torch.Generator) -> Query:
    """A uniformly random subset: the samples with the highest random keys; the key is the score."""
    keys = random_keys(view.num_total, rng)[view.indices.cpu()]
    positions, _ = top_k(keys, query_size, keys)
    chosen = view.indices[positions.to(view.indices.device)]
    return Query(chosen, keys[positions], {"random": True})


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


def check_need(value: Tensor, indices: Tensor, need: Need, strategy: str) -> None:
    """Refuse what the model computed for the candidates where it is not finite.

    Features beyond `LARGEST_FEATURE` are refused too, since distances between them would not be.

    Args:
        value: Float, (N, ...), or (K, N, ...) for members and history; read in blocks.
        indices: int64, (N,).
        need: What it answers.
        strategy: Named in the error.

    Raises:
        ValueError: Naming the strategy, the need and the first such sample.
    """
    rows = value.transpose(0, 1) if isinstance(need, Members | History) else value
    limit, problem = torch.finfo(value.dtype).max, "not finite"
    if isinstance(need, Features) and limit > LARGEST_FEATURE:
        limit, problem = LARGEST_FEATURE, f"not finite, or beyond {LARGEST_FEATURE:g},"
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].flatten(1)
        bad = ~(block.abs() <= limit).all(1)  # written so that NaN is refused
        if bad.any():
            position = start + int(bad.nonzero()[0])
            raise ValueError(
                f"{strategy} was given {type(need).__name__.lower()} that are {problem} for "
                f"sample {int(indices[position])}; check the inputs of that sample for extreme "
                "values, or lower the learning rate"
            )


def _rows(need: Need, value: Tensor, places: Tensor) -> Tensor:
    """One need's answer for some of the candidates, in another order."""
    if not of_candidates(need):
        return value
    places = places.to(value.device)
    return value[:, places] if isinstance(need, Members | History) else value[places]
