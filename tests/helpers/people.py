"""Questions for simulated people."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.oracles import Answers, Oracle
from dal.query import Query


def ask(oracle: Oracle, indices: Tensor, before: Tensor | None = None) -> Answers:
    """The answers to one query."""
    query = Query(indices, torch.zeros(len(indices)), before=before)
    answers = oracle.collect(oracle.submit(query, 0))
    assert answers is not None
    return answers


def told(answers: Answers) -> dict[tuple[str, int], object]:
    """Of each person and sample what was said; None where nothing was."""
    names = answers.annotators or ["?"] * len(answers.indices)
    rows = zip(names, answers.indices.tolist(), answers.targets.tolist(), strict=True)
    held = zip(rows, answers.abstained.tolist(), strict=True)
    return {(who, index): None if gone else said for (who, index, said), gone in held}
