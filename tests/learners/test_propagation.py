from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

import dal
from dal.cli.config import compose
from dal.data import (
    Source,
    digits,
    digits_tabular,
    initial_by_strategy,
    make_multilabel_classification,
    make_source,
    moons,
)
from dal.data.initial import start_of
from dal.data.made import MadeSplit
from dal.learners import Dropout, PropagationLearner, RoundContext, make_learner
from dal.models import LabelPropagation
from dal.query import (
    BALD,
    ExpectedGradientLength,
    Features,
    Hyperplane,
    Margin,
    Probs,
    TypicalMargin,
    TypiClust,
)
from dal.runs.from_config import execute
from dal.task import task_of
from dal.train_set import TrainSet
from dal.training.trainer import Trainer

MOONS = make_source(moons(300), seed=0)
NEAR = partial(LabelPropagation, distance="euclidean", neighbors=10)


def learner(source: Source = MOONS, model: Any = NEAR, trainer: Trainer | None = None) -> Any:
    return make_learner(
        model,
        trainer or Trainer(),
        source,
        task_of(source.train.targets, source.num_classes),
        Dropout(),
        seed=0,
        device=torch.device("cpu"),
    )


def labels(source: Source, indices: Tensor) -> TrainSet:
    return TrainSet(indices, source.train.targets[indices], torch.ones(len(indices)))


def one_each(source: Source = MOONS) -> TrainSet:
    targets = source.train.targets
    first = [(targets == c).nonzero()[0, 0] for c in range(source.num_classes)]
    return labels(source, torch.stack(first))


def accuracy(one: PropagationLearner, split: Any) -> float:
    logits = one.predict(split, RoundContext())
    return float((logits.argmax(1) == split.targets).double().mean())


def test_one_label_of_each_moon_is_enough() -> None:
    one = learner()
    assert isinstance(one, PropagationLearner)
    state = one.fit(one_each(), RoundContext())
    assert state.stopped == "fitted"
    assert state.history[0]["train/accuracy"] == 1
    assert MOONS.test is not None
    assert accuracy(one, MOONS.test) > 0.95


def test_unlabeled_samples_teach_and_those_of_the_test_part_do_not() -> None:
    """The same labels say less without the rest of the pool; nothing of the test part is kept."""
    few = one_each()
    alone = replace(MOONS, train=MOONS.train.part(torch.cat([few.indices, torch.arange(5)])))
    less, one = learner(alone), learner()
    less.fit(labels(alone, torch.tensor([0, 1])), RoundContext())
    one.fit(few, RoundContext())
    assert MOONS.test is not None
    assert accuracy(less, MOONS.test) < accuracy(one, MOONS.test)
    assert len(one.model.nodes) == len(MOONS.train)
    tested = MOONS.test.take(torch.arange(len(MOONS.test)))
    assert isinstance(tested, Tensor)
    assert float(torch.cdist(tested, one.model.nodes).min()) > 0


def test_the_pool_is_told_from_the_graph_and_others_by_their_neighbors() -> None:
    one = learner()
    one.fit(one_each(), RoundContext())
    some, needs = torch.tensor([9, 2, 30]), frozenset({Probs(), Features(), Features("labeled")})
    view = one.scan(some, needs, RoundContext(), one_each())
    torch.testing.assert_close(view[Probs()], one.model.probs[some])
    torch.testing.assert_close(view[Features()], MOONS.train.take(some))
    torch.testing.assert_close(view[Features("labeled")], MOONS.train.take(one_each().indices))
    assert view[Probs()].dtype == torch.float32
    assert MOONS.test is not None
    elsewhere = one.aside(replace(MOONS, train=MOONS.test))
    found = elsewhere.scan(some, frozenset({Probs()}), RoundContext())[Probs()]
    expected = one.predict(MOONS.test, RoundContext())[some].exp()
    torch.testing.assert_close(found, expected)
    none = frozenset({Features("rejected"), Probs("rejected")})
    assert one.scan(some, none, RoundContext(), one_each())[Probs("rejected")].shape == (0, 2)


def test_labels_beyond_the_training_part_join_the_graph() -> None:
    source = replace(MOONS, train=MadeSplit(MOONS.train))
    assert isinstance(source.train, MadeSplit)
    made = source.train.add(torch.tensor([[50.0, 50.0]]))
    one, few = learner(source), one_each()
    train_set = TrainSet(
        torch.cat([few.indices, made]), torch.cat([few.targets, torch.tensor([1])]), torch.ones(3)
    )
    one.fit(train_set, RoundContext())
    assert len(one.model.nodes) == len(MOONS.train) + 1
    probs = one.scan(made, frozenset({Probs()}), RoundContext())[Probs()]
    assert int(probs.argmax()) == 1
    other = learner(source)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.scan(made, frozenset({Probs()}), RoundContext())[Probs()], probs)


def test_arriving_samples_without_a_label_ask_their_neighbors() -> None:
    source = replace(MOONS, train=MadeSplit(MOONS.train))
    assert isinstance(source.train, MadeSplit)
    one = learner(source)
    one.fit(one_each(), RoundContext())
    came = source.train.add(MOONS.train.inputs[:4])  # type: ignore[index]
    found = one.scan(torch.cat([came, torch.arange(4)]), frozenset({Probs()}), RoundContext())
    torch.testing.assert_close(found[Probs()][:4], found[Probs()][4:], atol=0.2, rtol=0)


def test_labels_alone_bring_the_same_bits_back() -> None:
    one, other = learner(), learner()
    one.fit(one_each(), RoundContext(3))
    state = one.state_dict()
    assert "nodes" not in state
    assert sum(t.numel() for t in state.values() if torch.is_tensor(t)) < 9
    other.load_state_dict(state)
    some = torch.arange(50)
    expected = one.scan(some, frozenset({Probs()}), RoundContext())[Probs()]
    assert torch.equal(other.scan(some, frozenset({Probs()}), RoundContext())[Probs()], expected)
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != learner(model=partial(NEAR, alpha=0.5)).fingerprint()


def test_what_it_cannot_do_is_refused() -> None:
    data = make_multilabel_classification(60)
    with pytest.raises(TypeError, match="label_propagation takes multiclass targets"):
        learner(make_source(data, seed=0))
    one = learner()
    for strategy in (BALD(), Hyperplane(), ExpectedGradientLength()):
        with pytest.raises(TypeError, match="probabilities and features alone"):
            one.check_needs(strategy.needs, type(strategy).__name__)
    for able in (Margin(), TypiClust(), TypicalMargin()):
        one.check_needs(able.needs, "it")
    with pytest.raises(RuntimeError, match="not been fitted"):
        one.predict(MOONS.train, RoundContext())
    with pytest.raises(ValueError, match="no labeled samples"):
        one.fit(labels(MOONS, torch.empty(0, dtype=torch.int64)), RoundContext())
    held = replace(MOONS, validation_of_labels=0.2)
    with pytest.raises(ValueError, match="LabelPropagation fits to the end"):
        learner(held)


def test_settings_of_the_trainer_that_play_no_part_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        learner(trainer=Trainer(restart="warm" if Trainer().restart == "cold" else "cold"))
    assert "label_propagation has no weights: trainer.restart plays no part" in caplog.text


def test_a_single_class_and_parts_without_a_label_are_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inputs = torch.cat([MOONS.train.inputs[:40], MOONS.train.inputs[:40] + 100])  # type: ignore[index]
    split = dal.data.Split.of(inputs, MOONS.train.targets[:40].repeat(2))
    source = Source("two", split, split, None, ("one", "two", "three"))
    one = learner(source)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            one.fit(labels(source, torch.tensor([0])), RoundContext())
    name = source.class_names[int(split.targets[0])]
    assert caplog.text.count(f"all labels so far are {name!r}") == 1
    assert caplog.text.count("the graph has parts without a label: ") == 1
    assert "of 40 samples" in caplog.text
    both = torch.tensor([0, int((split.targets != split.targets[0]).nonzero()[0])])
    one.fit(labels(source, both), RoundContext())
    probs = one.scan(torch.arange(40, 80), frozenset({Probs()}), RoundContext())[Probs()]
    torch.testing.assert_close(probs, torch.tensor([[0.5, 0.5, 0]]).expand(40, 3))


def test_nine_tenths_of_digits_from_twenty_labels() -> None:
    """Typical samples and their neighbors, on the pixels."""
    source = make_source(digits(), seed=0)
    assert source.test is not None
    first = start_of(partial(initial_by_strategy, strategy=TypiClust(), count=20), source, 0)
    assert isinstance(first, Tensor)
    one = learner(source, LabelPropagation)
    one.fit(labels(source, first), RoundContext())
    assert accuracy(one, source.test) > 0.9


CONF = Path(__file__).parents[2] / "conf"
OPTIONS = (
    "data=digits_tabular",
    "model=label_propagation",
    "strategy=typical_margin",
    "strategy.factor=4",
    "initial=typiclust",
    "initial.count=10",
    "query_size=3",
)


def ran(folder: Path, rounds: int) -> Path:
    settings = compose(CONF, [*OPTIONS, f"max_rounds={rounds}"])
    config: Any = OmegaConf.to_container(settings, resolve=True)
    execute(config, folder)
    GlobalHydra.instance().clear()
    return folder


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


def test_a_run_goes_on_to_the_same_bits_and_its_model_predicts(tmp_path: Path) -> None:
    whole = ran(tmp_path / "whole", 3)
    ran(tmp_path / "parts", 1)
    parts = ran(tmp_path / "parts", 3)
    assert rows_of(whole) == rows_of(parts)
    assert (whole / "queries.csv").read_text() == (parts / "queries.csv").read_text()
    source = make_source(digits_tabular(), seed=0)
    assert source.test is not None
    loaded = dal.load(whole)
    raw = source.test.raw(torch.arange(len(source.test)))
    right = loaded.predict_proba(raw).argmax(1) == source.test.targets
    assert float(right.double().mean()) == pytest.approx(rows_of(whole)[-1]["test/accuracy"])
