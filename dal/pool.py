"""Who is labeled, since which round, with which label: the only mutable state of active learning.

The pool is an append-only ledger of label events. Masks, counts, the budget, costs, the training
set and ``queries.csv`` are read off it; nothing else remembers labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Origin = Literal["initial", "oracle", "audit", "pseudo", "synthetic"]
ORIGINS: tuple[Origin, ...] = ("initial", "oracle", "audit", "pseudo", "synthetic")

GUESSES: tuple[Origin, ...] = ("pseudo", "synthetic")
"""Origins of labels that nobody was asked for: they are not paid, and an answer replaces them."""

NONE = -1
"""The position of no event, and the target where nothing is known."""

COLUMNS: dict[str, torch.dtype] = {
    "round": torch.int64,
    "index": torch.int64,
    "target": torch.int64,
    "origin": torch.int64,
    "abstained": torch.bool,
    "cost": torch.float64,
    "weight": torch.float32,
    "score": torch.float64,
    "seconds": torch.float64,
    "supersedes": torch.int64,
}
"""What is known of an event besides its annotator."""

_NO_VALUE = {"score": math.nan, "seconds": math.nan, "supersedes": NONE}
"""Columns that not every event has a value of, and what stands there; null in a file."""


@dataclass(frozen=True)
class TrainSet:
    """What a learner is fitted on.

    Attributes:
        indices: int64, (M,), positions in the training part, in the order of first labeling.
        targets: int64, (M,); multi-label (M, C).
        weights: float32, (M,), weight of each sample in the loss.
    """

    indices: Tensor
    targets: Tensor
    weights: Tensor

    def part(self, places: Tensor) -> TrainSet:
        """Some of them: int64 (m,), places from 0 to M - 1."""
        return TrainSet(self.indices[places], self.targets[places], self.weights[places])

    def __len__(self) -> int:
        return len(self.indices)


class Pool:
    """Ledger of label events over a training part.

    An event says in which round (`round`) which sample (`index`) got which label (`target`) from
    where (`origin`) and whom (`annotator`); whether the annotator could not tell (`abstained`);
    what the answer cost (`cost`) and how long it took (`seconds`); by which score the sample had
    been queried (`score`); how much it weighs in the loss (`weight`); and which earlier event of
    the same sample it replaces (`supersedes`).

    The events of a sample form a chain: each but the first supersedes the one before it. The latest
    decides what the sample is trained on; all of them stay, count and cost. Several answers for one
    sample, of one annotator or of several, are stored like that, one behind the other; whoever
    combines them finds them all in `events`.

    The origins:

    - ``initial``: known at the start, or answered before (in rounds -1, -2, ...); paid.
    - ``oracle``: an answer to a query, or a correction of an earlier label; paid, and counted by
      the budget.
    - ``audit``: asked for to measure by; paid, and never trained on.
    - ``pseudo``: a model's guess; not paid. The sample stays a candidate. Labeling it again
      replaces the guess, a pseudo label that abstains withdraws it.
    - ``synthetic``: the label that a made sample comes with; not paid. Made samples are numbered
      from ``num_total`` on and are no candidates; whoever makes them keeps their inputs.

    An annotator who abstains is an event without a target: the sample leaves the pool, costs, and
    is not trained on.

    Args:
        num_total: Size of the training part.
        num_labels: C, where targets are rows of C numbers; None for one class number a sample.
    """

    def __init__(self, num_total: int, num_labels: int | None = None) -> None:
        self.num_total = num_total
        self._target_shape = () if num_labels is None else (num_labels,)
        self._events = {
            key: torch.empty(self._shape(key, 0), dtype=kind) for key, kind in COLUMNS.items()
        }
        self._annotators: list[str] = []

    def label(
        self,
        round_number: int,
        indices: Tensor,
        targets: Tensor,
        *,
        origin: Origin,
        again: bool = False,
        abstained: Tensor | None = None,
        cost: Tensor | None = None,
        weight: Tensor | None = None,
        score: Tensor | None = None,
        seconds: Tensor | None = None,
        annotator: str | Sequence[str] = "",
    ) -> None:
        """Append one event for each index.

        Args:
            round_number: The round whose query this answers; 0 for labels known at the start.
            indices: int64, (b,), distinct, in [0, num_total); those of made samples are
                ``num_total`` or larger.
            targets: int64, (b,) or (b, C); what stands where ``abstained`` holds plays no part.
            origin: Where the labels come from.
            again: Every sample has a label already, which this one supersedes. Without it only
                guesses may be superseded.
            abstained: bool, (b,), or None for nobody.
            cost: float, (b,), not negative; None for 1 each, and for 0 of a guess.
            weight: float, (b,), weight in the loss, not negative; None for 1 each.
            score: float, (b,), by which the samples were queried; None for no query.
            seconds: float, (b,), how long each answer took, NaN where that is unknown; or None.
            annotator: Who gave the labels: one name, or b names.

        Raises:
            ValueError: An index is out of range, repeated, labeled already, or not labeled yet
                where it should be; a guess would supersede an answer; or an argument is not one
                value an index, or out of range.
        """
        size, unpaid = len(indices), origin in GUESSES
        rows = {
            "round": torch.full((size,), round_number),
            "index": indices,
            "target": targets,
            "origin": torch.full((size,), ORIGINS.index(origin)),
            "abstained": torch.zeros(size, dtype=torch.bool) if abstained is None else abstained,
            "cost": torch.full((size,), 0.0 if unpaid else 1.0) if cost is None else cost,
            "weight": torch.ones(size) if weight is None else weight,
            "score": torch.full((size,), math.nan) if score is None else score,
            "seconds": torch.full((size,), math.nan) if seconds is None else seconds,
            "supersedes": self._superseded(indices, again),
        }
        self._append(rows, [annotator] * size if isinstance(annotator, str) else annotator)

    def _superseded(self, indices: Tensor, again: bool) -> Tensor:
        """int64, (b,): the event that a new one of each sample supersedes; `NONE` for none."""
        known, guessed = self._latest(indices), self._of(*GUESSES)
        for index in indices.tolist() if again else ():
            if index not in known:
                raise ValueError(f"sample {index} has no label yet; give the first without `again`")
        known = {index: n for index, n in known.items() if again or guessed[n]}
        return torch.tensor([known.get(index, NONE) for index in indices.tolist()]).long()

    def _latest(self, indices: Tensor) -> dict[int, int]:
        """The position of the latest event of each of some samples that have one."""
        index = self._events["index"]
        there = torch.isin(index, indices).nonzero().squeeze(1)
        return dict(zip(index[there].tolist(), there.tolist(), strict=True))  # the last one stays

    def _append(self, rows: Mapping[str, Tensor], annotators: Sequence[str]) -> None:
        size = len(rows["index"])
        for key, row in rows.items():
            if row.shape != (shape := self._shape(key, size)):
                raise ValueError(
                    f"{key} has shape {tuple(row.shape)} for {size} indices; give {shape}"
                )
        if len(annotators) != size:
            raise ValueError(f"{len(annotators)} annotators for {size} indices; name one each")
        rows = {key: row.to(COLUMNS[key]) for key, row in rows.items()}
        _check_numbers(rows)
        self._check_indices(rows)
        self._check_chains(rows)
        self._annotators += annotators
        rows["target"] = rows["target"].clone()
        rows["target"][rows["abstained"]] = NONE
        self._events = {key: torch.cat([old, rows[key]]) for key, old in self._events.items()}

    def _shape(self, key: str, size: int) -> tuple[int, ...]:
        return (size, *self._target_shape) if key == "target" else (size,)

    def _check_indices(self, rows: Mapping[str, Tensor]) -> None:
        """Refuse a sample's first event with an index that cannot be: made samples come behind."""
        first = rows["supersedes"] == NONE
        made = first & (rows["origin"] == ORIGINS.index("synthetic"))
        outside = (rows["index"] < 0) | (rows["index"] >= self.num_total)
        for index in rows["index"][first & ~made & outside].tolist():
            raise ValueError(f"indices must lie in [0, {self.num_total}), {index} does not")
        for index in rows["index"][made & (rows["index"] < self.num_total)].tolist():
            raise ValueError(f"made samples are numbered from {self.num_total} on, not {index}")

    def _check_chains(self, rows: Mapping[str, Tensor]) -> None:
        """Refuse an event that does not supersede the one before it of the same sample."""
        start, known = len(self._annotators), self._latest(rows["index"])
        guessed = _is_one_of(torch.cat([self._events["origin"], rows["origin"]]), GUESSES)
        events = zip(rows["index"].tolist(), rows["supersedes"].tolist(), strict=True)
        for position, (index, said) in enumerate(events, start):
            before = known.get(index, NONE)
            if said != before:
                raise ValueError(_break(position, index, said, before, before >= start))
            if before != NONE and guessed[position] and not guessed[before]:
                raise ValueError(f"sample {index} has been labeled already; no guess replaces that")
            known[index] = position

    def _of(self, *origins: Origin) -> Tensor:
        """bool, one an event: whether it comes from one of these."""
        return _is_one_of(self._events["origin"], origins)

    def _trained_on(self) -> Tensor:
        """int64, (M,): the event that decides what each sample of the training set is."""
        last = self._last()
        return last[~(self._events["abstained"] | self._of("audit"))[last]]

    def _last(self) -> Tensor:
        """int64: the latest event of each sample, in the order of their first ones."""
        index, supersedes = self._events["index"], self._events["supersedes"]
        is_last = torch.ones(len(index), dtype=torch.bool)
        is_last[supersedes[supersedes != NONE]] = False
        first, last = (supersedes == NONE).nonzero().squeeze(1), is_last.nonzero().squeeze(1)
        # Every sample has one of each, so that sorting both by sample pairs them.
        first, last = first[index[first].argsort()], last[index[last].argsort()]
        return last[first.argsort()]

    @property
    def asked_mask(self) -> Tensor:
        """bool, (num_total,): samples whose label was given, asked for or refused."""
        mask = torch.zeros(self.num_total, dtype=torch.bool)
        asked = self._events["index"][~self._of(*GUESSES)]
        mask[asked[asked < self.num_total]] = True
        return mask

    @property
    def unlabeled_idx(self) -> Tensor:
        """int64, (N,), ascending: the candidates."""
        return (~self.asked_mask).nonzero().squeeze(1)

    @property
    def num_unlabeled(self) -> int:
        """Number of candidates N."""
        return self.num_total - int(self.asked_mask.sum())

    @property
    def labels(self) -> int:
        """Answers that were paid for: the x-axis of every curve.

        Initial labels are in it, abstentions, and every answer of a sample that has several.
        """
        return int((~self._of(*GUESSES)).sum())

    @property
    def num_queried(self) -> int:
        """Answers of the oracle: what the budget counts, without initial labels and audits."""
        return int(self._of("oracle").sum())

    @property
    def asked_before(self) -> tuple[int, int]:
        """Questions answered before round 0, and the answers that they got."""
        rounds = self._events["round"].tolist()
        return -min([0, *rounds]), sum(number < 0 for number in rounds)

    def train_set(self) -> TrainSet:
        """The labeled samples with the latest label of each, in the order of first labeling."""
        events = self._trained_on()
        return TrainSet(*(self._events[key][events] for key in ("index", "target", "weight")))

    def counts(self) -> dict[str, Any]:
        """What a row of ``metrics.jsonl`` says of the ledger.

        Returns:
            ``labels``, the answers paid for; ``queried``, those of the oracle; ``cost``, the sum
            over all events; ``trained_on``, the samples in the training set, and ``pseudo``, how
            many of them by a pseudo label.
        """
        events = self._trained_on()
        return {
            "labels": self.labels,
            "queried": self.num_queried,
            "cost": float(self._events["cost"].sum()),
            "trained_on": len(events),
            "pseudo": int(self._of("pseudo")[events].sum()),
        }

    def queries(self, first: int = 0) -> list[list[Any]]:
        """Answers of the oracle, in order.

        Args:
            first: Number of answers to leave out at the beginning.

        Returns:
            ``[round, index, score, target]`` of each; a multi-label target is a list of C numbers.
            Score None: it corrects an earlier answer, and no strategy asked for it. Target -1, or
            -1 everywhere: the annotator abstained.
        """
        asked = self._of("oracle").nonzero().squeeze(1)[first:]
        keys = ("round", "index", "score", "target")
        columns = [_plain(key, self._events[key][asked]) for key in keys]
        return [list(query) for query in zip(*columns, strict=True)]

    def events(self, first: int = 0) -> list[dict[str, Any]]:
        """The ledger from an event on, as plain values by name.

        ``score``, ``seconds`` and ``supersedes``, the position of an event, are None where an event
        has none.
        """
        columns = {key: _plain(key, values[first:]) for key, values in self._events.items()}
        columns["annotator"] = self._annotators[first:]
        return [
            dict(zip(columns, event, strict=True)) for event in zip(*columns.values(), strict=True)
        ]

    def extend(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append what `events` gave.

        Raises:
            ValueError: They are those of another pool: an index is out of range, an event does not
                supersede the one before it of the same sample, or the targets have another shape;
                or one lacks a value, or has one of another type.
        """
        for number, event in enumerate(events, len(self._annotators)):
            _check_plain(number, event)
        rows = {key: _column(key, [event[key] for event in events]) for key in COLUMNS}
        if not events:
            rows["target"] = rows["target"].view(self._shape("target", 0))
        self._append(rows, [event["annotator"] for event in events])


def _is_one_of(numbers: Tensor, origins: Sequence[Origin]) -> Tensor:
    """bool, where a column of origins names one of some."""
    return torch.isin(numbers, torch.tensor([ORIGINS.index(origin) for origin in origins]))


def _plain(key: str, values: Tensor) -> list[Any]:
    """A column as plain values."""
    if key == "origin":
        return [ORIGINS[number] for number in values.tolist()]
    if key in _NO_VALUE:
        return [None if math.isnan(v) or v == _NO_VALUE[key] else v for v in values.tolist()]
    return values.tolist()


def _column(key: str, values: Sequence[Any]) -> Tensor:
    """A column from plain values."""
    if key == "origin":
        values = [ORIGINS.index(origin) for origin in values]
    if key in _NO_VALUE:
        values = [_NO_VALUE[key] if value is None else value for value in values]
    return torch.tensor(values, dtype=COLUMNS[key])


def _check_plain(number: int, event: Mapping[str, Any]) -> None:
    """Refuse an event that somebody altered: torch would take 1.5 or true for an index."""
    for key in (*COLUMNS, "annotator"):
        value = event.get(key, ())
        cells = value if key == "target" and isinstance(value, list) else [value]
        if not all(_may_stand(key, cell) for cell in cells):
            fact = f"has {key}={value!r:.40}" if key in event else f"lacks {key}"
            raise ValueError(f"event {number} of the ledger {fact}, which cannot be; restore it")


def _may_stand(key: str, value: Any) -> bool:
    """Whether a plain value is of the type of a column."""
    if key in ("annotator", "origin"):
        return isinstance(value, str) if key == "annotator" else value in ORIGINS
    if value is None or COLUMNS[key] == torch.bool:
        return isinstance(value, bool) or (value is None and key in _NO_VALUE)
    if type(value) is int:
        return abs(value) < 2**63
    return COLUMNS[key].is_floating_point and isinstance(value, float)


def _check_numbers(rows: Mapping[str, Tensor]) -> None:
    """Refuse costs, weights and seconds that are none."""
    for key in ("cost", "weight", "seconds"):
        known = rows[key][~rows[key].isnan()] if key == "seconds" else rows[key]
        wrong = known[~((known >= 0) & known.isfinite())]
        if len(wrong):
            raise ValueError(f"{key} {float(wrong[0]):g}; give a finite number of 0 or more")


def _break(position: int, index: int, said: int, before: int, repeated: bool) -> str:
    """How an event breaks the chain of its sample, in words."""
    if repeated:
        return f"sample {index} occurs twice; give one label at a time, the later ones by `again`"
    if said == NONE:
        return f"sample {index} has been labeled already; give another label of it by `again`"
    known = "there is none" if before == NONE else f"that is event {before}"
    return f"event {position} supersedes event {said}, not the latest of sample {index}: {known}"
