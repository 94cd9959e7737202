"""Whether a strategy's labels taught more than random ones, told from the labels of an audit.

The labels that were drawn at random to measure by are what a run of random queries would have asked
for. So a model that learns from a part of them stands beside one that learns from as many of the
strategy's, and both are asked about the rest, part after part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal import risk
from dal.journals import LEDGER, Journals
from dal.learners import RoundContext
from dal.pool import is_rejected
from dal.recording.samples import Known
from dal.runs.parts import Parts
from dal.runs.replay import config_of_ended, data_of, parts_of
from dal.runs.spool import with_added
from dal.train_set import TrainSet
from dal.utils.numerics import own_threads
from dal.utils.seeding import generator

FOLDS = 5
FEWEST = 10
"""Audit labels below which nothing could be seen."""


@dataclass(frozen=True)
class Shadow:
    """Two models beside each other, asked about labels that neither learned from.

    Attributes:
        initial: Labels that both learned from.
        beside: Labels that each learned from besides, in the smallest and the largest part.
        strategy: bool, (M,), which audit labels the model of the strategy's labels is right on.
        random: bool, (M,), the same of that of random labels.
        paid: What the largest part of the strategy's labels cost, and on average as many of the
            audit; answers that gave no label, to questions that came before, are in it.
    """

    initial: int
    beside: tuple[int, int]
    strategy: Tensor
    random: Tensor
    paid: tuple[float, float]

    @property
    def difference(self) -> tuple[float, float, float]:
        """By how much the strategy's is right more often, and the ends of its interval of 95 %."""
        halves = (self.strategy.double() - self.random.double() + 1) / 2
        ones = torch.ones(len(halves))
        low, high = risk.interval(halves, ones, ones.bool(), 1.0)
        return 2 * float(halves.mean()) - 1, 2 * low - 1, 2 * high - 1

    def in_words(self) -> str:
        """What was compared, what came out, and what it does not say."""
        found, low, high = self.difference
        count = len(self.strategy)
        least, most = self.beside
        more = f"{most}" if least == most else f"{least} to {most}"
        if low > 0:
            verdict = "at this size the strategy's labels taught more than random ones"
        elif high < 0:
            verdict = "at this size random labels taught more than the strategy's"
        else:
            verdict = "these labels do not tell which taught more"
        return (
            f"{self.initial} initial labels, and {more} more, by {count} audit labels that the "
            "model had not learned from:\n"
            f"  the first that the strategy asked for  {self.strategy.double().mean():8.1%} right\n"
            f"  random ones of the audit               {self.random.double().mean():8.1%} right\n"
            f"  difference                             {100 * found:+8.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}, 95 %)\n"
            f"paid, with answers that gave no label: {self.paid[0]:.6g} for the strategy's, "
            f"{self.paid[1]:.6g} for as many of the audit\n"
            f"{verdict}. The interval is about which samples were drawn for the audit. It says "
            "nothing of other seeds, nor of more labels: the strategy's later ones play no part."
        )


def shadow(run_dir: Path, folds: int = FOLDS, plugins: Sequence[str] = ()) -> Shadow:
    """Compare the strategy of a run with random queries.

    Args:
        run_dir: A run with labels that were drawn at random to measure by, and is not going on.
        folds: Parts of them, each asked about by models that learned from none of it; 2 models a
            part are fitted, on the CPU.
        plugins: Packages besides ``dal`` that the run may name.

    Raises:
        ValueError: The run does not tell, with the reason.
    """
    config = config_of_ended(run_dir)
    if config.get("audit_by", "random") != "random":
        raise ValueError(
            f"{run_dir} drew its audit where models doubted (audit_by={config['audit_by']}), so "
            "its labels are no random ones; make a run with audit_by=random to compare with those"
        )
    allow = tuple(plugins)
    settings, source = data_of(config, allow, Known.read(run_dir).listing)
    events = Journals(run_dir, source.fingerprint()).all_events()
    if events is None:
        raise ValueError(f"there is no {LEDGER} in {run_dir}; restore it")
    source = with_added(source, run_dir, events)
    fresh = partial(parts_of, config, allow, settings, source)
    parts = fresh()
    pool = parts.pool(events)
    indices, targets, _ = pool.audits()
    known = (targets >= 0).unsqueeze(1).flatten(1).all(1) & ~is_rejected(targets)
    audit = TrainSet(indices, targets, torch.ones(len(indices))).part(known.nonzero().squeeze(1))
    if len(audit) < FEWEST or not 2 <= folds <= len(audit):
        raise ValueError(
            f"{run_dir} has {len(audit)} labels to measure by, for {folds} parts; it takes "
            f"at least {FEWEST} labels, and 2 parts to as many as there are labels"
        )
    first = torch.tensor([e["index"] for e in events if e["origin"] == "initial"]).long()
    labels = pool.train_set().answers()
    given = torch.isin(labels.indices, first)
    places = given.nonzero().squeeze(1), (~given).nonzero().squeeze(1)
    initial, asked = labels.part(places[0]), labels.part(places[1])
    order = torch.randperm(len(audit), generator=generator(settings.seed, "shadow"))
    right, sizes = torch.zeros(2, len(audit), dtype=torch.bool), []
    with own_threads():
        torch.set_num_threads(settings.threads or torch.get_num_threads())
        for held in order.tensor_split(folds):
            rest = order[~torch.isin(order, held)]
            size = min(len(rest), len(asked))
            sizes.append(size)
            for row, more in enumerate((asked, audit.part(rest))):
                learned = _joined(initial, more.part(torch.arange(size)))
                right[row, held] = _right(fresh(), learned, audit.part(held))
    most = max(sizes)
    paid = (
        _cost(events, ("oracle", "synthetic"), asked.indices[:most]),
        _cost(events, ("audit",), indices),
    )
    beside, mean = (min(sizes), most), paid[1] / len(audit)
    return Shadow(len(initial), beside, right[0], right[1], (paid[0], most * mean))


def _cost(events: Sequence[Mapping[str, Any]], origins: Collection[str], indices: Tensor) -> float:
    """What was paid for some samples, and for those that were asked about before the last."""
    answers = [event for event in events if event["origin"] in origins]
    wanted, asked = set(indices.tolist()), list(dict.fromkeys(e["index"] for e in answers))
    until = max((place for place, index in enumerate(asked, 1) if index in wanted), default=0)
    paid_for = set(asked[:until])
    return sum(float(event["cost"]) for event in answers if event["index"] in paid_for)


def _joined(one: TrainSet, two: TrainSet) -> TrainSet:
    """The labels of both."""
    columns = ("indices", "targets", "weights")
    return TrainSet(*(torch.cat([getattr(one, name), getattr(two, name)]) for name in columns))


def _right(parts: Parts, labels: TrainSet, asked: TrainSet) -> Tensor:
    """bool, (m,): which of some labels a model is right on that is fitted as in the first round."""
    learned, held_out = parts.divided(labels, 0)
    learner, context = parts.learner, RoundContext(0, validation=held_out)
    learner.fit(learned, context)
    learner.decide(learned, context)
    logits = learner.predict(parts.source.train.part(asked.indices), RoundContext(0))
    return learner.task.correct(logits, asked.targets)
