"""Who is labeled, since which round, with which label: the only mutable state of active learning.

The pool is an append-only ledger of label events. Masks, counts, the budget, costs, the training
set and ``queries.csv`` are read off it; nothing else remembers labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dal.consensus import Consensus
from dal.decided import decided, measured
from dal.events import (
    ASKED,
    COLUMNS,
    GUESSES,
    NONE,
    ORIGINS,
    Origin,
    check_chains,
    check_indices,
    check_numbers,
    check_plain,
    check_shapes,
    column,
    in_chains,
    is_one_of,
    no_events,
    plain,
)
from dal.train_set import TrainSet

REJECTED = -2
"""Target of an answer that says: none of the classes. Where labels may hold together, such an
answer is a row of zeros."""


def is_rejected(targets: Tensor) -> Tensor:
    """bool, (N,), which targets (N,) or (N, C) say that a sample is of none of the classes."""
    rejected = targets == REJECTED
    return rejected if targets.ndim == 1 else rejected.all(1)


class Pool:
    """Ledger of label events over a training part.

    An event says in which round (`round`) which sample (`index`) got which label (`target`) from
    where (`origin`) and whom (`annotator`); whether the annotator could not tell (`abstained`);
    what the answer cost (`cost`) and how long it took (`seconds`); by which score the sample had
    been queried (`score`); how much it weighs in the loss (`weight`); and which earlier event of
    the same sample it replaces (`supersedes`).

    The events of a sample form a chain: each but the first supersedes the one before it. All of
    them stay, and cost; all but a free correction (see `labels`) count. The latest answer of each
    annotator who could tell stands; where that leaves a sample several, a consensus makes one of
    them.

    The origins:

    - ``initial``: known at the start, or answered before (in rounds -1, -2, ...); paid.
    - ``oracle``: an answer to a query, or a correction of an earlier label; paid, and counted by
      the budget.
    - ``audit``: asked for to measure by; paid, and counted by the budget. A sample that has such an
      answer is never trained on.
    - ``pseudo``: a model's guess; not paid. The sample stays a candidate. Labeling it again
      replaces the guess, a pseudo label that abstains withdraws it.
    - ``synthetic``: as ``oracle``, about a made sample. These, and those that arrived from outside
      of the data, are numbered from ``num_total`` on and are no candidates; see `dal.data.made`.

    An annotator who abstains is an event without a target: the sample leaves the pool, costs, and
    is not trained on. One who says that a sample is of none of the classes gives it the target
    `REJECTED`: it is not trained on either, but that is known of it (`rejected_idx`).

    Args:
        num_total: Size of the training part.
        num_labels: C, where targets are rows of C numbers; None for one class number a sample.
        consensus: Combines the answers of several annotators; None takes the latest.
        arriving: Whether samples come from outside, which the oracle is asked about as well.
    """

    def __init__(
        self,
        num_total: int,
        num_labels: int | None = None,
        consensus: Consensus | None = None,
        arriving: bool = False,
    ) -> None:
        self.num_total, self._consensus, self._arriving = num_total, consensus, arriving
        self._target_shape = () if num_labels is None else (num_labels,)
        self._events = no_events(self._target_shape)
        self._annotators: list[str] = []
        self._answers: dict[int, dict[str, int]] = {}
        self._changes = torch.zeros(0, dtype=torch.bool)
        self._kept: tuple[Tensor, Tensor] | None = None

    def label(
        self,
        round_number: int,
        indices: Tensor,
        targets: Tensor,
        *,
        origin: Origin,
        again: bool | None = False,
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
            indices: int64, (b,), distinct, in [0, num_total); those of made samples, and of such
                as arrived, are ``num_total`` or larger.
            targets: int64, (b,) or (b, C); what stands where ``abstained`` holds plays no part.
            origin: Where the labels come from.
            again: Every sample has a label already, which this one supersedes. Without it only
                guesses may be superseded. None: whatever a sample has is superseded, and it may
                occur several times.
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

    def _superseded(self, indices: Tensor, again: bool | None) -> Tensor:
        """int64, (b,): the event that a new one of each sample supersedes; `NONE` for none."""
        known, guessed = self._latest(indices), self._of(*GUESSES)
        for index in indices.tolist() if again else ():
            if index not in known:
                raise ValueError(f"sample {index} has no label yet; give the first without `again`")
        if again is False:
            known = {index: n for index, n in known.items() if guessed[n]}
        if again is None:
            return in_chains(indices, known, self.num_events)
        return torch.tensor([known.get(index, NONE) for index in indices.tolist()]).long()

    def _latest(self, indices: Tensor) -> dict[int, int]:
        """The position of the latest event of each of some samples that have one."""
        index = self._events["index"]
        there = torch.isin(index, indices).nonzero().squeeze(1)
        return dict(zip(index[there].tolist(), there.tolist(), strict=True))  # the last one stays

    def _append(self, rows: Mapping[str, Tensor], annotators: Sequence[str]) -> None:
        check_shapes(rows, annotators, self._target_shape)
        rows = {key: row.to(COLUMNS[key]) for key, row in rows.items()}
        check_numbers(rows)
        check_indices(rows, self.num_total, self._arriving)
        known = self._latest(rows["index"])
        guessed = is_one_of(rows["origin"], GUESSES)
        check_chains(rows, self.num_events, known, torch.cat([self._of(*GUESSES), guessed]))
        numbered = zip(rows["index"].tolist(), annotators, guessed.tolist(), strict=True)
        changes = []
        for position, (index, name, guess) in enumerate(numbered, self.num_events):
            answers = {} if guess else self._answers.setdefault(index, {})
            changes.append(name in answers)
            answers[name] = position
        self._changes = torch.cat([self._changes, torch.tensor(changes, dtype=torch.bool)])
        self._annotators += annotators
        rows["target"] = rows["target"].clone()
        rows["target"][rows["abstained"]] = NONE
        self._events = {key: torch.cat([old, rows[key]]) for key, old in self._events.items()}
        self._kept = None

    def _of(self, *origins: Origin) -> Tensor:
        """bool, one an event: whether it comes from one of these."""
        return is_one_of(self._events["origin"], origins)

    def _decided(self, audits: bool = False) -> tuple[Tensor, Tensor]:
        """What is known of the labeled samples, or of the audits, in the order of first labeling.

        Kept until there is another event, since a consensus takes its time.

        Returns:
            int64, (M,), the latest event that bears on each; int64, (M,) or (M, C), its target.
        """
        if self._kept is None:
            self._kept = decided(self._events, self._annotators, self._consensus)
        (events, targets), index = self._kept, self._events["index"]
        mine = torch.isin(index[events], index[self._of("audit")]) == audits
        return events[mine], targets[mine]

    def _known(self) -> tuple[Tensor, Tensor]:
        """`_decided` without samples of none of the classes."""
        events, targets = self._decided()
        classed = ~is_rejected(targets)
        return events[classed], targets[classed]

    def audits(self) -> tuple[Tensor, Tensor, Tensor]:
        """The samples that are measured by, in the order of their first answers.

        Returns:
            int64, (M,), the samples; int64, (M,) or (M, C), the label of each, `NONE` where nobody
            gave one; float64, (M,), the score by which each was drawn.
        """
        return measured(self._events, *self._decided(audits=True))

    @property
    def asked_mask(self) -> Tensor:
        """bool, (num_total,): samples whose label was given, asked for or refused."""
        mask = torch.zeros(self.num_total, dtype=torch.bool)
        asked = self._events["index"][~self._of(*GUESSES)]
        mask[asked[asked < self.num_total]] = True
        return mask

    def num_answers(self, indices: Tensor) -> Tensor:
        """int64, (b,): how many answers some samples have, abstentions and corrections too."""
        index = self._events["index"][~self._of(*GUESSES)]
        highest = int(indices.max()) + 1 if len(indices) else 0
        return torch.bincount(index, minlength=max(self.num_total, highest))[indices]

    @property
    def unlabeled_idx(self) -> Tensor:
        """int64, (N,), ascending: the candidates."""
        return (~self.asked_mask).nonzero().squeeze(1)

    @property
    def num_unlabeled(self) -> int:
        """Number of candidates N."""
        return self.num_total - int(self.asked_mask.sum())

    @property
    def num_events(self) -> int:
        """Length of the ledger."""
        return len(self._annotators)

    @property
    def rejected_idx(self) -> Tensor:
        """int64: samples that are of none of the classes, as the answers that stand say."""
        events, targets = self._decided()
        return self._events["index"][events[is_rejected(targets)]]

    @property
    def labels(self) -> int:
        """Answers that were paid for: the x-axis of every curve.

        Initial labels are in it, abstentions, and every answer of a sample that has several; not
        what corrects an earlier answer at no cost.
        """
        return int((~self._of(*GUESSES) & ~self._free()).sum())

    @property
    def num_queried(self) -> int:
        """Answers that were asked for, those to measure by included, without initial labels."""
        return int((self._of(*ASKED) & ~self._free()).sum())

    def spent(self, unit: str) -> float:
        """What the answers that were asked for took, in ``labels``, ``cost`` or ``minutes``.

        Answers of which nobody knows how long they took count as no time.
        """
        if unit == "labels":
            return self.num_queried
        asked = self._of(*ASKED)
        if unit == "cost":
            return float(self._events["cost"][asked].sum())
        return float(self._events["seconds"][asked].nansum()) / 60

    def _free(self) -> Tensor:
        """bool, one an event: it corrects an answer of the same annotator, and cost nothing."""
        return self._changes & (self._events["cost"] == 0)

    @property
    def asked_before(self) -> tuple[int, int]:
        """Questions answered before round 0, and the answers that they got."""
        rounds = self._events["round"].tolist()
        return -min([0, *rounds]), sum(number < 0 for number in rounds)

    def train_set(self) -> TrainSet:
        """The labeled samples with the label of each, in the order of first labeling.

        Guesses are among them: see `TrainSet.answers`.
        """
        events, targets = self._known()
        indices, weights = self._events["index"][events], self._events["weight"][events]
        return TrainSet(indices, targets, weights, self._of(*GUESSES)[events])

    def counts(self) -> dict[str, Any]:
        """What a row of ``metrics.jsonl`` says of the ledger.

        Returns:
            ``labels``, the answers paid for; ``queried``, those of the oracle; ``cost``, the sum
            over all events; ``trained_on``, the samples in the training set, and ``pseudo``, how
            many of them by a pseudo label. Where there are any: ``rejected``, the samples of none
            of the classes.
        """
        events, _ = self._known()
        rejected = len(self.rejected_idx)
        return {
            "labels": self.labels,
            "queried": self.num_queried,
            "cost": float(self._events["cost"].sum()),
            "trained_on": len(events),
            "pseudo": int(self._of("pseudo")[events].sum()),
            **({"rejected": rejected} if rejected else {}),
        }

    def queries(self, first: int = 0) -> list[list[Any]]:
        """Answers that were asked for, and corrections of them, in order.

        Args:
            first: Number of answers to leave out at the beginning.

        Returns:
            ``[round, index, score, target]`` of each; a multi-label target is a list of C numbers.
            Score None: no strategy asked for it, as of samples to measure by. Target -1, or -1
            everywhere: the annotator abstained; `REJECTED`: none of the classes.
        """
        asked = self._of(*ASKED).nonzero().squeeze(1)[first:]
        keys = ("round", "index", "score", "target")
        columns = [plain(key, self._events[key][asked]) for key in keys]
        drawn = self._of("audit")[asked].tolist()
        columns[2] = [None if d else score for d, score in zip(drawn, columns[2], strict=True)]
        return [list(query) for query in zip(*columns, strict=True)]

    def latest_answers(self) -> dict[tuple[int, str], int]:
        """The latest event of each annotator on each sample that they answered, by both."""
        found = self._answers.items()
        return {(index, name): n for index, events in found for name, n in events.items()}

    def answers_about(self, index: int) -> Mapping[str, int]:
        """The latest event of each annotator who answered about a sample, by name."""
        return self._answers.get(index, {})

    def said(self, events: Tensor) -> tuple[Tensor, Tensor]:
        """Targets and seconds of some events, int64 (b,); of `NONE`, where there is no event."""
        there = events != NONE
        targets = torch.full((len(events), *self._target_shape), NONE)
        seconds = torch.full((len(events),), math.nan, dtype=torch.float64)
        targets[there] = self._events["target"][events[there]]
        seconds[there] = self._events["seconds"][events[there]]
        return targets, seconds

    def events(self, first: int = 0) -> list[dict[str, Any]]:
        """The ledger from an event on, as plain values by name.

        ``score``, ``seconds`` and ``supersedes``, the position of an event, are None where an event
        has none.
        """
        columns = {key: plain(key, values[first:]) for key, values in self._events.items()}
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
        for number, event in enumerate(events, self.num_events):
            check_plain(number, event)
        rows = {key: column(key, [event[key] for event in events]) for key in COLUMNS}
        if not events:
            rows["target"] = rows["target"].view((0, *self._target_shape))
        self._append(rows, [event["annotator"] for event in events])
