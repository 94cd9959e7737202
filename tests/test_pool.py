"""The pool ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.pool import Pool


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def pool_of_ten() -> Pool:
    pool = Pool(10)
    pool.label(0, ints(7, 2), ints(1, 0), origin="initial")
    pool.label(
        0,
        ints(9, 4, 0),
        ints(2, -1, 1),
        origin="oracle",
        abstained=torch.tensor([False, True, False]),
        weight=torch.tensor([1.0, 1.0, 0.5]),
        cost=torch.tensor([2.0, 3.0, 1.0]),
        annotator="anna",
    )
    return pool


def test_an_empty_pool() -> None:
    pool = Pool(3)
    assert pool.unlabeled_idx.tolist() == [0, 1, 2]
    assert pool.unlabeled_idx.dtype == torch.int64
    assert (pool.num_unlabeled, pool.num_labeled, pool.num_queried) == (3, 0, 0)
    assert len(pool.train_set()) == 0


def test_train_set_is_in_the_order_of_labeling_without_abstentions() -> None:
    train_set = pool_of_ten().train_set()
    assert train_set.indices.tolist() == [7, 2, 9, 0]
    assert train_set.targets.tolist() == [1, 0, 2, 1]
    assert train_set.weights.tolist() == [1.0, 1.0, 1.0, 0.5]
    assert train_set.indices.dtype == train_set.targets.dtype == torch.int64
    assert train_set.weights.dtype == torch.float32


def test_abstentions_leave_the_pool_and_count_toward_the_budget() -> None:
    pool = pool_of_ten()
    assert pool.unlabeled_idx.tolist() == [1, 3, 5, 6, 8]
    assert pool.asked_mask.nonzero().squeeze(1).tolist() == [0, 2, 4, 7, 9]
    assert (pool.num_unlabeled, pool.num_labeled, pool.num_queried) == (5, 4, 3)


def test_labels_that_nobody_was_asked_for_are_not_in_the_budget() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(5), ints(0), origin="pseudo", weight=torch.tensor([0.1]))
    assert pool.num_queried == 3
    assert pool.train_set().weights.tolist()[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 10], r"lie in \[0, 10\)"),
        ([-1], r"lie in \[0, 10\)"),
        ([3, 5, 3], "occurs twice"),
        ([5, 4], "sample 4 has been labeled already"),
        ([7], "sample 7 has been labeled already"),
    ],
)
def test_wrong_indices_are_refused_and_change_nothing(indices: list[int], message: str) -> None:
    pool = pool_of_ten()
    before = pool.unlabeled_idx
    with pytest.raises(ValueError, match=message):
        pool.label(1, ints(*indices), ints(*[0] * len(indices)), origin="oracle")
    assert torch.equal(pool.unlabeled_idx, before)
    assert pool.num_queried == 3


@pytest.mark.parametrize("key", ["targets", "abstained", "cost", "weight"])
def test_arguments_of_another_length_are_refused(key: str) -> None:
    pool = pool_of_ten()
    arguments = {"targets": ints(0, 1), key: torch.ones(3, dtype=torch.int64)}
    with pytest.raises(ValueError, match=rf"{key.removesuffix('s')} has shape \(3,\) for 2"):
        pool.label(1, ints(3, 5), origin="oracle", **arguments)
    assert pool.num_unlabeled == 5


def test_an_unknown_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        Pool(3).label(0, ints(1), ints(0), origin="guess")  # type: ignore[arg-type]


def test_labeling_nothing_changes_nothing() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(), ints(), origin="oracle")
    assert pool.num_unlabeled == 5


def through_json(pool: Pool, first: int = 0) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(json.dumps(pool.events(first), allow_nan=False))
    return events


def test_events_survive_json() -> None:
    pool = pool_of_ten()
    scores = torch.tensor([0.1 + 0.2, -1e-300], dtype=torch.float64)
    cost = torch.tensor([0.1, 3.0])
    pool.label(4, ints(3, 5), ints(1, 0), origin="oracle", score=scores, cost=cost, annotator="eva")
    fresh = Pool(10)
    fresh.extend(through_json(pool))
    for one, other in zip(
        vars(fresh.train_set()).values(), vars(pool.train_set()).values(), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(fresh.unlabeled_idx, pool.unlabeled_idx)
    assert fresh.num_queried == pool.num_queried
    assert fresh.events() == pool.events()
    assert [event["annotator"] for event in fresh.events()] == ["", "", "anna", "anna", "anna"] + (
        ["eva"] * 2
    )
    assert [event["cost"] for event in fresh.events()][2:6] == [2.0, 3.0, 1.0, float(cost[0])]
    assert fresh.events(5)[0] == {
        "round": 4,
        "index": 3,
        "target": 1,
        "origin": "oracle",
        "abstained": False,
        "cost": float(cost[0]),
        "weight": 1.0,
        "score": 0.1 + 0.2,
        "seconds": None,
        "supersedes": None,
        "annotator": "eva",
    }


def test_events_can_be_taken_in_parts() -> None:
    pool, fresh = pool_of_ten(), Pool(10)
    fresh.extend(pool.events()[:2])
    fresh.extend(pool.events(2))
    fresh.extend(pool.events(5))
    assert fresh.events() == pool.events()


def test_queries_are_what_was_asked_in_order() -> None:
    pool = Pool(10)
    pool.label(0, ints(4), ints(1), origin="initial")
    for number, index in ((0, 7), (1, 2)):
        score = torch.tensor([index / 8], dtype=torch.float64)
        pool.label(number, ints(index), ints(-1 if number else 3), origin="oracle", score=score)
    assert pool.queries() == [[0, 7, 0.875, 3], [1, 2, 0.25, -1]]
    assert pool.queries(1) == [[1, 2, 0.25, -1]]
    assert pool.queries(2) == []


def test_events_of_another_pool_are_refused() -> None:
    pool = pool_of_ten()
    with pytest.raises(ValueError, match=r"indices must lie in \[0, 5\)"):
        Pool(5).extend(pool.events())
    with pytest.raises(ValueError, match="labeled already"):
        pool.extend(pool.events(4))


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(12)), st.lists(st.integers(1, 4), max_size=3))
def test_ledger_only_grows(order: list[int], sizes: list[int]) -> None:
    pool = Pool(12)
    asked: list[int] = []
    for round_number, size in enumerate(sizes):
        batch = order[len(asked) : len(asked) + size]
        pool.label(round_number, ints(*batch), ints(*batch), origin="oracle")
        asked += batch
        assert pool.train_set().indices.tolist() == asked
        assert pool.unlabeled_idx.tolist() == sorted(set(range(12)) - set(asked))
        assert pool.num_queried == len(asked)


def test_multilabel_rows_are_kept_and_saved() -> None:
    pool = Pool(10, num_labels=3)
    assert pool.train_set().targets.shape == (0, 3)
    rows = torch.tensor([[1, 0, 1], [-1, -1, -1], [0, 0, 0]])
    abstained = torch.tensor([False, True, False])
    pool.label(0, ints(7, 2, 5), rows, origin="oracle", abstained=abstained)
    again = Pool(10, num_labels=3)
    again.extend(through_json(pool))
    for ledger in (pool, again):
        assert ledger.train_set().indices.tolist() == [7, 5]
        assert ledger.train_set().targets.tolist() == [[1, 0, 1], [0, 0, 0]]
        assert (ledger.num_queried, ledger.num_labeled) == (3, 2)


@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 3), (2, 3, 1)])
def test_multilabel_targets_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    pool = Pool(10, num_labels=3)
    with pytest.raises(ValueError, match=r"target has shape .* give \(2, 3\)"):
        pool.label(0, ints(1, 2), torch.zeros(shape, dtype=torch.int64), origin="initial")


def test_events_of_other_targets_are_refused() -> None:
    rows = Pool(10, num_labels=3)
    rows.label(0, ints(1), torch.ones(1, 3, dtype=torch.int64), origin="initial")
    with pytest.raises(ValueError, match=r"target has shape \(1, 3\) for 1 indices; give \(1,\)"):
        Pool(10).extend(rows.events())
