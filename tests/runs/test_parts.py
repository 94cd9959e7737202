"""What a run is made of and where it stands, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import dataset

import dal
from dal.data import Source, initial_labels, make_source
from dal.learners import RoundContext, Rounds, make_learner
from dal.models import MLP
from dal.query import BALD, Entropy, Instability, Random, Strategy
from dal.query.base import Decision, History, Members, Need, Probs
from dal.runs.keeper import DiskKeeper, Keeper, restore
from dal.runs.parts import Parts, Standing, digests
from dal.training.trainer import Trainer
from dal.utils.seeding import generator

SOURCE = make_source(dataset(), seed=0)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)


def parts(strategy: Strategy, source: Source = SOURCE, **options: Any) -> Parts:
    settings = dal.Settings(query_size=6, **options.pop("settings", {}))
    learner = make_learner(
        MLP,
        Trainer(epochs=2),
        source,
        source.task,
        Rounds(2),
        needs=strategy.needs,
        seed=0,
        device=torch.device("cpu"),
        batch_size=64,
    )
    return Parts(source, learner, strategy, INITIAL, settings=settings, **options)


def test_a_pick_takes_parts_and_standing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round by hand equals that of `dal.run`, with no oracle, recorder, keeper or directory."""
    monkeypatch.chdir(tmp_path)
    made = parts(Entropy(), settings={"batch_size": 64})
    standing = Standing.at_start(made)
    train_set = standing.pool.train_set()
    made.learner.fit(train_set, RoundContext())
    view = made.learner.scan(standing.candidates, made.scan_needs, RoundContext(), train_set)
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
    assert made.scan_needs == (frozenset({Probs()}) if kept else frozenset())


def test_a_complete_history_is_kept_where_it_is_asked_for() -> None:
    made = parts(Random(), settings={"keep_history": True})
    assert made.remembered is None
    assert made.scan_needs == {Probs()}


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


def test_a_keeper_brings_a_standing_back(tmp_path: Path) -> None:
    made = parts(Entropy())
    standing = Standing.at_start(made)
    made.learner.fit(standing.pool.train_set(), RoundContext())
    standing.state.next, standing.state.row = "query", {"round": 0}
    DiskKeeper(tmp_path, made, "digest").save(standing)

    again = parts(Entropy())
    other = Standing.at_start(again)
    restore(again, other, DiskKeeper(tmp_path, again, "digest"))
    assert other.begun
    assert other.state.state_dict() == standing.state.state_dict()
    assert other.pool.events() == standing.pool.events()
    assert again.learner.fingerprint() == made.learner.fingerprint()
    with pytest.raises(ValueError, match="data of gaussians have changed"):
        restore(again, other, DiskKeeper(tmp_path, again, "another digest"))


def test_what_keeps_nothing_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, keeper = parts(Entropy()), Keeper()
    standing = Standing.at_start(made)
    before = standing.pool.events(), standing.state.state_dict()
    restore(made, standing, keeper)
    keeper.save(standing)
    keeper.keep_question(standing.state)
    keeper.keep_model(standing.state)
    keeper.export()
    assert (standing.pool.events(), standing.state.state_dict()) == before
    assert list(tmp_path.iterdir()) == []
