"""Runs in which people say of samples that they are none of the classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rejecting import Rejecting

import dal
from dal.data import Dataset, make_source
from dal.models import MLP
from dal.models.estimators import svm
from dal.query import Margin, Pure, Strategy
from dal.training.trainer import Trainer

RNG = torch.Generator().manual_seed(0)
CENTERS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
CLASSES = torch.arange(300) % 3
INPUTS = CENTERS[CLASSES] + torch.randn(300, 3, generator=RNG)
SOURCE = make_source(Dataset("gaussians", INPUTS, CLASSES, ("a", "b", "junk")), seed=0)
TARGETS = SOURCE.train.targets
JUNK = 2
INITIAL = torch.cat([(c == TARGETS).nonzero().squeeze(1)[:4] for c in (0, 1)])


def run(strategy: Strategy, budget: int, model: Any = MLP) -> dal.Result:
    return dal.run(
        SOURCE,
        model,
        strategy,
        initial=INITIAL,
        trainer=Trainer(epochs=30),
        oracle=Rejecting(TARGETS, JUNK),
        settings=dal.Settings(budget=budget, query_size=10, threads=1, figures=False),
    )


def picks(result: dal.Result, round_number: int) -> list[int]:
    return [i for r, i, *_ in result.job.pool.queries() if r == round_number]


@pytest.mark.parametrize("model", [MLP, svm])
def test_less_is_asked_about_junk_where_the_answers_are_used(model: Any) -> None:
    plain, pure = (run(strategy, 60, model) for strategy in (Margin(), Pure(Margin())))
    assert picks(plain, 0) == picks(pure, 0)  # nothing had been rejected
    wasted = [sum(row.get("query/wasted", 0) for row in r.rows) for r in (plain, pure)]
    assert wasted == [len(r.job.pool.rejected_idx) for r in (plain, pure)]
    assert wasted[1] < 0.6 * wasted[0]
    assert [row["query/pure"] < 220 for row in pure.rows[1:-1]] == [True] * 5
