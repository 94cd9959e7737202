"""Simulated people who are wrong now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from dal.data.source import Source, Split, is_known
from dal.oracles.base import Answers, Oracle
from dal.oracles.wrapped import Draws, Wrapped
from dal.utils.inputs import tensors_of

__all__ = ["Noisy"]

Confused = Literal["evenly", "similar"]
LOOKED_AT = 100
"""So many samples of a class tell which other classes it looks like."""


class Noisy(Wrapped):
    """Gives a wrong answer with a probability of its own for each class.

    This is the noise of people: it comes with the answers, and another person, or the same one
    asked again, errs anew. Wrong labels that are in the pool, for everybody and at all times, are
    `dal.data.Noisy`.

    Samples of none of the classes and abstentions stay what they are. Of several labels each is
    given wrongly by itself.

    Args:
        of: The oracle whose answers these are.
        class_names: The C class names.
        multilabel: A sample may have any number of the labels.
        seed: Decides the draws.
        accuracy: Share of right answers, in [0, 1]; of several labels, of each.
        confused: Where errors go: to all other classes ``evenly``; or to ``similar`` ones, whose
            mean input is near: to the nearest class twice as many as to the next, and so on. No
            part in multi-label tasks.
        confusion: In place of both: (C, C) numbers, each row the shares of the answers where its
            class is true, in the order of the class names. Multi-label (2, 2), the first row for a
            label that does not hold.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        of: Oracle,
        class_names: tuple[str, ...],
        multilabel: bool = False,
        seed: int = 0,
        accuracy: float = 0.8,
        confused: Confused = "evenly",
        confusion: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__(of, seed)
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy={accuracy} of a noisy oracle; give a share, from 0 to 1")
        if confused not in ("evenly", "similar"):
            raise ValueError(f"confused={confused} of a noisy oracle; give evenly or similar")
        size = 2 if multilabel else len(class_names)
        self._similar = confused == "similar" and confusion is None and not multilabel
        self._accuracy = accuracy
        if confusion is None:
            self._confusion = _with_errors(accuracy, torch.ones(size, size, dtype=torch.float64))
        else:
            self._confusion = _checked(confusion, size)

    def open(self, source: Source) -> None:
        """Take the data, to see which classes are alike where that is asked for."""
        super().open(source)
        if self._similar:
            shares = similar(source.train, source.num_classes)
            self._confusion = _with_errors(self._accuracy, shares)

    def change(self, answers: Answers, draws: Draws) -> Answers:
        """Some answers are exchanged for others."""
        targets = answers.targets.clone()
        columns = targets[:, None] if targets.ndim == 1 else targets
        known = ~answers.abstained
        for number, column in enumerate(columns.unbind(1)):
            there = known & (column >= 0)
            drawn = draws.uniform(f"label {number}")
            column[there] = _said(self._confusion, column[there], drawn[there])
        return replace(answers, targets=targets)


def similar(train: Split, num_classes: int) -> Tensor:
    """How the errors on a class are shared out among the others, the more the more alike.

    Args:
        train: The samples; `LOOKED_AT` of each class tell its mean input.
        num_classes: C.

    Returns:
        float64, (C, C): a row sums to 1 with a diagonal of 0; the class whose mean is nearest gets
        twice the share of the next, and so on. Even where a class has no sample.
    """
    means, known = [], is_known(train.targets)
    for number in range(num_classes):
        found = ((train.targets == number) & known).nonzero().squeeze(1)[:LOOKED_AT]
        if not len(found):
            return _evenly(num_classes)
        parts = [part.double().flatten(1) for part in tensors_of(train.prepare(train.raw(found)))]
        means.append(torch.cat(parts, 1).mean(0))
    away = torch.cdist(torch.stack(means), torch.stack(means)).fill_diagonal_(torch.inf)
    rank = away.argsort(dim=1, stable=True).argsort(1).double()
    shares: Tensor = torch.pow(0.5, rank).fill_diagonal_(0)
    return shares / shares.sum(1, keepdim=True)


def _evenly(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.float64).fill_diagonal_(0) / max(size - 1, 1)


def _with_errors(accuracy: float, shares: Tensor) -> Tensor:
    """A confusion matrix (C, C) from the share of right answers, and where the errors go."""
    errors = shares.clone().fill_diagonal_(0)
    errors = (1 - accuracy) * errors / errors.sum(1, keepdim=True).clamp(min=1e-300)
    return errors + torch.diag(1 - errors.sum(1))


def _said(confusion: Tensor, true: Tensor, drawn: Tensor) -> Tensor:
    """int64, (b,): what is said of a true class, int64 (b,), by a number in [0, 1)."""
    steps = confusion.cumsum(1)[true]
    return (drawn[:, None] >= steps).sum(1).clamp(max=len(confusion) - 1)


def _checked(confusion: Sequence[Sequence[float]], size: int) -> Tensor:
    lengths = {len(row) for row in confusion}
    if len(confusion) != size or lengths != {size}:
        raise ValueError(
            f"confusion of a noisy oracle has {len(confusion)} rows of {sorted(lengths)} numbers; "
            f"give {size} of {size}, a row for each true class"
        )
    matrix = torch.tensor(confusion, dtype=torch.float64)
    sums = matrix.sum(1)
    if not bool((matrix >= 0).all() and (sums - 1).abs().max() < 1e-6):
        raise ValueError(
            "confusion of a noisy oracle: each row holds shares of 0 or more that sum to 1; the "
            f"rows sum to {', '.join(f'{total:g}' for total in sums.tolist())}"
        )
    return matrix
