"""Who is labeled, since which round, with which label: the only mutable state of active learning.

The pool is an append-only ledger of label events; masks, counts and the training set are read
off it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Origin = Literal["initial", "oracle", "pseudo", "synthetic"]
ORIGINS: tuple[Origin, ...] = ("initial", "oracle", "pseudo", "synthetic")


@dataclass(frozen=True)
class TrainSet:
    """What a learner is fitted on.

    Attributes:
        indices: int64, (M,), positions in the training part, in the order of labeling.
        targets: int64, (M,); multi-label (M, C).
        weights: float32, (M,), weight of each sample in the loss.
    """

    indices: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.indices)


class Pool:
    """Ledger of label events over a training part.

    One event a sample: (round, index, target, origin, annotator, abstained, cost, weight, score).
    An annotator who abstains is an event without a target: the sample leaves the pool, costs, and
    is not trained on.

    Args:
        num_total: Size of the training part.
        num_labels: C, where targets are rows of C numbers; None for one class number a sample.
    """

    def __init__(self, num_total: int, num_labels: int | None = None) -> None:
        self.num_total = num_total
        self._target_shape = () if num_labels is None else (num_labels,)
        self._events: dict[str, Tensor] = {
            "round": torch.empty(0, dtype=torch.int64),
            "index": torch.empty(0, dtype=torch.int64),
            "target": torch.empty(0, *self._target_shape, dtype=torch.int64),
            "origin": torch.empty(0, dtype=torch.int64),
            "abstained": torch.empty(0, dtype=torch.bool),
            "cost": torch.empty(0, dtype=torch.float32),
            "weight": torch.empty(0, dtype=torch.float32),
            "score": torch.empty(0, dtype=torch.float64),
        }
        self._annotators: list[str] = []

    def label(
        self,
        round_number: int,
        indices: Tensor,
        targets: Tensor,
        *,
        origin: Origin,
        abstained: Tensor | None = None,
        cost: Tensor | None = None,
        weight: Tensor | None = None,
        score: Tensor | None = None,
        annotator: str = "",
    ) -> None:
        """Append one event for each index.

        Args:
            round_number: The round whose query this answers; 0 for initial labels.
            indices: int64, (b,), distinct, unlabeled, in [0, num_total).
            targets: int64, (b,) or (b, C); what stands where ``abstained`` holds plays no part.
            origin: Where the labels come from.
            abstained: bool, (b,), or None for nobody.
            cost: float, (b,), or None for 1 each.
            weight: float, (b,), weight in the loss, or None for 1 each.
            score: float, (b,), by which the samples were queried, or None for no query.
            annotator: Who gave the labels.

        Raises:
            ValueError: An index is out of range, repeated, or labeled already; or an argument is
                not one value an index.
        """
        size = len(indices)
        rows = {
            "round": torch.full((size,), round_number),
            "index": indices.to(torch.int64),
            "target": targets.to(torch.int64),
            "origin": torch.full((size,), ORIGINS.index(origin)),
            "abstained": torch.zeros(size, dtype=torch.bool) if abstained is None else abstained,
            "cost": torch.ones(size) if cost is None else cost.to(torch.float32),
            "weight": torch.ones(size) if weight is None else weight.to(torch.float32),
            "score": torch.full((size,), math.nan) if score is None else score,
        }
        self._append(rows, [annotator] * size)

    def _append(self, rows: Mapping[str, Tensor], annotators: Sequence[str]) -> None:
        size = len(annotators)
        self._check(rows["index"])
        for key, row in rows.items():
            shape = (size, *self._target_shape) if key == "target" else (size,)
            if row.shape != shape:
                raise ValueError(
                    f"{key} has shape {tuple(row.shape)} for {size} indices; give {shape}"
                )
        self._events = {
            key: torch.cat([events, rows[key].to(events.dtype)])
            for key, events in self._events.items()
        }
        self._annotators += annotators

    def _check(self, indices: Tensor) -> None:
        if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < self.num_total):
            raise ValueError(f"indices must lie in [0, {self.num_total})")
        if len(torch.unique(indices)) != len(indices):
            raise ValueError("an index occurs twice; a sample is labeled once")
        known = self.asked_mask[indices]
        if known.any():
            raise ValueError(f"sample {int(indices[known][0])} has been labeled already")

    @property
    def asked_mask(self) -> Tensor:
        """bool, (num_total,): samples whose label was given, asked for or refused."""
        mask = torch.zeros(self.num_total, dtype=torch.bool)
        mask[self._events["index"]] = True
        return mask

    @property
    def unlabeled_idx(self) -> Tensor:
        """int64, (N,), ascending: the candidates."""
        return (~self.asked_mask).nonzero().squeeze(1)

    @property
    def num_unlabeled(self) -> int:
        """Number of candidates N."""
        return self.num_total - len(self._events["index"])

    @property
    def num_queried(self) -> int:
        """Labels asked of the oracle: what the budget counts; initial labels are not in it."""
        return int((self._events["origin"] == ORIGINS.index("oracle")).sum())

    @property
    def num_labeled(self) -> int:
        """Number of samples M that a learner is trained on."""
        return int((~self._events["abstained"]).sum())

    def train_set(self) -> TrainSet:
        """The labeled samples, in the order of labeling."""
        kept = ~self._events["abstained"]
        return TrainSet(
            *(self._events[key][kept] for key in ("index", "target", "weight")),
        )

    def queries(self, first: int = 0) -> list[list[Any]]:
        """What was asked of the oracle, in order.

        Args:
            first: Number of answers to leave out at the beginning.

        Returns:
            ``[round, index, score, target]`` of each; a multi-label target is a list of C numbers.
            Target -1, or -1 everywhere: the annotator abstained.
        """
        origin = self._events["origin"]
        asked = (origin == ORIGINS.index("oracle")).nonzero().squeeze(1)[first:]
        columns = [
            self._events[key][asked].tolist() for key in ("round", "index", "score", "target")
        ]
        return [list(query) for query in zip(*columns, strict=True)]

    def events(self, first: int = 0) -> list[dict[str, Any]]:
        """The ledger from an event on, as plain values by name; a score is None without query."""
        columns = {key: values[first:].tolist() for key, values in self._events.items()}
        columns["origin"] = [ORIGINS[number] for number in columns["origin"]]
        columns["score"] = [None if math.isnan(score) else score for score in columns["score"]]
        columns["annotator"] = self._annotators[first:]
        return [
            dict(zip(columns, event, strict=True)) for event in zip(*columns.values(), strict=True)
        ]

    def extend(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append what `events` gave.

        Raises:
            ValueError: They are those of another pool: an index is out of range, repeated, or
                labeled already, or the targets have another shape.
        """
        columns = {key: [event[key] for event in events] for key in self._events}
        columns["origin"] = [ORIGINS.index(origin) for origin in columns["origin"]]
        columns["score"] = [math.nan if score is None else score for score in columns["score"]]
        rows = {
            key: torch.tensor(column, dtype=self._events[key].dtype)
            for key, column in columns.items()
        }
        if not events:
            rows["target"] = rows["target"].view(0, *self._target_shape)
        self._append(rows, [event["annotator"] for event in events])
