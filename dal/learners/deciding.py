"""On which predictions the thresholds of several labels are fitted.

On those of the validation part, or of labels held out. Where there are neither, each label is
predicted by a model that learned from the others: ``FOLDS`` parts of the labels, each left out of
one fit (cross-fitting), and all of these predictions taken together. So no model is judged by what
it learned, and no label is lost to it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dal.data.source import Source
from dal.task import Task
from dal.train_set import TrainSet
from dal.training.trainer import Trainer

FOLDS = 5


def check_fittable(task: Task, trainer: Trainer, source: Source) -> None:
    """Refuse thresholds where there is nothing to fit them on.

    Raises:
        TypeError: A sample has one class, so no thresholds decide.
        ValueError: Nothing is held out, and fits are too long to be done again.
    """
    if task.exclusive:
        task.fitted(torch.empty(0, task.num_classes), torch.empty(0))  # says why
    if not (source.validation or source.validation_of_labels or trainer.is_cheap):
        raise ValueError(
            "thresholds=fitted has no validation part to fit them on; set split.validation=0.1 or "
            "split.validation_of_labels=0.2, or choose trainer=lbfgs, whose fits are short enough "
            "to be done again on parts of the labels"
        )


def cross_predicted(
    train_set: TrainSet,
    fit_and_predict: Callable[[TrainSet, TrainSet], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Logits of all labels, each by a model that did not learn from it.

    Args:
        train_set: M labels; guesses among them are learned from by all fits, and not asked about.
        fit_and_predict: Given some of them and the others, the logits of these by a model fitted
            to those.
        generator: Of the parts.

    Returns:
        float, (M, C), those of the answers, in their order; (0, C) for a single one, which leaves
        none to learn from.
    """
    answers = (~train_set.is_guess).nonzero().squeeze(1)
    guesses = train_set.is_guess.nonzero().squeeze(1)
    count = len(answers)
    if count < 2:
        return torch.empty(0, *train_set.targets.shape[1:])
    order = torch.randperm(count, generator=generator)
    parts = answers[order].tensor_split(min(FOLDS, count))
    found = []
    for number, part in enumerate(parts):
        rest = torch.cat([*parts[:number], *parts[number + 1 :], guesses]).sort().values
        found.append(fit_and_predict(train_set.part(rest), train_set.part(part)))
    return torch.cat(found)[order.argsort()]
