"""What several people say of a sample, made one label.

Answers come in long form, one an annotator and sample, in order of time. Whoever abstained has no
vote and is not among them; "none of these classes" is one more class. A label that nobody gave a
sample is never decided on, so that the only answer of a sample is its label, whatever the rule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PERSON, ROW = 4.0, 2.0
"""Answers that the assumptions of `fit_crowd` weigh as much as: that a person is right as often as
the crowd, and that a person's errors of each true class go to all others alike."""

STEPS, SETTLED = 1000, 1e-5
"""Steps of EM at most, and the largest change of a probability that ends it."""

EQUAL = 1e-9
"""Probabilities that differ by less are tied."""
_TINY = 1e-10
"""What stands for a count, or a frequency, of nothing, so that its logarithm is finite."""


@dataclass(frozen=True)
class Votes:
    """Answers, in order of time; the latest of each annotator on each sample.

    Attributes:
        samples: int64, (V,), any numbers.
        annotators: int64, (V,), any numbers.
        targets: int64, (V,), class numbers, negative ones are classes too; or (V, C), 0 or 1.
    """

    samples: Tensor
    annotators: Tensor
    targets: Tensor

    def where(self, mask: Tensor) -> Votes:
        """Those where a mask, bool (V,), holds."""
        return Votes(self.samples[mask], self.annotators[mask], self.targets[mask])

    def label(self, number: int) -> Votes:
        """What multi-label answers say of one label: classes 0 and 1."""
        return Votes(self.samples, self.annotators, self.targets[:, number])


@dataclass(frozen=True)
class Decided:
    """One label a sample.

    Attributes:
        samples: int64, (M,), those that have an answer, ascending.
        targets: int64, (M,) or (M, C).
        confidence: float64, (M,), in (0, 1]: how sure the label is; of several labels, the least.
    """

    samples: Tensor
    targets: Tensor
    confidence: Tensor


Consensus = Callable[[Votes], Decided]


def latest(votes: Votes) -> Decided:
    """The answer that came last; its confidence is the share of the answers that agree with it."""
    samples, place = torch.unique(votes.samples, return_inverse=True)
    last = _last(place, len(samples))
    targets = votes.targets[last]
    same = votes.targets == targets[place]
    agree = (same if same.ndim == 1 else same.all(1)).double()
    return Decided(samples, targets, _mean(agree, place, len(samples)))


def majority(votes: Votes) -> Decided:
    """The answer that most people gave, label by label; of a tie the one that was given last.

    Its confidence is the share of the answers that agree with it.
    """
    if votes.targets.ndim == 2:
        return _by_label(majority, votes)
    samples, place = torch.unique(votes.samples, return_inverse=True)
    classes, said = torch.unique(votes.targets, return_inverse=True)
    # One row a sample and class that somebody gave it, ascending: samples first.
    pairs, of, counts = torch.unique(
        place * len(classes) + said, return_inverse=True, return_counts=True
    )
    rank = counts * len(of) + _last(of, len(pairs))
    owner = pairs // max(len(classes), 1)
    best = torch.full((len(samples),), -1).scatter_reduce(0, owner, rank, "amax")
    won = rank == best[owner]
    total = torch.bincount(place, minlength=len(samples))
    return Decided(
        samples, classes[pairs[won] % max(len(classes), 1)], counts[won] / total.double()
    )


@dataclass(frozen=True)
class Crowd:
    """What Dawid and Skene's model says of people, and of the samples that several of them saw.

    Attributes:
        annotators: int64, (A,), ascending, those who answered about such a sample.
        classes: int64, (K,), ascending, the classes that were answered.
        frequencies: float64, (K,), how often each is the true class.
        confusion: float64, (A, K, K), the probability that a person says the class of a column
            where that of the row is true.
        samples: int64, (S,), ascending, those with several answers.
        probs: float64, (S, K), that each class is the true one.
        steps: How many steps of EM were taken.
        settled: Whether they came to rest.
    """

    annotators: Tensor
    classes: Tensor
    frequencies: Tensor
    confusion: Tensor
    samples: Tensor
    probs: Tensor
    steps: int
    settled: bool

    @property
    def quality(self) -> Tensor:
        """float64, (A,): how likely an answer of each is right, over all samples."""
        return (self.confusion.diagonal(dim1=1, dim2=2) * self.frequencies).sum(1)


def fit_crowd(votes: Votes, person: float = PERSON, row: float = ROW) -> Crowd:
    """How good each person is, and what is true, from answers alone: Dawid and Skene's EM.

    Each person has a confusion matrix. Only samples with several answers tell of it, and often
    there are few, so that a row of it starts from an assumption: that errors go to all other
    classes alike, and that a person is right as often as the whole crowd (itself counted from the
    answers). The fewer answers there are, the nearer the rule is to the majority. EM begins with
    the shares of the answers, so that what most people say is what a class means, and every step
    is a function of the answers: no draw.

    Cost: a step takes V·K numbers, for K classes that were answered; the matrices are A·K².

    Args:
        votes: Answers of one class each.
        person: So many answers weighs the assumption that a person is as good as the crowd.
        row: So many answers of each true class weighs that a person's errors are spread evenly.
            With 0 and 0 it is the model as published.

    Reference:
        Dawid and Skene. Maximum likelihood estimation of observer error-rates using the EM
        algorithm. Applied Statistics 28, 1979. The assumptions are those of Paun et al. Comparing
        Bayesian models of annotation. TACL 2018 (hierarchical priors), as pseudo-counts.
    """
    count = torch.unique(votes.samples, return_inverse=True, return_counts=True)
    votes = votes.where(count[2][count[1]] > 1)
    samples, s = torch.unique(votes.samples, return_inverse=True)
    annotators, a = torch.unique(votes.annotators, return_inverse=True)
    classes, said = torch.unique(votes.targets, return_inverse=True)
    size, people = len(classes), len(annotators)
    cell, own = a * size + said, torch.arange(len(said))
    answers = torch.bincount(a, minlength=people).double()
    probs = torch.zeros(len(samples), size, dtype=torch.float64)
    probs.index_put_((s, said), torch.ones(len(s), dtype=torch.float64), accumulate=True)
    probs /= probs.sum(1, keepdim=True)
    frequencies, rates, change, steps = probs.mean(0), torch.empty(0), 1.0, 0
    while len(samples) and change > SETTLED and steps < STEPS:
        seen = probs[s]
        told = torch.zeros(people * size, size, dtype=torch.float64).index_add_(0, cell, seen)
        right = torch.zeros(people, dtype=torch.float64).index_add_(0, a, seen[own, said])
        crowd = (right.sum() + 1) / (answers.sum() + 2)
        assumed = _one_coin((right + person * crowd) / (answers + person), size)
        told = told.view(people, size, size).transpose(1, 2) + row * assumed  # (A, true, said)
        told = told.clamp(min=_TINY)
        rates = told / told.sum(2, keepdim=True)
        frequencies = (probs.sum(0) + 1) / (len(samples) + size) if row else probs.mean(0)
        likely = frequencies.clamp(min=_TINY).log().repeat(len(samples), 1)
        likely.index_add_(0, s, rates.transpose(1, 2).reshape(-1, size).log()[cell])
        new = likely.softmax(1)
        change, probs, steps = float((new - probs).abs().max()), new, steps + 1
    settled = change <= SETTLED or not len(samples)
    return Crowd(annotators, classes, frequencies, rates, samples, probs, steps, settled)


def dawid_skene(votes: Votes, person: float = PERSON, row: float = ROW) -> Decided:
    """The likeliest of the classes that people gave, each answer weighed by how good its person is.

    `fit_crowd` says how, and what the numbers are; multi-label answers are weighed label by label.
    Of equally likely ones it is the one that was given last. The confidence is the label's
    probability; of a sample with one answer, how often its person is right, or the mean person
    where nothing tells of that one.
    """
    if votes.targets.ndim == 2:
        return _by_label(partial(dawid_skene, person=person, row=row), votes)
    decided, crowd = majority(votes), fit_crowd(votes, person, row)
    if not crowd.settled:
        log.warning(
            "Dawid and Skene's EM has not come to rest after %d steps; its last labels are taken",
            crowd.steps,
        )
    if not len(crowd.samples):
        return decided
    quality = crowd.quality
    known = torch.isin(votes.annotators, crowd.annotators)
    who = torch.searchsorted(crowd.annotators, votes.annotators.contiguous()).clamp(
        max=len(quality) - 1
    )
    trust = torch.where(known, quality[who], quality.mean())
    place = torch.searchsorted(decided.samples, votes.samples.contiguous())
    targets = decided.targets.clone()
    confidence = torch.zeros(len(targets), dtype=torch.float64).index_copy_(0, place, trust)
    # Of samples with several answers, the likeliest of those given.
    several = torch.isin(votes.samples, crowd.samples)
    shared = votes.where(several)
    of = torch.searchsorted(crowd.samples, shared.samples)
    probs = crowd.probs[of, torch.searchsorted(crowd.classes, shared.targets)]
    best = torch.zeros(len(crowd.samples), dtype=torch.float64)
    best.scatter_reduce_(0, of, probs, "amax")
    tied = probs > best[of] - EQUAL
    last = tied.nonzero().squeeze(1)[_last(of[tied], len(crowd.samples))]
    there = torch.searchsorted(decided.samples, crowd.samples)
    targets[there], confidence[there] = shared.targets[last], best
    return Decided(decided.samples, targets, confidence)


CONSENSUS: Mapping[str, Consensus] = {
    "latest": latest,
    "majority": majority,
    "dawid_skene": dawid_skene,
}
"""The rules by their names in the settings."""


def _by_label(rule: Consensus, votes: Votes) -> Decided:
    """A rule for one class a sample, applied to each label by itself."""
    parts = [rule(votes.label(number)) for number in range(votes.targets.shape[1])]
    confidence = torch.stack([part.confidence for part in parts], 1).amin(1)
    return Decided(parts[0].samples, torch.stack([part.targets for part in parts], 1), confidence)


def _last(groups: Tensor, count: int) -> Tensor:
    """int64, (count,): the last position of each group, which all occur."""
    places = torch.arange(len(groups))
    return torch.full((count,), -1).scatter_reduce(0, groups, places, "amax")


def _mean(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """float64, (count,): the mean of each group."""
    sizes = torch.bincount(groups, minlength=count)
    return torch.bincount(groups, values, minlength=count) / sizes


def _one_coin(right: Tensor, size: int) -> Tensor:
    """float64, (A, K, K): matrices of people who are right so often, (A,), and err evenly."""
    wrong = ((1 - right) / max(size - 1, 1))[:, None, None].expand(-1, size, size)
    return torch.where(torch.eye(size, dtype=torch.bool), right[:, None, None], wrong)
