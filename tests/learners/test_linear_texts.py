"""The linear model of texts as terms: its committees, and what it refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import term_texts
import torch

import dal
from dal.data import Source, initial_labels
from dal.learners import Ensemble, EnsembleLearner, RoundContext, TorchLearner
from dal.models import MLP, LeNet5, LogisticRegression
from dal.query import BALD, VoteEntropy
from dal.query.needs import LookAhead, Members
from dal.task import Multiclass, Multilabel
from dal.train_set import TrainSet
from dal.training.context import FitState
from dal.training.full_batch import FullBatch
from dal.training.optim import sgd
from dal.training.trainer import Trainer

CPU = torch.device("cpu")
SOURCE, OF_LABELS = term_texts.source(), term_texts.source(multilabel=True)
TRAINERS = {
    "lbfgs": lambda: FullBatch(l2=0.1),
    "default": lambda: Trainer(epochs=3, batch_size=8, optimizer=sgd(lr=1.0)),
}
trainers = pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)


def committee(trainer: Trainer, source: Source = SOURCE, bootstrap: bool = True) -> EnsembleLearner:
    task = Multilabel(3) if source is OF_LABELS else Multiclass(3)
    of = Ensemble(3, bootstrap)
    return EnsembleLearner(LogisticRegression, trainer, source, task, of, seed=0, device=CPU)


def labels(count: int, source: Source = SOURCE) -> TrainSet:
    return TrainSet(torch.arange(count), source.train.targets[:count], torch.ones(count))


@pytest.mark.parametrize("source", [SOURCE, OF_LABELS], ids=["classes", "labels"])
def test_a_weight_of_2_is_a_text_twice(source: Source) -> None:
    twice, once = torch.arange(30) % 3 == 0, labels(30, source)
    found = []
    for given in (
        TrainSet(once.indices, once.targets, 1.0 + twice),
        once.part(torch.cat([torch.arange(30), twice.nonzero().squeeze(1)])),
    ):
        task = Multilabel(3) if source is OF_LABELS else Multiclass(3)
        learner = TorchLearner(LogisticRegression, FullBatch(), source, task, seed=0, device=CPU)
        learner.fit(given, RoundContext(0))
        found.append(learner.predict(source.train, RoundContext(0)))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


@trainers
@pytest.mark.parametrize("source", [SOURCE, OF_LABELS], ids=["classes", "labels"])
def test_members_on_bootstrap_samples_disagree(
    trainer: Callable[[], Trainer], source: Source
) -> None:
    learner = committee(trainer(), source)
    learner.fit(labels(30, source), RoundContext(0))
    view = learner.scan(torch.arange(90), frozenset({Members()}), RoundContext(0))
    spread = view[Members()].std(0)
    assert (spread > 0).all()
    assert spread.max() > 0.05
    single = TorchLearner(
        LogisticRegression, trainer(), source, learner.main.task, seed=0, device=CPU
    )
    single.fit(labels(30, source), RoundContext(0))
    assert torch.equal(single.model.head.weight, learner.model.head.weight)


@trainers
def test_without_bootstrap_a_committee_is_refused(trainer: Callable[[], Trainer]) -> None:
    with pytest.raises(ValueError, match=r"LogisticRegression .* committee\.bootstrap=true"):
        committee(trainer(), bootstrap=False)


class StopError(Exception):
    """Ends a fit where a process would be killed."""


@trainers
@pytest.mark.parametrize("member", [1, 2, 0])
def test_a_fit_stopped_in_any_member_resumes_exactly(
    trainer: Callable[[], Trainer], member: int
) -> None:
    whole, broken, again = (committee(trainer()) for _ in range(3))
    for learner in (whole, broken):
        learner.fit(labels(20), RoundContext(0))
    kept: dict[str, Any] = {}

    def stop(state: FitState, save: Callable[[], dict[str, Any]]) -> None:
        if (fit := save())["member"] == member:
            file = io.BytesIO()  # what a checkpoint would hold
            torch.save({"fit": fit, "learner": broken.state_dict()}, file)
            file.seek(0)
            kept.update(torch.load(file, weights_only=True))
            raise StopError

    with pytest.raises(StopError):
        broken.fit(labels(30), RoundContext(1, on_epoch=stop, on_save=stop))
    again.load_state_dict(kept["learner"])
    again.fit(labels(30), RoundContext(1, resume=kept["fit"]))
    whole.fit(labels(30), RoundContext(1))
    for one, other in zip(again.members, whole.members, strict=True):
        assert torch.equal(one.model.head.weight, other.model.head.weight)
        assert torch.equal(one.model.head.bias, other.model.head.bias)


@pytest.mark.parametrize("strategy", [BALD, VoteEntropy])
@pytest.mark.parametrize("source", [SOURCE, OF_LABELS], ids=["classes", "labels"])
def test_a_run_asks_where_members_disagree(strategy: Any, source: Source) -> None:
    result = dal.run(
        source,
        LogisticRegression,
        strategy(),
        initial=initial_labels(source.train.targets, seed=0, count=10),
        trainer=FullBatch(l2=0.1),
        committee=Ensemble(4, bootstrap=True),
        settings=dal.Settings(query_size=5, budget=10, figures=False),
    )
    assert len(result.rows) == 3
    assert result.rows[0]["query/score_mean"] > 0.0


def test_looking_ahead_is_refused_with_what_helps() -> None:
    learner = TorchLearner(
        LogisticRegression, FullBatch(), SOURCE, Multiclass(3), seed=0, device=CPU
    )
    with pytest.raises(TypeError, match=r"Wanted .* every term; set data/encoder=bag_of_words"):
        learner.check_needs(frozenset({LookAhead()}), "Wanted")


@pytest.mark.parametrize("spec", [{"terms": (4,), "weights": (4,)}, {"tokens": (4,), "mask": (4,)}])
def test_models_of_one_tensor_name_the_encoder_that_helps(spec: Any) -> None:
    for model in (MLP, LeNet5):
        with pytest.raises(TypeError, match=r"takes one tensor, .* data/encoder=model"):
            model(spec, 3)


def test_models_of_images_name_what_takes_texts() -> None:
    with pytest.raises(ValueError, match=r"\(1024,\); .*experiment=text"):
        LeNet5((1024,), 3)
