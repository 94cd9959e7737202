"""Scores of NumPy arrays and lists: those of tensors, whatever the score."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from dal import query
from dal.query import entropy, instability, margin

SHAPES = {
    "probs_NC": (7, 3),
    "probs_NL": (7, 3),
    "risk_NC": (7, 3),
    "grad_norms_NC": (7, 3),
    "features_ND": (7, 5),
    "decision_NC": (7, 3),
    "members_KNC": (4, 7, 3),
    "targets_KMC": (4, 5, 3),
    "history_TNC": (4, 7, 3),
}
SCORES = [
    name
    for name in query.__all__
    if inspect.isfunction(getattr(query, name))
    and set(inspect.signature(getattr(query, name)).parameters) & set(SHAPES)
    and name != "batchbald"  # which takes a generator besides, and is below
]


def given(name: str) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    wanted = inspect.signature(getattr(query, name)).parameters
    arrays = {key: rng.random(SHAPES[key]) for key in wanted if key in SHAPES}
    return {k: a / a.sum(-1, keepdims=True) for k, a in arrays.items()}


@pytest.mark.parametrize("name", SCORES)
def test_score_of_arrays_is_that_of_tensors(name: str) -> None:
    score, arrays = getattr(query, name), given(name)
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    want = score(**tensors)
    for got in (score(**arrays), score(*arrays.values())):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_every_exported_score_is_tried() -> None:
    functions = [name for name in query.__all__ if inspect.isfunction(getattr(query, name))]
    # Those of several arrays of different kinds have tests of their own.
    assert {*SCORES, "activelab", "batchbald"} == set(functions)


def test_batchbald_of_an_array() -> None:
    members, keys = given("bald")["members_KNC"], np.linspace(0, 1, 7)

    def chosen(members_KNC: Any, keys: Any) -> Any:
        return query.batchbald(members_KNC, 3, torch.Generator().manual_seed(0), keys)

    want = chosen(torch.from_numpy(members), torch.from_numpy(keys))
    got = chosen(members, keys)
    assert all(torch.equal(a, b) for a, b in zip(got[:2], want[:2], strict=True))


def test_a_list_of_rows_and_float32() -> None:
    rows = [[0.5, 0.5], [1.0, 0.0]]
    torch.testing.assert_close(entropy(rows).tolist(), [np.log(2), 0.0])  # type: ignore[arg-type]
    assert entropy(np.array(rows, np.float32)).dtype == torch.float32  # type: ignore[arg-type]
    assert margin(np.array(rows)[::-1]).tolist() == [-1, 0]  # type: ignore[arg-type]


def test_options_are_passed_on_and_what_is_no_number_is_refused() -> None:
    history = given("instability")["history_TNC"]
    got = instability(history, "kl")  # type: ignore[arg-type]
    assert torch.equal(got, instability(torch.from_numpy(history), distance="kl"))
    with pytest.raises(TypeError, match="entropy is a ndarray of type <U1; give a tensor"):
        entropy(np.array([["a"]]))  # type: ignore[arg-type]
