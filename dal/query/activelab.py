"""ActiveLab: whom to ask once more, and whom for the first time, by what an answer is worth."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.query.base import PoolView, Query, Strategy, check_need
from dal.query.crowd_quality import crowd_quality, tempered
from dal.query.logistic import Logistic
from dal.query.needs import AnswersSoFar, Features, Labels, Needs, Probs
from dal.query.selection import check_size, random_keys, top_k


def activelab(said_MA: Tensor, probs_MC: Tensor, candidates_NC: Tensor) -> tuple[Tensor, Tensor]:
    """How far samples with and without labels are from being settled.

    −((Σ w_a + w_m) q + w̄ / C) / (Σ w_a + w_m + w̄), with q the quality of a sample's consensus, w_a
    the weights of those who answered, w_m the model's, and w̄ the mean of all annotators'. Without
    labels the model's largest probability stands for q, and no annotator weighs in. See
    `crowd_quality`.

    Args:
        said_MA: int64, (M, A), the class that each annotator gave each sample, -1 for none; every
            sample and every annotator has one at least.
        probs_MC: float, (M, C), the model's predictions of these samples.
        candidates_NC: float, (N, C), those of samples without labels.

    Returns:
        float64, (M,) and (N,), in [-1, 0]; higher means that an answer is worth more.

    Reference:
        H. W. Goh and J. Mueller. ActiveLab: active learning with re-labeling by multiple
        annotators. arXiv:2301.11856, 2023, equations 1 to 5.
    """
    classes = candidates_NC.shape[1]
    if not len(said_MA):
        return torch.empty(0).double(), -(candidates_NC.double().amax(1) + 1 / classes) / 2
    found = crowd_quality(said_MA, probs_MC)
    mean = float(found.annotators.mean())
    known = ((said_MA >= 0).double() * found.annotators).sum(1) + found.model
    labeled = (known * found.quality + mean / classes) / (known + mean)
    best = tempered(candidates_NC, found.temperature).amax(1)
    return -labeled, -(found.model * best + mean / classes) / (found.model + mean)


class ActiveLab(Strategy):
    """Ask where an answer is worth most: about new samples, or once more about labeled ones.

    Helps where people err and a second answer costs as much as a first: labels that people and
    model doubt are asked again before they mislead the model. Where people hardly err, it spends
    little on that, and is least confidence otherwise. O(M (A C + A²)) besides the predictions.

    Predictions of labeled samples should come from models that have not seen their labels, since a
    network that knows its labels by heart doubts none. So a logistic regression on the model's
    features predicts all samples, fold by fold; ``folds=0`` takes the model's own predictions.

    Args:
        folds: Of the labeled samples; each is predicted by what was fitted on the others. 0 for
            the model's own predictions.
        most: Answers of a sample that has no more asked of it; None for any number.

    Raises:
        ValueError: A setting is out of range.

    Reference:
        H. W. Goh and J. Mueller. ActiveLab: active learning with re-labeling by multiple
        annotators. arXiv:2301.11856, 2023.

    Differs from the paper: ties go to random keys; the classifier is not cross-validated as a
    whole, only the regression on its features.
    """

    tasks = frozenset({"multiclass"})

    def __init__(self, folds: int = 5, most: int | None = None) -> None:
        if folds != 0 and folds < 2:
            raise ValueError(f"strategy.folds={folds}; give 2 or more, or 0 for the model's own")
        if most is not None and most < 1:
            raise ValueError(f"strategy.most={most} must be at least 1")
        self.folds, self.most = folds, most
        own: Needs = frozenset({Probs(), Probs("labeled")})
        features: Needs = frozenset({Features(), Features("labeled"), Labels()})
        self.needs = frozenset({AnswersSoFar()}) | (features if folds else own)

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """The highest scores of both kinds; see `activelab`."""
        check_size(query_size, len(view))
        view, need = view.ascending(), Features() if self.folds else Probs()
        check_need(view[need], view.indices, need, type(self).__name__)
        keys = random_keys(view.num_total, rng)
        labeled, candidates = self._predicted(view, rng)
        rows, samples, said = _table(view[AnswersSoFar()])
        again, first = activelab(said, labeled[rows], candidates)
        if self.most is not None:
            again = again.masked_fill((said >= 0).sum(1) >= self.most, -torch.inf)
        scores = torch.cat([first, again])
        indices = torch.cat([view.indices.cpu(), samples])
        places, tied = top_k(scores, query_size, keys[indices])
        new = places < len(first)
        return Query(
            indices[places[new]],
            scores[places[new]],
            {"tied": tied},
            pool_scores=first,
            again=indices[places[~new]],
        )

    def _predicted(self, view: PoolView, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Probabilities of the labeled samples and of the candidates, on the CPU."""
        if not self.folds:
            return view[Probs("labeled")].cpu(), view[Probs()].cpu()
        rows, labels = view[Features("labeled")].cpu(), view[Labels()].cpu()
        return _held_out(rows, labels, view[Features()], view.num_classes, self.folds, rng)


def _held_out(
    rows_MD: Tensor,
    labels_M: Tensor,
    candidates_ND: Tensor,
    classes: int,
    folds: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Predictions of labeled samples by regressions without them, of others by the mean of all.

    Every class is spread over the folds. Of a sample alone nothing is known.
    """
    count, shuffled = len(labels_M), torch.randperm(len(labels_M), generator=rng)
    fold = torch.empty(count, dtype=torch.int64)
    fold[shuffled[labels_M[shuffled].argsort(stable=True)]] = torch.arange(count) % folds
    labeled = torch.full((count, classes), 1 / classes, dtype=torch.float64)
    others = torch.zeros(len(candidates_ND), classes, dtype=torch.float64)
    folds = min(folds, count)
    if folds < 2:
        return labeled, others + 1 / classes
    for number in range(folds):
        own = fold == number
        fitted = Logistic(rows_MD[~own], labels_M[~own])
        labeled[own] = fitted.probs_of_all(rows_MD[own], classes)
        others += fitted.probs_of_all(candidates_ND, classes) / folds
    return labeled, others


def _table(answers_A4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `AnswersSoFar` say, by samples and annotators.

    Returns:
        int64, (M,), ascending rows among the labeled samples; (M,), the samples; (M, A), the class
        that each annotator gave each, -1 for none.
    """
    row, sample, who, target = answers_A4.cpu().unbind(1)
    rows, place = torch.unique(row, return_inverse=True)
    people, column = torch.unique(who, return_inverse=True)
    said = torch.full((len(rows), len(people)), -1)
    said[place, column] = target
    samples = torch.empty_like(rows)
    samples[place] = sample
    return rows, samples, said
