"""How far a label can be trusted that several people and a model have a say in (CROWDLAB).

The numbers are those of ``cleanlab.multiannotator`` 2.9, by authors of the paper; the code is ours.
The temperature alone differs: there, the counts of a sample's labels are filled in from class 0 on
where some class has none (`value_counts`, given floats), so that it is fitted to other classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURES = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
"""Where the search for the temperature begins; between the neighbors of the best it is refined."""
FINE = 4
"""Parts that each of the two intervals beside the best of them is divided in."""
TINY = 1e-30
"""Stands for a probability of 0, whose logarithm is infinite."""
FLOOR = 1e-6
"""The least weight, and the least error of a constant guess."""


@dataclass(frozen=True)
class Quality:
    """What is known of samples that people have labeled.

    Attributes:
        consensus: int64, (M,), the label of each.
        quality: float64, (M,), in [0, 1], the probability that it is right.
        annotators: float64, (A,), how much an answer of each annotator weighs.
        model: How much the model's prediction weighs.
        temperature: What the logarithms of the model's probabilities are to be divided by.
    """

    consensus: Tensor
    quality: Tensor
    annotators: Tensor
    model: float
    temperature: float


def crowd_quality(said_MA: Tensor, probs_MC: Tensor) -> Quality:
    """Consensus labels of samples and their quality, from answers and a model's predictions.

    Annotators weigh as much as they agree with others, the model as much as with the consensus,
    both beyond what the most frequent class alone would reach. Where no sample has two answers
    nothing of that is known, and all weigh 1.

    Args:
        said_MA: int64, (M, A), the class that each annotator gave each sample, -1 for none; every
            sample and every annotator has one at least.
        probs_MC: float, (M, C), of models that have not seen the labels, if possible.

    Reference:
        H. W. Goh, U. Tkachenko and J. Mueller. CROWDLAB: supervised learning to infer consensus
        labels and quality scores for data with multiple annotators. arXiv:2210.06812, 2022.
    """
    given, probs = said_MA >= 0, probs_MC.double()
    count = given.sum(1)
    if bool((count == 1).all()):
        consensus = said_MA.amax(1)
        quality = probs.gather(1, consensus[:, None]).squeeze(1)
        return Quality(consensus, quality, torch.ones(said_MA.shape[1]).double(), 1.0, 1.0)
    temperature = best_temperature(said_MA, probs)
    probs = tempered(probs, temperature)
    majority = _majority(said_MA, probs)
    posterior, *_ = _posterior(said_MA, probs, majority)
    best = posterior == posterior.amax(1, keepdim=True)
    consensus = torch.where(best.sum(1) == 1, posterior.argmax(1), majority)
    posterior, annotators, model = _posterior(said_MA, probs, consensus)
    quality = posterior.gather(1, consensus[:, None]).squeeze(1)
    return Quality(consensus, quality, annotators, model, temperature)


def tempered(probs_NC: Tensor, temperature: float) -> Tensor:
    """Probabilities whose logarithms are divided by a temperature; float64, (N, C)."""
    return (probs_NC.double().clamp(min=TINY).log() / temperature).softmax(1)


def best_temperature(said_MA: Tensor, probs_MC: Tensor) -> float:
    """The temperature at which the model's probabilities fit the answers best, of 17 at most."""
    shares = _votes(said_MA, probs_MC.shape[1])
    shares = shares / shares.sum(1, keepdim=True)

    def misfit(temperature: float) -> float:
        found = (probs_MC.double().log() / temperature).softmax(1).clamp(min=TINY)
        return float(-(shares * found.log()).sum(1).mean())

    def best(temperatures: list[float]) -> int:
        values = torch.tensor([misfit(each) for each in temperatures], dtype=torch.float64)
        return int(values.argmin())

    coarse = list(TEMPERATURES)
    at, fine = best(coarse), list[float]()
    if at > 0:
        step = (coarse[at] - coarse[at - 1]) / FINE
        fine += [coarse[at - 1] + k * step for k in range(FINE)]
    if at < len(coarse) - 1:
        step = (coarse[at + 1] - coarse[at]) / FINE
        fine += [coarse[at] + k * step for k in range(FINE + 1)]
    return fine[best(fine)]


def _votes(said_MA: Tensor, classes: int) -> Tensor:
    """How many gave each sample each class: float64, (M, C)."""
    return (said_MA[:, :, None] == torch.arange(classes)).double().sum(1)


def _majority(said_MA: Tensor, probs_MC: Tensor) -> Tensor:
    """The most frequent answer; of a tie, what the model holds likelier, then the rarer class.

    Then what those said who agree more with the majorities elsewhere, then the smaller number.
    """
    votes = _votes(said_MA, probs_MC.shape[1])
    tied = _highest(votes, votes > 0)
    tied = _highest(probs_MC, tied)
    tied = _highest(-votes.sum(0).expand_as(votes), tied)
    clear = tied.sum(1) == 1
    label = tied.double().argmax(1)
    if not bool(clear.all()) and bool(clear.any()):
        right = (said_MA == label[:, None])[clear].double().sum(0)
        trust = right / (said_MA >= 0)[clear].double().sum(0)
        trust = trust.nan_to_num(nan=float(trust.nanmean()))
        gave = (said_MA[:, :, None] == torch.arange(votes.shape[1])).double()
        label = _highest((gave * trust[:, None]).sum(1) / votes, tied).double().argmax(1)
    return label


def _highest(values_MC: Tensor, among_MC: Tensor) -> Tensor:
    """bool, (M, C): where the largest of some values of each row stand."""
    values = values_MC.masked_fill(~among_MC, -torch.inf)
    return (values == values.amax(1, keepdim=True)) & among_MC


def _posterior(said_MA: Tensor, probs_MC: Tensor, label_M: Tensor) -> tuple[Tensor, Tensor, float]:
    """Probabilities of the classes, and the weights of annotators and model, given the labels.

    Returns:
        float64, (M, C); float64, (A,); the model's.
    """
    given, classes = said_MA >= 0, probs_MC.shape[1]
    count = given.sum(1)
    several = count > 1
    label = label_M[several]
    agreeing = (said_MA == label_M[:, None]).sum(1) / count
    likelihood = float(agreeing[several].double().mean())
    common = torch.bincount(label, minlength=classes).argmax()
    error = max(float((label != common).double().mean()), FLOOR)
    annotators = (1 - (1 - _agreement(said_MA)) / error).clamp(min=FLOOR)
    missed = float((probs_MC[several].argmax(1) != label).double().mean())
    model = max(1 - missed / error, FLOOR) * float(count.double().mean().sqrt())
    other = (1 - likelihood) / (classes - 1)
    weights = given.double() * annotators
    said = (said_MA[:, :, None] == torch.arange(classes)).double()
    chances = (weights[:, :, None] * (said * likelihood + (1 - said) * other)).sum(1)
    return (chances + model * probs_MC) / (weights.sum(1) + model)[:, None], annotators, model


def _agreement(said_MA: Tensor) -> Tensor:
    """How often others gave the same label as each annotator: float64, (A,), in [0, 1].

    Samples weigh as much as they have other answers. Who shares none gets the mean of those who do.
    """
    given, people = said_MA >= 0, range(said_MA.shape[1])
    votes = torch.stack([(said_MA == said_MA[:, a, None]).sum(1) - 1 for a in people], 1)
    others = ((given.sum(1) - 1)[:, None] * given).double().sum(0)
    agreement = (votes * given).double().sum(0) / others
    return agreement.nan_to_num(nan=float(agreement.nanmean()))
