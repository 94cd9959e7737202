"""Guesses of a run: in the ledger, in the fits, never among labels."""

from __future__ import annotations

import json
import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import dataset

import dal
from dal.cooperation import (
    AgreeingRounds,
    Cooperative,
    FixedThreshold,
    FlexibleThresholds,
    Propagation,
    QuantileByClass,
    Teacher,
)
from dal.cooperation.base import Guesses
from dal.data import (
    Source,
    digits,
    initial_labels,
    iris,
    make_multilabel_classification,
    make_source,
)
from dal.data.foreign import Ood
from dal.data.hard_pools import harden
from dal.learners import Ensemble
from dal.models import MLP, LogisticRegression, estimators
from dal.query import (
    BALD,
    ExpectedErrorReduction,
    Features,
    Instability,
    Margin,
    MultilabelMargin,
    Needs,
    PoolView,
    Probs,
    Query,
    Random,
    Strategy,
)
from dal.query.needs import AnswersSoFar, Labels
from dal.runs import PoolSetting, StreamSetting
from dal.runs.cooperating import changed, cooperate, wrong_guesses
from dal.streams import AtRandom
from dal.train_set import TrainSet
from dal.training.full_batch import FullBatch
from dal.training.trainer import Trainer

SOURCE = make_source(dataset(), seed=0)
SURE = FixedThreshold(0.6)
Ledger = list[dict[str, Any]]


def run(
    cooperative: Cooperative | None = SURE,
    strategy: Strategy | None = None,
    source: Source = SOURCE,
    model: Any = LogisticRegression,
    trainer: Trainer | None = None,
    **options: Any,
) -> dal.Result:
    names = ("run_dir", "committee", "oracle", "setting")
    parts = {name: options.pop(name) for name in names if name in options}
    settings = {"query_size": 6, "budget": 18, "threads": 1, "figures": False} | options
    return dal.run(
        source,
        model,
        strategy or Margin(),
        initial=initial_labels(source.train.targets, seed=0, count=9),
        trainer=trainer or FullBatch(),
        settings=dal.Settings(**settings),
        cooperative=cooperative,
        **parts,
    )


def standing_before(events: Ledger, round_number: int) -> dict[int, Any]:
    """The guesses that stand when a round's fit begins, from the events alone."""
    found: dict[int, Any] = {}
    for event in events:
        if event["round"] < round_number or event["origin"] == "initial":
            found.pop(event["index"], None)
            if event["origin"] == "pseudo" and not event["abstained"]:
                found[event["index"]] = event["target"]
    return found


def test_a_model_learns_from_the_guesses_of_the_one_before() -> None:
    result = run()
    events, truth = result.job.pool.events(), SOURCE.train.targets.tolist()
    assert result.rows[0]["cooperative/used"] == 0
    assert "cooperative/wrong" not in result.rows[0]
    for row in result.rows[1:]:
        guesses = standing_before(events, row["round"])
        assert row["cooperative/used"] == row["pseudo"] == len(guesses) > 20
        wrong = sum(truth[index] != target for index, target in guesses.items())
        assert row["cooperative/wrong"] == pytest.approx(wrong / len(guesses))
        assert row["trained_on"] == row["labels"] + len(guesses)
    assert 0 < result.rows[-1]["cooperative/wrong"] < 0.5


def test_guesses_are_no_labels_and_cost_nothing() -> None:
    alone, together = run(None, Random()), run(strategy=Random())
    for name in ("labels", "queried", "cost"):
        assert [r[name] for r in together.rows] == [r[name] for r in alone.rows]
    assert together.job.pool.queries() == alone.job.pool.queries()
    assert together.rows[0]["test/accuracy"] == alone.rows[0]["test/accuracy"]
    assert "cooperative/used" not in alone.rows[0]
    guesses = [e for e in together.job.pool.events() if e["origin"] == "pseudo"]
    assert {e["cost"] for e in guesses} == {0.0}
    assert {e["annotator"] for e in guesses} == {"model"}
    assert {e["weight"] for e in guesses if not e["abstained"]} == {0.5}


def test_the_ledger_gets_what_changed_alone() -> None:
    result = run(FixedThreshold(0.9), budget=30)
    events = result.job.pool.events()
    rows = result.rows
    for number, row in enumerate(rows[:-1]):
        new = [e for e in events if e["origin"] == "pseudo" and e["round"] == number]
        told = Counter(e["abstained"] for e in new)
        assert told[False] == row["cooperative/entered"]
        assert told[True] == row["cooperative/withdrawn"]
        before, after = standing_before(events, number), {**standing_before(events, number)}
        for event in new:
            if event["abstained"]:
                del after[event["index"]]
            else:
                assert after.get(event["index"]) != event["target"]
                after[event["index"]] = event["target"]
        assert len(after) == row["cooperative/guesses"]
        assert number == 0 or len(new) < len(before) + len(after)
    assert sum(row.get("cooperative/withdrawn", 0) for row in rows) > 0


def test_an_answer_replaces_a_guess() -> None:
    events = run(FixedThreshold(0.0, per_answer=None), budget=12).job.pool.events()
    asked = [e for e in events if e["origin"] == "oracle"]
    assert all(events[e["supersedes"]]["origin"] == "pseudo" for e in asked)


def test_the_same_guesses_once_more_are_no_event() -> None:
    job = run().job
    left = job.candidates
    view = PoolView(
        left,
        {Probs(): job.learner.predict(SOURCE.train.part(left), _context()).softmax(1)},
        num_total=len(SOURCE.train),
        num_classes=3,
    )
    cooperate(job, view)
    count = job.pool.num_events
    cooperate(job, view)
    assert job.pool.num_events == count
    assert job.state.row["cooperative/entered"] == job.state.row["cooperative/withdrawn"] == 0


def _context() -> Any:
    from dal.learners import RoundContext

    return RoundContext(0)


def test_what_has_changed() -> None:
    held = TrainSet(torch.tensor([9, 2, 5]), torch.tensor([0, 1, 2]), torch.tensor([0.5, 0.5, 0.5]))
    wanted = TrainSet(
        torch.tensor([2, 3, 5, 9]), torch.tensor([1, 0, 0, 0]), torch.tensor([0.5, 0.5, 0.5, 0.2])
    )
    new, gone = changed(held, wanted)
    assert new.tolist() == [False, True, True, True]
    assert gone.tolist() == [False, False, False]
    assert changed(held, wanted.part(torch.tensor([0])))[1].tolist() == [True, False, True]
    none = held.part(torch.tensor([], dtype=torch.int64))
    assert [len(mask) for mask in changed(none, none)] == [0, 0]
    assert changed(none, wanted)[0].all()


def test_equally_sure_candidates_are_not_taken_in_the_order_of_the_data() -> None:
    class First(FixedThreshold):
        def choose(self, probs: Any, *rest: Any) -> Guesses:
            return super().choose(torch.full_like(probs, 1 / 3), *rest)

    events = run(First(0.0, per_answer=None, most=20), budget=6).job.pool.events()
    taken = [e["index"] for e in events if e["origin"] == "pseudo"]
    assert len(taken) == 20
    assert max(taken) > 100


class Curious(Random):
    """Sees what it is given of the labeled samples."""

    needs: Needs = frozenset({Labels(), AnswersSoFar(), Probs("labeled"), Features("labeled")})

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def select(self, view: PoolView, size: int, rng: torch.Generator) -> Query:
        probs = view[Probs("labeled")]
        self.seen.append((len(view[Labels()]), len(probs), len(view[Features("labeled")])))
        rows = view[AnswersSoFar()][:, 0]
        assert len(rows) == len(probs)
        return super().select(view, size, rng)


def test_strategies_see_answers_of_people_alone() -> None:
    strategy = Curious()
    result = run(strategy=strategy)
    assert strategy.seen == [(n, n, n) for n in (9, 15, 21)]
    assert result.rows[-1]["cooperative/used"] > 0


def test_guesses_validate_nothing() -> None:
    source = make_source(dataset(), seed=0, validation_of_labels=0.3)
    result = run(FixedThreshold(0.34), source=source, model=MLP, trainer=Trainer(3))
    train_set = result.job.pool.train_set()
    learned, held_out = result.job.parts.divided(train_set, 3)
    assert held_out is not None
    assert not held_out.is_guess.any()
    assert len(held_out) == round(0.3 * 27)
    assert int(learned.is_guess.sum()) == int(train_set.is_guess.sum()) > 0
    assert result.rows[-1]["validation_labels"] == len(held_out)


@pytest.mark.parametrize("kind", [AgreeingRounds, FixedThreshold])
def test_label_sets_are_guessed_where_every_label_is_sure(kind: Any) -> None:
    data = make_multilabel_classification(200, n_features=10, n_classes=4)
    source = make_source(data, seed=0)
    result = run(
        kind(0.6), MultilabelMargin(), source, trainer=FullBatch(), thresholds="fitted", budget=24
    )
    events = [e for e in result.job.pool.events() if e["origin"] == "pseudo"]
    assert all(len(e["target"]) == 4 for e in events)
    assert result.rows[-1]["cooperative/used"] > 0
    assert len(result.rows[-1]["thresholds"]) == 4


def test_agreement_compares_with_the_model_of_the_round_before() -> None:
    result = run(AgreeingRounds(0.6), strategy=Random())
    assert [row["cooperative/used"] > 0 for row in result.rows] == [False, False, True, True]
    assert result.job.history.rounds == [1, 2]  # two rounds are kept for it
    events = result.job.pool.events()
    first, second = (result.job.history.last(2, torch.arange(len(SOURCE.train)))[n] for n in (0, 1))
    for index, target in standing_before(events, 3).items():
        for probs in (first[index], second[index]):
            assert probs.argmax() == target
            assert probs.max() >= 0.6


@pytest.mark.parametrize("strategy", [Instability, Margin])
def test_predictions_that_a_strategy_compares_are_the_same(strategy: Any) -> None:
    rounds = run(AgreeingRounds(0.6), strategy()).job.parts.remembered
    assert rounds == (3 if strategy is Instability else 2)


class Countless(Teacher):
    """Says that a sample's class is what its number leaves."""

    needs: Needs = frozenset()

    def probs(self, view: PoolView, answers: TrainSet, check: Any) -> torch.Tensor:
        assert not answers.is_guess.any()
        return torch.eye(3)[(view.indices + 1) % 3]


def test_guesses_are_those_of_the_teacher() -> None:
    result = run(FixedThreshold(0.9, teacher=Countless()), Random())
    events = [e for e in result.job.pool.events() if e["origin"] == "pseudo"]
    assert len(events) > 100
    assert all(e["target"] == (e["index"] + 1) % 3 for e in events)
    assert 0.5 < result.rows[-1]["cooperative/wrong"] < 0.8  # of three classes


def test_labels_that_spread_teach_a_network() -> None:
    class Kept(Propagation):
        def probs(self, view: PoolView, answers: TrainSet, check: Any) -> torch.Tensor:
            seen.append((view, answers, super().probs(view, answers, check)))
            return seen[-1][-1]

    seen = list[tuple[PoolView, TrainSet, torch.Tensor]]()
    rule = FixedThreshold(0.6, teacher=Kept(10), per_answer=None)
    result = run(rule, model=MLP, trainer=Trainer(20), budget=12)
    events = result.job.pool.events()
    others = 0
    for number, (view, answers, probs) in enumerate(seen):
        assert len(answers) == len(view[Features("labeled")]) == 9 + 6 * number
        sure = probs.amax(1) >= 0.6
        expected = dict(
            zip(view.indices[sure].tolist(), probs[sure].argmax(1).tolist(), strict=True)
        )
        asked = [e["index"] for e in events if e["origin"] == "oracle" and e["round"] == number]
        found = standing_before(events, number + 1)
        assert found == {i: t for i, t in expected.items() if i not in asked}
        others += int((view[Probs()].argmax(1) != probs.argmax(1))[sure].sum())
    assert others > 0
    assert 0 < result.rows[-1]["cooperative/wrong"] < 0.5


def test_the_pass_computes_what_the_teacher_needs_alone() -> None:
    spread = FixedThreshold(teacher=Propagation())
    needs = [
        run(rule, Random(), budget=6).job.parts.scan_needs(Random())
        for rule in (None, SURE, spread)
    ]
    assert needs == [frozenset(), {Probs()}, {Features(), Features("labeled")}]


def test_large_pools_are_guessed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(budget=6)
    monkeypatch.setattr("dal.query.by_block.AT_HAND", 10)  # above it a pass keeps scores alone
    assert run(budget=6).job.pool.events() == whole.job.pool.events()


class Logits(torch.nn.Module):
    """Gives no features."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(input_shape[0], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)  # type: ignore[no-any-return]


def test_a_teacher_that_cannot_predict_is_refused() -> None:
    teacher = Propagation()
    with pytest.raises(TypeError, match=r"two rounds predict, and with Propagation.*teacher=none"):
        run(AgreeingRounds(teacher=teacher))
    with pytest.raises(TypeError, match=r"Propagation needs Features\(.*set cooperative/teacher="):
        run(FixedThreshold(teacher=teacher), model=Logits)
    source = make_source(make_multilabel_classification(200, n_features=10, n_classes=4), seed=0)
    with pytest.raises(TypeError, match=r"Propagation teaches multiclass targets.*are multilabel"):
        run(FixedThreshold(teacher=teacher), MultilabelMargin(), source)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (MLP, {"trainer": Trainer(4, restart="cold")}),
        (MLP, {"trainer": Trainer(4, restart="warm", class_weights="balanced")}),
        (LogisticRegression, {"trainer": FullBatch(class_weights="balanced")}),
        (MLP, {"trainer": Trainer(4), "committee": Ensemble(3, bootstrap=True)}),
        (partial(estimators.random_forest, n_estimators=5), {}),
        (partial(estimators.svm), {}),
    ],
)
@pytest.mark.parametrize("rule", [FlexibleThresholds(0.4, 0.34), QuantileByClass(0.3, 0.34)])
def test_every_kind_of_fit_learns_from_guesses(model: Any, options: Any, rule: Any) -> None:
    strategy = BALD() if "committee" in options else Margin()
    result = run(rule, strategy, model=model, budget=12, **options)
    assert result.rows[-1]["cooperative/used"] > 0


@pytest.mark.parametrize("model", [LogisticRegression, estimators.sklearn_logistic_regression])
def test_what_is_learned_depends_on_guesses_and_their_weight(model: Any) -> None:
    def last(weight: float | None) -> float:
        rule = None if weight is None else FixedThreshold(0.4, weight=weight, per_answer=None)
        return float(run(rule, Random(), model=model, budget=6).rows[-1]["test/loss"])

    assert last(None) == pytest.approx(last(1e-7), rel=1e-3)
    assert last(None) != pytest.approx(last(1.0), rel=1e-3)


def test_a_model_that_weighs_nothing_takes_guesses_of_weight_1() -> None:
    model = partial(estimators.knn, n_neighbors=3)
    with pytest.raises(TypeError, match=r"cannot weigh its samples; set cooperative\.weight=1"):
        run(FixedThreshold(0.6), model=model)
    result = run(FixedThreshold(0.6, weight=1), model=model)
    assert result.rows[-1]["cooperative/used"] > 0


@pytest.mark.parametrize("rule", [FlexibleThresholds(), QuantileByClass()])
def test_thresholds_by_class_are_for_one_class_a_sample(rule: Cooperative) -> None:
    source = make_source(make_multilabel_classification(200, n_features=10, n_classes=4), seed=0)
    with pytest.raises(TypeError, match=r"meant for multiclass targets.*choose cooperative=fixed"):
        run(rule, MultilabelMargin(), source)


def test_looking_ahead_is_refused() -> None:
    with pytest.raises(TypeError, match=r"ExpectedErrorReduction tries.*set cooperative=none"):
        run(strategy=ExpectedErrorReduction())


def test_a_setting_that_predicts_no_candidates_is_refused() -> None:
    class Stream(PoolSetting):
        cooperates = False

    with pytest.raises(TypeError, match=r"FixedThreshold guesses the candidates.*Stream does not"):
        run(setting=Stream())
    assert run(None, setting=Stream()).status == "complete"
    stream = StreamSetting(AtRandom())
    with pytest.raises(
        TypeError, match="StreamSetting does not predict them; set cooperative=none"
    ):
        run(setting=stream)


def test_guesses_of_one_class_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    class OfOneClass(FixedThreshold):
        def choose(self, probs: Any, *rest: Any) -> Guesses:
            found = super().choose(probs, *rest)
            kept = found.targets == 1
            return Guesses(found.places[kept], found.targets[kept], found.weights[kept])

    with caplog.at_level(logging.WARNING):
        run(OfOneClass(0.5))
    told = [m for m in caplog.messages if "guesses are 'b'" in m]
    assert len(told) == 1
    assert "round 0: all" in told[0]
    assert "raise cooperative.threshold" in told[0]


def test_a_guess_about_a_foreign_sample_is_wrong() -> None:
    plain = make_source(iris(), seed=0)
    source = harden(plain, [Ood(classes=["virginica"])], seed=0)
    foreign = source.is_foreign.nonzero().squeeze(1)[:2]
    own = (~source.is_foreign).nonzero().squeeze(1)[:2]
    indices = torch.cat([foreign, own])
    targets = torch.cat([torch.zeros(2).long(), source.train.targets[own]])
    wrong = wrong_guesses(source, TrainSet(indices, targets, torch.ones(4)))
    assert wrong.tolist() == [True, True, False, False]


def test_the_log_and_tensorboard_show_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with caplog.at_level(logging.INFO):
        result = run(run_dir=tmp_path)
    last = result.rows[-1]
    words = f"{last['cooperative/used']} guesses, {last['cooperative/wrong']:.1%} wrong"
    assert sum(words in message for message in caplog.messages) == 1
    board = EventAccumulator(str(tmp_path / "tb"))
    board.Reload()
    shown = board.Scalars("9_cooperative/wrong")
    assert shown[-1].value == pytest.approx(last["cooperative/wrong"])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["cooperative/used"] == last["cooperative/used"]


def test_a_run_goes_on_from_its_ledger_where_checkpoints_are_lost(tmp_path: Path) -> None:
    run(run_dir=tmp_path, budget=12)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    result = run(run_dir=tmp_path, budget=18)
    assert result.rows[-1]["cooperative/used"] > 0
    assert result.rows[-1]["queried"] == 18


def test_images_of_digits_are_guessed_in_small_batches() -> None:
    source = make_source(digits(), seed=0)
    result = run(FixedThreshold(0.7), Margin(), source, candidates=200)
    allowed = result.job.standing.among
    assert allowed is not None
    guessed = [e["index"] for e in result.job.pool.events() if e["origin"] == "pseudo"]
    assert guessed
    assert allowed[guessed].all()
