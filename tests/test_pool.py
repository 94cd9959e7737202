"""The pool ledger."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.consensus import CONSENSUS, Decided, Votes
from dal.events import ORIGINS, Origin
from dal.pool import REJECTED, Pool


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
    assert (pool.num_unlabeled, len(pool.train_set()), pool.num_queried) == (3, 0, 0)
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
    assert (pool.num_unlabeled, len(pool.train_set()), pool.num_queried) == (5, 4, 3)


def test_counts_are_what_was_paid_and_what_is_learned_from() -> None:
    pool = pool_of_ten()
    assert pool.counts() == {
        "labels": 5, "queried": 3, "cost": 1 + 1 + 2 + 3 + 1, "trained_on": 4, "pseudo": 0
    }  # fmt: skip
    pool.label(1, ints(5), ints(0), origin="pseudo", weight=torch.tensor([0.1]))
    pool.label(1, ints(6), ints(0), origin="audit", cost=torch.tensor([0.5]))
    assert pool.counts() == {
        "labels": 6, "queried": 4, "cost": 8.5, "trained_on": 5, "pseudo": 1
    }  # fmt: skip
    assert pool.train_set().weights.tolist()[-1] == pytest.approx(0.1)


def test_another_label_supersedes_the_one_before_and_is_paid_for_too() -> None:
    pool = pool_of_ten()
    seconds = torch.tensor([4.5, math.nan])
    pool.label(
        2, ints(2, 9), ints(1, 0), origin="oracle", again=True, seconds=seconds, annotator="eva"
    )
    pool.label(3, ints(9), ints(2), origin="oracle", again=True, annotator="max")
    assert pool.train_set().indices.tolist() == [7, 2, 9, 0]
    assert pool.train_set().targets.tolist() == [1, 1, 2, 1]
    assert pool.unlabeled_idx.tolist() == [1, 3, 5, 6, 8]
    assert (pool.labels, pool.num_queried, len(pool.train_set())) == (8, 6, 4)
    events = pool.events()
    assert [event["supersedes"] for event in events] == [None] * 5 + [1, 2, 6]
    assert [event["annotator"] for event in events if event["index"] == 9] == ["anna", "eva", "max"]
    assert [event["seconds"] for event in events][5:] == [4.5, None, None]


def test_abstention_may_be_answered_later_and_an_answer_taken_back() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(4), ints(2), origin="oracle", again=True)
    assert pool.train_set().indices.tolist() == [7, 2, 9, 4, 0]
    unsure = torch.tensor([True])
    pool.label(1, ints(7), ints(1), origin="oracle", again=True, abstained=unsure)
    assert pool.train_set().indices.tolist() == [2, 9, 4, 0]
    assert pool.events()[-1]["target"] == -1
    assert pool.queries()[-1] == [1, 7, None, -1]


def test_pseudo_labels_leave_candidates_and_give_way_to_answers() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(5, 6, 8), ints(0, 1, 2), origin="pseudo")
    pool.label(2, ints(5), ints(1), origin="pseudo")
    withdrawn = torch.tensor([True])
    pool.label(2, ints(6), ints(-1), origin="pseudo", abstained=withdrawn)
    assert pool.unlabeled_idx.tolist() == [1, 3, 5, 6, 8]
    assert pool.train_set().indices.tolist() == [7, 2, 9, 0, 5, 8]
    assert pool.train_set().targets.tolist()[-2:] == [1, 2]
    assert pool.counts()["pseudo"] == 2
    pool.label(2, ints(6, 8), ints(0, 0), origin="oracle")
    assert pool.unlabeled_idx.tolist() == [1, 3, 5]
    assert pool.train_set().indices.tolist() == [7, 2, 9, 0, 5, 6, 8]
    assert (pool.labels, pool.num_queried, pool.counts()["pseudo"]) == (7, 5, 1)


def test_made_samples_are_no_candidates() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(10, 12), ints(0, 1), origin="synthetic")
    assert (pool.num_unlabeled, pool.labels, len(pool.train_set())) == (5, 7, 6)
    pool.label(1, ints(12), ints(2), origin="synthetic", again=True, annotator="eva")
    assert pool.train_set().indices.tolist() == [7, 2, 9, 0, 10, 12]
    assert pool.train_set().targets.tolist()[-2:] == [0, 2]
    assert (pool.num_unlabeled, pool.labels, len(pool.train_set())) == (5, 8, 6)
    assert pool.num_answers(ints(9, 10, 11, 12)).tolist() == [1, 1, 0, 2]
    assert [query[1] for query in pool.queries()][-3:] == [10, 12, 12]


def test_samples_that_arrive_are_asked_about_and_are_no_candidates() -> None:
    pool = Pool(3, arriving=True)
    pool.label(0, ints(1), ints(0), origin="initial")
    pool.label(0, ints(3, 7), ints(1, 0), origin="oracle")
    assert (pool.num_unlabeled, pool.labels, pool.num_queried) == (2, 3, 2)
    assert pool.train_set().indices.tolist() == [1, 3, 7]
    with pytest.raises(ValueError, match=r"lie in \[0, 3\), 4 does not"):
        pool.label(1, ints(4), ints(0), origin="initial")
    other = Pool(3, arriving=True)
    other.extend(pool.events())
    assert other.events() == pool.events()


@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        (5, {"origin": "oracle", "again": True}, "sample 5 has no label yet"),
        (55, {"origin": "oracle", "again": True}, "sample 55 has no label yet"),
        (9, {"origin": "pseudo", "again": True}, "sample 9 has been labeled already; no guess"),
        (9, {"origin": "pseudo"}, "sample 9 has been labeled already"),
        (9, {"origin": "synthetic"}, "made samples are numbered from 10 on, not 9"),
        (5, {"origin": "synthetic"}, "made samples are numbered from 10 on, not 5"),
        (5, {"origin": "oracle", "cost": torch.tensor([-1.0])}, "cost -1; give a finite"),
        (5, {"origin": "oracle", "cost": torch.tensor([math.nan])}, "cost nan; give a finite"),
        (5, {"origin": "oracle", "weight": torch.tensor([math.inf])}, "weight inf; give a finite"),
        (5, {"origin": "oracle", "seconds": torch.tensor([-0.5])}, "seconds -0.5; give a finite"),
        (5, {"origin": "oracle", "seconds": torch.tensor([math.inf])}, "seconds inf; give"),
        (5, {"origin": "oracle", "seconds": torch.ones(2)}, r"seconds has shape \(2,\) for 1"),
        (5, {"origin": "oracle", "annotator": ["eva", "max"]}, "2 annotators for 1 indices"),
    ],
)
def test_events_that_make_no_sense_are_refused(
    index: int, options: dict[str, Any], message: str
) -> None:
    pool = pool_of_ten()
    before = pool.events()
    with pytest.raises(ValueError, match=message):
        pool.label(1, ints(index), ints(0), **options)
    assert pool.events() == before
    assert pool.counts() == pool_of_ten().counts()


def test_label_of_a_sample_twice_at_once_is_refused() -> None:
    pool = pool_of_ten()
    with pytest.raises(ValueError, match="sample 9 occurs twice"):
        pool.label(1, ints(9, 9), ints(0, 1), origin="oracle", again=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supersedes": 0}, "event 5 supersedes event 0, not the latest of sample 9: that is"),
        ({"supersedes": 7}, "event 5 supersedes event 7, not the latest of sample 9: that is"),
        ({"supersedes": None}, "sample 9 has been labeled already"),
        ({"index": 5}, "event 5 supersedes event 2, not the latest of sample 5: there is none"),
        ({"index": -1, "supersedes": None}, r"lie in \[0, 10\), -1 does not"),
    ],
)
def test_events_that_continue_no_chain_are_refused(changes: dict[str, Any], message: str) -> None:
    pool = pool_of_ten()
    pool.label(1, ints(9), ints(1), origin="oracle", again=True)
    *before, last = pool.events()
    fresh = Pool(10)
    fresh.extend(before)
    with pytest.raises(ValueError, match=message):
        fresh.extend([last | changes])
    fresh.extend([last])
    assert fresh.events() == pool.events()


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


TOTAL = 6
PAID = ("initial", "oracle", "audit", "synthetic")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ORIGINS),
        st.booleans(),
        st.lists(
            st.tuples(st.integers(0, TOTAL + 2), st.integers(0, 3), st.booleans()), max_size=3
        ),
    ),
    max_size=12,
)


class PlainLedger:
    """What a ledger is, by definition: a list of events, and questions asked of all of it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def of(self, index: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event["index"] == index]

    def allows(self, origin: str, again: bool, indices: list[int]) -> bool:
        if len(set(indices)) < len(indices):
            return False
        for chain, index in ((self.of(index), index) for index in indices):
            guessed = chain and chain[-1]["origin"] not in PAID
            if not chain and (again or (index >= TOTAL) != (origin == "synthetic")):
                return False
            if chain and not guessed and (not again or origin not in PAID):
                return False
        return True

    def free(self, position: int) -> bool:
        """A correction of an answer, at no cost: it is not paid for."""
        event = self.events[position]
        before = [e["origin"] for e in self.events[:position] if e["index"] == event["index"]]
        return event["cost"] == 0 and bool(before) and before[-1] in PAID

    def trained_on(self) -> list[dict[str, Any]]:
        in_order = dict.fromkeys(event["index"] for event in self.events)
        latest = [self.of(index)[-1] for index in in_order]
        audited = {event["index"] for event in self.events if event["origin"] == "audit"}
        return [e for e in latest if not e["abstained"] and e["index"] not in audited]


def test_answers_of_several_at_once_and_the_free_correction_of_one() -> None:
    pool = pool_of_ten()
    people = ["eva", "max", "eva", "eva"]
    pool.label(1, ints(5, 5, 6, 9), ints(1, 2, 0, 1), origin="oracle", again=None, annotator=people)
    assert [event["supersedes"] for event in pool.events(5)] == [None, 5, None, 2]
    assert pool.num_queried == 3 + 4
    free = torch.zeros(1)
    pool.label(2, ints(5), ints(0), origin="oracle", again=None, cost=free, annotator="eva")
    assert (pool.labels, pool.num_queried, pool.num_events) == (9, 7, 10)
    pool.label(2, ints(6), ints(0), origin="oracle", again=None, cost=free, annotator="gift")
    assert (pool.labels, pool.num_queried, pool.num_events) == (10, 8, 11)
    # The latest answer of each counts; eva's correction is the latest of all.
    train_set = pool.train_set()
    found = dict(zip(train_set.indices.tolist(), train_set.targets.tolist(), strict=True))
    assert (found[5], found[6], found[9]) == (0, 0, 1)
    latest = pool.latest_answers()
    assert latest[5, "eva"] == 9
    assert latest[5, "max"] == 6


def test_none_of_the_classes_is_an_answer_and_no_abstention() -> None:
    pool = pool_of_ten()
    pool.label(1, ints(5, 6, 7), ints(REJECTED, 2, REJECTED), origin="oracle", again=None)
    assert pool.rejected_idx.tolist() == [7, 5]
    assert pool.train_set().indices.tolist() == [2, 9, 0, 6]
    assert pool.unlabeled_idx.tolist() == [1, 3, 8]
    assert pool.counts()["rejected"] == 2
    assert not any(event["abstained"] for event in pool.events(5))
    assert pool.queries()[-1] == [1, 7, None, REJECTED]
    pool.label(2, ints(5), ints(1), origin="oracle", again=True)
    assert pool.rejected_idx.tolist() == [7]


def test_a_consensus_is_given_the_answers_that_stand() -> None:
    given: list[list[list[int]]] = []

    def smallest(votes: Votes) -> Decided:
        given.append([column.tolist() for column in vars(votes).values()])
        samples = votes.samples.unique()
        found = [votes.targets[votes.samples == sample].min() for sample in samples]
        return Decided(samples, torch.stack(found), torch.ones(len(samples)))

    pool = Pool(10, consensus=smallest)
    pool.label(0, ints(7, 2), ints(1, 0), origin="initial")
    pool.label(1, ints(3), ints(2), origin="pseudo")
    assert pool.train_set().targets.tolist() == [1, 0, 2]
    assert given == []  # nobody has anything to agree on
    unsure = torch.tensor([False, False, False, True, False])
    pool.label(
        1,
        ints(5, 5, 7, 5, 8),
        ints(2, 1, 2, 0, 2),
        origin="oracle",
        again=None,
        abstained=unsure,
        annotator=["eva", "max", "eva", "tom", "eva"],
    )
    assert pool.train_set().indices.tolist() == [7, 2, 3, 5, 8]
    assert pool.train_set().targets.tolist() == [1, 0, 2, 1, 2]
    assert given[0] == [[7, 2, 5, 5, 7, 8], [0, 0, 1, 2, 1, 1], [1, 0, 2, 1, 2, 2]]
    pool.label(2, ints(5), ints(0), origin="oracle", again=None, annotator="max")
    assert pool.train_set().targets.tolist() == [1, 0, 2, 0, 2]
    pool.label(2, ints(8), ints(1), origin="audit", again=None, annotator="max")
    assert pool.train_set().indices.tolist() == [7, 2, 3, 5]


@pytest.mark.parametrize("rule", CONSENSUS)
def test_labels_to_learn_from_are_decided_without_answers_to_measure_by(rule: str) -> None:
    def labels(ann_is_right: bool) -> Pool:
        pool, names = Pool(100, consensus=CONSENSUS[rule]), ["ann", "eve", "bob"]
        disputed = [(index, who) for index in range(6) for who in names[:2]]
        said = ints(*((index + (who == "eve")) % 2 for index, who in disputed))
        told = {"again": None, "origin": "oracle", "annotator": [who for _, who in disputed]}
        pool.label(0, ints(*(index for index, _ in disputed)), said, **told)
        wrong = names[1] if ann_is_right else names[0]
        asked = [(index, who) for index in range(50, 80) for who in names]
        said = ints(*((index + (who == wrong)) % 2 for index, who in asked))
        told |= {"origin": "audit", "annotator": [who for _, who in asked]}
        pool.label(0, ints(*(index for index, _ in asked)), said, **told)
        return pool

    one, other = labels(True), labels(False)
    assert one.train_set().targets.tolist() == other.train_set().targets.tolist()
    if rule != "latest":  # two of three, whoever they are
        assert one.audits()[1].tolist() == [index % 2 for index in range(50, 80)]


def test_what_was_spent_in_labels_cost_and_minutes() -> None:
    pool = pool_of_ten()
    seconds = torch.tensor([30.0, math.nan])
    cost = torch.tensor([0.5, 0.25])
    pool.label(1, ints(5, 6), ints(0, 1), origin="audit", seconds=seconds, cost=cost)
    assert pool.spent("labels") == 5
    assert pool.spent("cost") == pytest.approx(2 + 3 + 1 + 0.75)
    assert pool.spent("minutes") == pytest.approx(0.5)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_ledger_equals_its_definition(
    steps: list[tuple[Origin, bool, list[tuple[int, int, bool]]]],
) -> None:
    pool, plain = Pool(TOTAL), PlainLedger()
    for number, (origin, again, answers) in enumerate(steps):
        indices = [index for index, _, _ in answers]
        targets = ints(*(target for _, target, _ in answers))
        abstained = torch.tensor([unsure for _, _, unsure in answers], dtype=torch.bool)
        cost = torch.tensor([0.1 * index for index in indices], dtype=torch.float64)
        arguments = {"origin": origin, "again": again, "abstained": abstained, "cost": cost}
        if not plain.allows(origin, again, indices):
            with pytest.raises(ValueError, match=r"sample|made samples|indices must lie"):
                pool.label(number, ints(*indices), targets, **arguments)
            continue
        pool.label(number, ints(*indices), targets, **arguments)
        plain.events += [
            {"round": number, "index": index, "target": target, "origin": origin,
             "abstained": unsure, "cost": 0.1 * index}
            for index, target, unsure in answers
        ]  # fmt: skip
    again_read = Pool(TOTAL)
    again_read.extend(through_json(pool)[: len(steps)])
    again_read.extend(through_json(pool, len(steps)))
    assert again_read.events() == pool.events()
    trained_on = plain.trained_on()
    paid = [e for n, e in enumerate(plain.events) if e["origin"] in PAID and not plain.free(n)]
    asked = {event["index"] for event in paid}
    for ledger in (pool, again_read):
        train_set = ledger.train_set()
        assert train_set.indices.tolist() == [event["index"] for event in trained_on]
        assert train_set.targets.tolist() == [event["target"] for event in trained_on]
        assert ledger.unlabeled_idx.tolist() == [i for i in range(TOTAL) if i not in asked]
        assert ledger.num_unlabeled == len(ledger.unlabeled_idx)
        assert len(ledger.train_set()) == len(trained_on)
        assert ledger.counts() == {
            "labels": len(paid),
            "queried": sum(event["origin"] != "initial" for event in paid),
            "cost": pytest.approx(sum(event["cost"] for event in plain.events)),
            "trained_on": len(trained_on),
            "pseudo": sum(event["origin"] == "pseudo" for event in trained_on),
        }
    for position, event in enumerate(pool.events()):
        before = [n for n in range(position) if plain.events[n]["index"] == event["index"]]
        assert event["supersedes"] == (before[-1] if before else None)
        target = -1 if event["abstained"] else plain.events[position]["target"]
        assert event["target"] == target


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
        assert (ledger.num_queried, len(ledger.train_set())) == (3, 2)


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


@pytest.mark.parametrize(
    "change",
    [
        {"index": "1"}, {"index": 1.5}, {"index": True}, {"index": None}, {"index": 10**30},
        {"target": "a"}, {"target": None}, {"target": [0, "1"]}, {"origin": "guess"}, {"origin": 1},
        {"abstained": 2}, {"cost": "1"}, {"cost": 10**400}, {"score": "high"}, {"seconds": "3"},
        {"supersedes": 1.5}, {"round": None}, {"annotator": None}, {"annotator": ["eva"]},
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused_by_event_and_name(change: dict[str, Any]) -> None:
    pool = Pool(9)
    pool.label(0, torch.tensor([1, 2]), torch.tensor([0, 1]), origin="initial")
    first, second = pool.events()
    (key,) = change
    with pytest.raises(ValueError, match=f"event 1 of the ledger has {key}=.*; restore it"):
        Pool(9).extend([first, second | change])
    del second[key]
    with pytest.raises(ValueError, match=f"event 1 of the ledger lacks {key}, .*; restore it"):
        Pool(9).extend([first, second])


def test_answers_are_counted_whatever_they_say() -> None:
    pool = Pool(4)
    pool.label(0, torch.tensor([0]), torch.tensor([1]), origin="pseudo")
    pool.label(0, torch.tensor([1, 2]), torch.tensor([1, 1]), origin="initial")
    gone = torch.tensor([True, False])
    both = torch.tensor([2, 2])
    names = ["ann", "bob"]
    pool.label(
        1, both, torch.ones(2).long(), origin="oracle", again=None, abstained=gone, annotator=names
    )
    assert pool.num_answers(torch.tensor([3, 2, 1, 0])).tolist() == [0, 3, 1, 0]
