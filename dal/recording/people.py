"""What a run's ledger says of the people who answered: ``people.json``."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dal.agreement import krippendorff_alpha, shared
from dal.consensus import Votes, fit_crowd
from dal.data.class_names import target_name
from dal.data.source import Source, is_known
from dal.events import GUESSES
from dal.pool import REJECTED, Pool
from dal.recording.run_directory import RunDirectory

PEOPLE = "people.json"
_SIMULATOR = "dal.oracles.SimulatedOracle"
HELD = ("not held", "held")
"""What an answer says of one label where a sample may have several."""


def keep_people(
    directory: RunDirectory, pool: Pool, source: Source, config: Mapping[str, Any]
) -> None:
    """Write `people_of`, unless the simulator alone answered, of which there is nothing to say.

    Raises:
        OSError: The disk is full or not writable.
    """
    target = (config.get("oracle") or {}).get("_target_", _SIMULATOR)
    people = people_of(pool, source)
    if set(people["people"]) - {"simulated"} or (people["people"] and target != _SIMULATOR):
        directory.write(PEOPLE, json.dumps(people, indent=1) + "\n")


def people_of(pool: Pool, source: Source) -> dict[str, Any]:
    """Everybody who answered: how much, how fast, and how well.

    Args:
        pool: The ledger.
        source: The data, for names, and for the labels that it has itself.

    Returns:
        ``people``, by name: ``answers``; ``abstained``, ``rejected``, how many of them gave no
        label, or said none of the classes; ``cost``; ``seconds`` of ``timed`` answers;
        ``agreed``, with how many of the labels decided on, of ``shared`` samples that others
        answered too (multi-label: of their labels); ``right``, how many were the data's own label,
        of ``known``; ``quality``, how likely an answer is right by Dawid and Skene's model, None
        where nobody answered the same; ``confusion``, label decided on, label said and how often,
        on shared samples. And for all of them ``alpha``, Krippendorff's, or None; ``right``, labels
        decided on that are the data's own, of ``known``; ``several``, samples with several answers.
        What was asked to measure by plays no part in what is decided on; its answers count in all
        that is not said of labels decided on, ``quality``, ``alpha`` and ``several`` among it.
    """
    events = [e for e in pool.events() if e["origin"] not in GUESSES and e["annotator"]]
    names = sorted({event["annotator"] for event in events})
    index, decided = _decided(pool)
    votes = _votes(events, names, decided.shape[1:])
    several = shared(votes)
    crowd = _quality(several)
    alpha = krippendorff_alpha(votes)
    answered = torch.isin(index, votes.samples)
    return {
        "people": {
            name: _counts([e for e in events if e["annotator"] == name])
            | _hits(votes.where(votes.annotators == n), source)
            | _agreed(several.where(several.annotators == n), index, decided, source)
            | {"quality": crowd.get(n)}
            for n, name in enumerate(names)
        },
        "several": len(torch.unique(several.samples)),
        "alpha": None if math.isnan(alpha) else alpha,
        **_hits(Votes(index, index, decided).where(answered), source),
    }


def _votes(
    events: Sequence[Mapping[str, Any]], names: Sequence[str], shape: Sequence[int]
) -> Votes:
    """The latest answer of everybody on each sample, without abstentions."""
    number = {name: n for n, name in enumerate(names)}
    latest: dict[tuple[int, int], Mapping[str, Any]] = {}
    for event in events:
        key = event["index"], number[event["annotator"]]
        latest.pop(key, None)  # the later one stands at its own place in time
        latest[key] = event
    told = {key: event["target"] for key, event in latest.items() if not event["abstained"]}
    samples, annotators = torch.tensor(list(told)).long().view(-1, 2).T.contiguous()
    targets = torch.tensor(list(told.values())).long().view(-1, *shape)
    return Votes(samples, annotators, targets)


def _decided(pool: Pool) -> tuple[Tensor, Tensor]:
    """The samples with a label that was decided on, ascending, and their targets."""
    labels, rejected = pool.train_set().answers(), pool.rejected_idx
    indices = torch.cat([labels.indices, rejected])
    shape = (len(rejected), *labels.targets.shape[1:])
    none = torch.full(shape, REJECTED if labels.targets.ndim == 1 else 0)
    order = indices.argsort()
    return indices[order], torch.cat([labels.targets, none])[order]


def _counts(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    timed = [event["seconds"] for event in events if event["seconds"] is not None]
    return {
        "answers": len(events),
        "abstained": sum(event["abstained"] for event in events),
        "rejected": sum(event["target"] == REJECTED for event in events),
        "cost": sum(event["cost"] for event in events),
        "seconds": sum(timed),
        "timed": len(timed),
    }


def _hits(votes: Votes, source: Source) -> dict[str, int]:
    """How many answers are the data's own labels, of those where that is known."""
    inside = votes.samples < len(source.train)
    votes = votes.where(inside)
    own = source.train.targets[votes.samples]
    known = is_known(own)
    same = votes.targets[known] == own[known]
    return {"right": int(same.sum()), "known": same.numel()}


def _agreed(votes: Votes, index: Tensor, decided: Tensor, source: Source) -> dict[str, Any]:
    """How one person's answers stand to what was decided on."""
    votes = votes.where(torch.isin(votes.samples, index))
    truth = decided[torch.searchsorted(index, votes.samples)]
    said = votes.targets.flatten().tolist()
    pairs = Counter(zip(truth.flatten().tolist(), said, strict=True))
    names = source.class_names if votes.targets.ndim == 1 else HELD
    listed = [
        [target_name(true, names), target_name(answer, names), count]
        for (true, answer), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]
    agreed = sum(count for (true, answer), count in pairs.items() if true == answer)
    return {"agreed": agreed, "shared": len(said), "confusion": listed}


def _quality(votes: Votes) -> dict[int, float]:
    """How likely an answer of each is right; of several labels, their mean."""
    found = defaultdict(list)
    columns = votes.targets.shape[1] if votes.targets.ndim == 2 else 0
    for part in [votes.label(n) for n in range(columns)] if columns else [votes]:
        crowd = fit_crowd(part)
        if len(crowd.samples):
            for who, quality in zip(crowd.annotators.tolist(), crowd.quality.tolist(), strict=True):
                found[who].append(quality)
    return {who: sum(values) / len(values) for who, values in found.items()}
