"""How far people agree with each other."""

from __future__ import annotations

import math

import torch

from dal.consensus import Votes


def of_labels(votes: Votes) -> Votes:
    """Answers of one class each: of several labels, one of 0 or 1 on each.

    A pair of sample and label is a sample then, numbered ``sample * C + label``.
    """
    if votes.targets.ndim == 1:
        return votes
    count, labels = votes.targets.shape
    samples = votes.samples[:, None] * labels + torch.arange(labels)
    annotators = votes.annotators.repeat_interleave(labels)
    return Votes(samples.flatten(), annotators, votes.targets.reshape(count * labels))


def shared(votes: Votes) -> Votes:
    """The answers about samples that several people answered."""
    _, place, counts = torch.unique(votes.samples, return_inverse=True, return_counts=True)
    return votes.where(counts[place] > 1)


def krippendorff_alpha(votes: Votes) -> float:
    """Agreement beyond chance of any number of people, each on any of the samples.

    1 where all agree, 0 where they agree as often as if the answers had been dealt out at random,
    below 0 where they agree more seldom; NaN where no sample has two answers, or all answers are
    the same class. For two people who answer all samples it is near Cohen's kappa, for many near
    Fleiss' kappa.

    Args:
        votes: Answers; of label sets, each label counts as a sample of its own.

    Returns:
        1 - D_o / D_e: disagreeing pairs of answers about one sample, each sample's weighed by
        1 / (answers - 1), over those expected of all answers.

    Reference:
        Krippendorff. Computing Krippendorff's alpha-reliability. 2011, nominal data, section C.
    """
    votes = shared(of_labels(votes))
    if not len(votes.samples):
        return math.nan
    _, place = torch.unique(votes.samples, return_inverse=True)
    classes, said = torch.unique(votes.targets, return_inverse=True)
    pairs, counts = torch.unique(place * len(classes) + said, return_counts=True)
    answers = torch.bincount(place).double()
    alike = counts.double() * (counts - 1)
    agreeing = torch.bincount(pairs // len(classes), alike, minlength=len(answers))
    observed = float(((answers * (answers - 1) - agreeing) / (answers - 1)).sum())
    total, each = len(said), torch.bincount(said).double()
    expected = float((total * total - (each * each).sum()) / (total - 1))
    return 1 - observed / expected if expected else math.nan
