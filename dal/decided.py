"""What the events of a ledger say of each sample, as pure functions on its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dal.consensus import Consensus, Votes
from dal.events import GUESSES, NONE, ORIGINS, is_one_of


def decided(
    events: Mapping[str, Tensor], annotators: Sequence[str], consensus: Consensus | None
) -> tuple[Tensor, Tensor]:
    """What is known of the samples that have a label, in the order of first labeling.

    The latest answer of each annotator who could tell stands; a guess does where there is no
    answer. What people say of samples that are measured by plays no part in the other labels, so
    that no model learns from it, not even by how much each person is believed.

    Args:
        events: The columns of a ledger.
        annotators: Who each event comes from.
        consensus: Makes one of several answers; None takes the latest.

    Returns:
        int64, (M,), the latest event that bears on each sample; int64, (M,) or (M, C), its target.
    """
    index, targets = events["index"], events["target"]
    guessed, last = is_one_of(events["origin"], GUESSES), latest_events(events)
    told, answers = ~events["abstained"][last], index[~guessed]
    if len(answers) == len(torch.unique(answers)):
        bearing = last[told]
        found = targets[bearing]
    else:
        votes, who = votes_of(events, annotators)
        samples, place = torch.unique(index[votes], return_inverse=True)
        voted = torch.isin(index[last], samples)
        bearing = last[voted | (told & guessed[last])]
        voted = torch.isin(index[bearing], samples)
        at = torch.searchsorted(samples, index[bearing[voted]])
        bearing[voted] = _highest(place, votes, len(samples))[at]
        found = targets[bearing]
        if consensus is not None and len(votes):
            given = Votes(index[votes], who, targets[votes])
            agreed = consensus(given).targets.clone()
            audits = index[events["origin"] == ORIGINS.index("audit")]
            learned, of_learned = (~torch.isin(n, audits) for n in (samples, given.samples))
            if learned.any() and not learned.all():
                agreed[learned] = consensus(given.where(of_learned)).targets
            found[voted] = agreed[at]
    return bearing, found


def measured(
    events: Mapping[str, Tensor], bearing: Tensor, found: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The samples that are measured by, in the order of their first answers.

    Args:
        events: The columns of a ledger.
        bearing: int64, (m,); with ``found`` what `decided` gives of those that have a label.
        found: int64, (m,) or (m, C).

    Returns:
        See `dal.pool.Pool.audits`.
    """
    of_audit = events["origin"] == ORIGINS.index("audit")
    first = (of_audit & (events["supersedes"] == NONE)).nonzero().squeeze(1)
    samples, known = events["index"][first], events["index"][bearing]
    targets = torch.full((len(samples), *found.shape[1:]), NONE)
    rows, labels = (samples[:, None] == known).nonzero().unbind(1)
    targets[rows] = found[labels]
    return samples, targets, events["score"][first]


def votes_of(events: Mapping[str, Tensor], annotators: Sequence[str]) -> tuple[Tensor, Tensor]:
    """int64, (V,), the answers that stand, in order, and (V,), a number for who gave each."""
    answers = (~is_one_of(events["origin"], GUESSES)).nonzero().squeeze(1)
    numbers: dict[str, int] = {}
    who = torch.tensor([numbers.setdefault(annotators[n], len(numbers)) for n in answers.tolist()])
    pairs = events["index"][answers] * len(numbers) + who
    pairs, place = torch.unique(pairs, return_inverse=True)
    stands = _highest(place, torch.arange(len(answers)), len(pairs)).sort().values
    stands = stands[~events["abstained"][answers[stands]]]
    return answers[stands], who[stands]


def latest_events(events: Mapping[str, Tensor]) -> Tensor:
    """int64: the latest event of each sample, in the order of their first ones."""
    index, supersedes = events["index"], events["supersedes"]
    is_last = torch.ones(len(index), dtype=torch.bool)
    is_last[supersedes[supersedes != NONE]] = False
    first, last = (supersedes == NONE).nonzero().squeeze(1), is_last.nonzero().squeeze(1)
    # Every sample has one of each, so that sorting both by sample pairs them.
    first, last = first[index[first].argsort()], last[index[last].argsort()]
    return last[first.argsort()]


def _highest(places: Tensor, values: Tensor, count: int) -> Tensor:
    """int64, (count,): the highest of the values at each place, 0 to count - 1; each has one."""
    return torch.zeros(count, dtype=torch.int64).scatter_reduce(
        0, places, values, "amax", include_self=False
    )
