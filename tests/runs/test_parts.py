"""What a run is made of and where it stands, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from run_parts import INITIAL, SOURCE, parts

import dal
from dal.learners import RoundContext, Rounds
from dal.models import MLP
from dal.pool import REJECTED
from dal.query import BALD, Entropy, Instability, PoolView, Random, Strategy
from dal.query.needs import AnswersSoFar, Decision, History, Labels, Members, Need, Needs, Probs
from dal.runs.parts import Standing, digests
from dal.training.trainer import Trainer
from dal.utils.seeding import generator


def test_a_pick_takes_parts_and_standing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round by hand equals that of `dal.run`, with no oracle, recorder, keeper or directory."""
    monkeypatch.chdir(tmp_path)
    made = parts(Entropy(), settings={"batch_size": 64})
    standing = Standing.at_start(made)
    train_set = standing.pool.train_set()
    made.learner.fit(train_set, RoundContext())
    view = made.learner.scan(
        standing.candidates, made.scan_needs(made.strategy), RoundContext(), train_set
    )
    query = made.strategy.select(view, 6, generator(0, 0, "query"))
    settings = dal.Settings(query_size=6, budget=6, batch_size=64)
    result = dal.run(
        SOURCE, MLP, Entropy(), initial=INITIAL, trainer=Trainer(epochs=2), settings=settings
    )
    assert [index for _, index, *_ in result.job.pool.queries()] == query.indices.tolist()
    assert list(tmp_path.iterdir()) == []


def test_a_start_knows_the_initial_labels_and_nothing_else() -> None:
    standing = Standing.at_start(parts(Random()))
    assert standing.pool.train_set().indices.tolist() == INITIAL.tolist()
    assert standing.history.rounds == []
    assert len(standing.candidates) == standing.pool.num_unlabeled == len(SOURCE.train) - 9
    assert not standing.begun


@pytest.mark.parametrize(
    ("strategy", "committee", "kept", "answered"),
    [
        (Random(), Rounds(3), 0, {}),
        (Instability(window=4), Rounds(3), 4, {History(4): 4}),
        (BALD(), Rounds(3), 3, {Members(): 3}),
    ],
)
def test_needs_that_remembered_predictions_answer_are_not_asked_of_the_learner(
    strategy: Strategy, committee: Rounds, kept: int, answered: dict[Need, int]
) -> None:
    made = parts(strategy, committee=committee)
    assert made.remembered == kept
    assert made.from_history(strategy) == answered
    assert made.scan_needs(made.strategy) == (frozenset({Probs()}) if kept else frozenset())


def test_a_complete_history_is_kept_where_it_is_asked_for() -> None:
    made = parts(Random(), settings={"keep_history": True})
    assert made.remembered is None
    assert made.scan_needs(made.strategy) == {Probs()}


def test_strategy_that_the_learner_cannot_answer_is_refused() -> None:
    class Signed(Random):
        needs = frozenset({Decision()})

    with pytest.raises(TypeError, match="Signed"):
        parts(Signed())


def test_digests_tell_which_part_of_a_start_differs() -> None:
    made = parts(Random())
    first = digests(made, Standing.at_start(made))
    assert digests(parts(Entropy()), Standing.at_start(parts(Entropy()))) == first
    fewer = parts(Random(), settings={"candidates": 20})
    other = digests(fewer, Standing.at_start(fewer))
    assert {name for name in first if first[name] != other[name]} == {"candidates"}


def test_a_strategy_sees_who_said_what_of_labeled_samples_and_of_no_others() -> None:
    class Curious(Random):
        needs: Needs = frozenset({AnswersSoFar(), Labels()})

    made = parts(Curious())
    assert made.scan_needs(made.strategy) == frozenset()
    pool, standing = made.pool(), Standing.at_start(made)
    standing.pool = pool

    def say(round_number: int, who: str, answers: dict[int, int], **more: Any) -> None:
        indices, targets = torch.tensor([*answers]), torch.tensor([*answers.values()])
        pool.label(round_number, indices, targets, annotator=who, again=None, **more)

    say(0, "", {7: 0, 5: 1}, origin="initial")
    say(0, "ann", {9: 2, 11: 0, 13: REJECTED}, origin="oracle")
    say(1, "bob", {9: 1, 7: 2}, origin="oracle")
    say(1, "ann", {9: 1}, origin="oracle")  # a second thought
    say(1, "bob", {15: 0}, origin="audit")
    say(1, "bob", {17: 0, 11: 0}, origin="oracle", abstained=torch.tensor([True, True]))
    say(1, "model", {19: 0}, origin="pseudo")
    view = PoolView(standing.candidates, {}, num_total=pool.num_total, num_classes=3)
    view = standing.with_labels(view, made.strategy.needs)
    assert 19 in pool.train_set().indices.tolist()  # a guess is learned from, and is no label
    train_set = pool.train_set().answers()
    row_of = {index: row for row, index in enumerate(train_set.indices.tolist())}
    assert torch.equal(view[Labels()], train_set.targets)
    names = {"": 0, "ann": 1, "bob": 2}
    want = [("", 7, 0), ("", 5, 1), ("ann", 11, 0), ("bob", 9, 1), ("bob", 7, 2), ("ann", 9, 1)]
    said = {(row, index, who, target) for row, index, who, target in view[AnswersSoFar()].tolist()}
    assert said == {(row_of[index], index, names[who], target) for who, index, target in want}
    assert len(view[AnswersSoFar()]) == len(want)


def test_needs_of_the_ledger_are_answered_where_they_are_asked_for_alone() -> None:
    standing = Standing.at_start(parts(Random()))
    view = PoolView(standing.candidates, {}, num_total=standing.pool.num_total, num_classes=3)
    assert standing.with_labels(view, frozenset()) is view
