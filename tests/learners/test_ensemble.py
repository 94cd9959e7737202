"""An ensemble: advisers never change the main network; a fit resumes exactly within any."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import dal
from dal.data import initial_labels, make_source, two_gaussians
from dal.learners import (
    Dropout,
    Ensemble,
    EnsembleLearner,
    RoundContext,
    TorchLearner,
    make_learner,
)
from dal.models import MLP
from dal.query import BALD, Entropy, Features, Members, Needs, Probs, Strategy
from dal.task import Multiclass
from dal.train_set import TrainSet
from dal.training.context import FitState
from dal.training.trainer import Trainer

SOURCE = make_source(two_gaussians(90), seed=0)
CPU = torch.device("cpu")
NET = partial(MLP, hidden=(8,), dropout=0.2)
ALL = torch.arange(len(SOURCE.train))


def make(size: int = 3, bootstrap: bool = False, **trainer: Any) -> EnsembleLearner:
    return EnsembleLearner(
        NET,
        Trainer(**{"epochs": 4, "batch_size": 8, **trainer}),
        SOURCE,
        Multiclass(2),
        Ensemble(size, bootstrap),
        seed=5,
        device=CPU,
    )


def alone(**trainer: Any) -> TorchLearner:
    options = Trainer(**{"epochs": 4, "batch_size": 8, **trainer})
    return TorchLearner(NET, options, SOURCE, Multiclass(2), seed=5, device=CPU)


def train_set(count: int = 12) -> TrainSet:
    return TrainSet(torch.arange(count), SOURCE.train.targets[:count], torch.ones(count))


def weights(of: TorchLearner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def members(learner: EnsembleLearner, number: int = 0) -> Tensor:
    return learner.scan(ALL, frozenset({Members()}), RoundContext(number))[Members()]


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("restart", ["warm", "cold"])
def test_main_network_equals_one_without_a_committee_bit_for_bit(
    restart: str, bootstrap: bool
) -> None:
    ensemble, single = make(bootstrap=bootstrap, restart=restart), alone(restart=restart)
    for number in range(3):
        labels = train_set(12 + 6 * number)
        with_advisers = ensemble.fit(labels, RoundContext(number))
        by_itself = single.fit(labels, RoundContext(number))
        assert torch.equal(weights(ensemble.main), weights(single))
        assert with_advisers.history == by_itself.history
        needs: Needs = frozenset({Probs(), Features(), Members()})
        view = ensemble.scan(ALL, needs, RoundContext(number))
        plain = single.scan(ALL, needs - {Members()}, RoundContext(number))
        assert torch.equal(view[Probs()], plain[Probs()])
        assert torch.equal(view[Features()], plain[Features()])
        assert torch.equal(view[Members()][0], plain[Probs()])
    want = single.predict(SOURCE.test, RoundContext())
    assert torch.equal(ensemble.predict(SOURCE.test, RoundContext()), want)
    assert ensemble.model is ensemble.main.model


def test_members_start_apart_and_train_apart() -> None:
    ensemble = make()
    starts = [weights(member) for member in ensemble.members]
    ensemble.fit(train_set(), RoundContext())
    ends = [weights(member) for member in ensemble.members]
    for group in (starts, ends):
        assert len({tuple(row.tolist()) for row in group}) == 3
    assert all(not torch.equal(a, b) for a, b in zip(starts, ends, strict=True))
    found = members(ensemble)
    assert found.shape == (3, len(ALL), 2)
    for member, probs in zip(ensemble.members, found, strict=True):
        view = member.scan(ALL, frozenset({Probs()}), RoundContext())
        assert torch.equal(probs, view[Probs()])


def test_a_smaller_ensemble_is_the_beginning_of_a_larger() -> None:
    small, large = make(2), make(4)
    for learner in (small, large):
        learner.fit(train_set(), RoundContext())
    assert torch.equal(members(small), members(large)[:2])


def test_bootstrap_draws_labels_for_advisers_anew_each_round() -> None:
    ensemble = make(bootstrap=True)
    draws = {
        (member, number): ensemble._labels(member, train_set(40), number)
        for member in (1, 2)
        for number in (0, 1)
    }
    assert len({tuple(draw.indices.tolist()) for draw in draws.values()}) == 4
    for draw in draws.values():
        assert len(draw) == 40
        assert 15 < len(draw.indices.unique()) < 36  # 40 (1 - 1/e) = 25.3 on average
        assert torch.equal(draw.targets, SOURCE.train.targets[draw.indices])
    assert torch.equal(
        make(bootstrap=True)._labels(2, train_set(40), 1).indices, draws[2, 1].indices
    )
    whole = train_set(40)
    assert make()._labels(1, whole, 0) is whole


def test_advisers_are_fitted_first_and_only_the_main_network_is_recorded() -> None:
    recorded: list[int] = []
    saved: list[int] = []
    context = RoundContext(
        on_epoch=lambda state, save: recorded.append(save()["member"]),
        on_save=lambda state, save: saved.append(save()["member"]),
    )
    make(epochs=2).fit(train_set(), context)
    assert recorded == [0, 0]
    assert saved == [1, 1, 2, 2]


class StopError(Exception):
    """Ends a fit where a process would be killed."""


@pytest.mark.parametrize("restart", ["warm", "cold"])
@pytest.mark.parametrize("stop", [(1, 1), (1, 4), (2, 2), (0, 3), (0, 4)])
def test_a_fit_interrupted_in_any_member_resumes_exactly(
    stop: tuple[int, int], restart: str
) -> None:
    whole, broken = make(bootstrap=True, restart=restart), make(bootstrap=True, restart=restart)
    for learner in (whole, broken):
        learner.fit(train_set(12), RoundContext(0))
    kept: dict[str, Any] = {}

    def on_epoch(state: FitState, save: Callable[[], dict[str, Any]]) -> None:
        fit = save()
        if (fit["member"], state.epoch) == stop:
            # What a checkpoint would hold, written at once.
            file = io.BytesIO()
            torch.save({"fit": fit, "learner": broken.state_dict()}, file)
            file.seek(0)
            kept.update(torch.load(file, weights_only=True))
            raise StopError

    with pytest.raises(StopError):
        broken.fit(train_set(18), RoundContext(1, on_epoch=on_epoch, on_save=on_epoch))
    again = make(bootstrap=True, restart=restart)
    again.load_state_dict(kept["learner"])
    again.fit(train_set(18), RoundContext(1, resume=kept["fit"]))
    whole.fit(train_set(18), RoundContext(1))
    assert torch.equal(members(again), members(whole))
    assert all(
        torch.equal(weights(a), weights(b))
        for a, b in zip(again.members, whole.members, strict=True)
    )


def test_identical_networks_are_refused() -> None:
    ensemble = make()
    for member in ensemble.members[1:]:
        member.model.load_state_dict(ensemble.model.state_dict())
    with pytest.raises(ValueError, match="all 3 members of the committee predict the same"):
        members(ensemble)


def test_an_ensemble_is_fitted_only_for_strategies_that_compare_members() -> None:
    def kind(committee: Any, strategy: Strategy) -> type:
        made = make_learner(
            NET,
            Trainer(),
            SOURCE,
            Multiclass(2),
            committee,
            needs=strategy.needs,
            seed=0,
            device=CPU,
        )
        made.check_needs(strategy.needs, "Any")
        return type(made)

    assert kind(Ensemble(3), BALD()) is EnsembleLearner
    assert kind(Ensemble(3), Entropy()) is TorchLearner
    assert kind(Dropout(3), BALD()) is TorchLearner


def test_a_run_with_an_ensemble_shares_its_first_round_with_one_without() -> None:
    def run(strategy: Strategy, committee: Any) -> dal.Result:
        return dal.run(
            SOURCE,
            NET,
            strategy,
            initial=initial_labels(SOURCE.train.targets, seed=0, count=6),
            trainer=Trainer(epochs=3),
            committee=committee,
            settings=dal.Settings(query_size=4, budget=8, figures=False),
        )

    one, other = run(BALD(), Ensemble(3)), run(Entropy(), None)
    assert one.rows[0]["test/loss"] == other.rows[0]["test/loss"]
    assert one.rows[0]["fit/epochs"] == 3
    assert len(one.rows) == 3


@pytest.mark.parametrize("committee", [Dropout(10**19), Ensemble(10**19)])
def test_members_that_do_not_fit_into_memory_are_refused_at_once(committee: Any) -> None:
    def learner(needs: Needs) -> object:
        task = Multiclass(2)
        return make_learner(
            NET, Trainer(), SOURCE, task, committee, needs=needs, seed=0, device=CPU
        )

    with pytest.raises(ValueError, match=r"committee\.size=10{19}: this takes .* ask for less"):
        learner(frozenset({Members()}))
    learner(frozenset({Probs()}))  # which asks no members
