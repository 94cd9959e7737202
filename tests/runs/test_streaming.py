"""Runs on streams: what arrives is asked about or let go at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import give_answers
from run_parts import INITIAL, SOURCE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dal
from dal.data.source import UNKNOWN
from dal.learners import Ensemble, Rounds
from dal.models import MLP
from dal.oracles import FilesOracle
from dal.query import (
    BALD,
    Entropy,
    ExpectedGradientLength,
    Instability,
    KMeans,
    LeastConfidence,
    Margin,
    Random,
    Schedule,
    Strategy,
)
from dal.runs import PoolSetting, StreamSetting
from dal.runs.replay import PARTS, Replay
from dal.runs.setting import Setting
from dal.streams import AboveThreshold, AtRandom, BudgetManager, Quantile, SplitThreshold
from dal.streams.managers import Arrival, Memory
from dal.training.trainer import Trainer


def run(
    strategy: Strategy,
    setting: Setting | None = None,
    run_dir: Path | None = None,
    **options: Any,
) -> dal.Result:
    settings = {"query_size": 6, "budget": 60, "figures": False, **options.pop("settings", {})}
    return dal.run(
        options.pop("source", SOURCE),
        MLP,
        strategy,
        initial=options.pop("initial", INITIAL),
        trainer=Trainer(epochs=2),
        settings=dal.Settings(**settings),
        setting=setting or StreamSetting(Quantile(0.2)),
        run_dir=run_dir,
        **options,
    )


def asked(result: dal.Result) -> list[int]:
    return [index for _, index, _, _ in result.job.pool.queries()]


class Recording(BudgetManager):
    """Asks about every tenth sample, and remembers what arrived."""

    share = 0.1

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    def decide(self, arrival: Arrival, memory: Memory) -> tuple[bool, Memory]:
        self.arrivals.append(arrival)
        wanted = memory.seen % 10 == 9
        return wanted, replace(memory, seen=memory.seen + 1, asked=memory.asked + wanted)


def test_every_sample_arrives_once_and_the_run_ends_with_the_stream() -> None:
    manager = Recording()
    result = run(Margin(), StreamSetting(manager, order="own"))
    assert (result.status, result.reason) == ("complete", "stream_ended")
    arriving = [i for i in range(len(SOURCE.train)) if i not in set(INITIAL.tolist())]
    assert asked(result) == arriving[9::10]
    assert result.rows[-1]["stream/seen"] == len(arriving) == len(manager.arrivals)
    assert sum(row.get("stream/arrived", 0) for row in result.rows) == len(arriving)
    let_go = sum(row.get("stream/let_go", 0) for row in result.rows)
    assert let_go == len(arriving) - len(asked(result))
    assert [row["trained_on"] for row in result.rows] == [row["labels"] for row in result.rows]


def test_scores_are_those_of_the_model_just_fitted_and_certainty_is_its_probability() -> None:
    manager = Recording()
    result = run(LeastConfidence(), StreamSetting(manager), settings={"max_rounds": 1})
    assert all(a.certainty == pytest.approx(1 - a.score) for a in manager.arrivals)
    again = Recording()
    run(Entropy(), StreamSetting(again), settings={"max_rounds": 1})
    highest = torch.log(torch.tensor(3.0)).item()
    expected = [1 - arrival.score / highest for arrival in again.arrivals]
    assert [a.certainty for a in again.arrivals] == pytest.approx(expected, abs=1e-6)
    assert result.rows[0]["stream/seen"] == 0


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("manager", [Quantile(0.2), SplitThreshold(0.2, random=0.5)])
def test_decisions_do_not_depend_on_how_many_come_at_once(
    manager: BudgetManager, density: float
) -> None:
    found = [
        run(Margin(), StreamSetting(manager, density=density, window=30, chunk=chunk))
        for chunk in (1, 7, 512)
    ]
    assert asked(found[0]) == asked(found[1]) == asked(found[2])
    assert len(asked(found[0])) > 20


def test_density_prefers_what_resembles_the_window() -> None:
    with_it, without = (run(Margin(), StreamSetting(Quantile(0.2), density=d)) for d in (9.0, 0.0))
    assert asked(with_it) != asked(without)


def test_random_asks_about_others_at_the_same_spending() -> None:
    chosen, drawn = run(Margin()), run(Random())
    assert abs(len(asked(chosen)) - len(asked(drawn))) <= 4
    assert asked(chosen) != asked(drawn)
    assert asked(drawn) == asked(run(Random()))
    assert asked(drawn) != asked(run(Random(), settings={"seed": 1}))


def test_a_class_comes_at_its_own_time_where_the_order_drifts() -> None:
    everything = StreamSetting(AboveThreshold(-2.0), order="drifting", drift=1.0)
    result = run(Margin(), everything, settings={"budget": 300, "query_size": 50})
    classes = SOURCE.train.targets[asked(result)].tolist()
    assert classes == sorted(classes)
    by_degrees = StreamSetting(AboveThreshold(-2.0), order="drifting", drift=0.6)
    result = run(Margin(), by_degrees, settings={"budget": 300, "query_size": 50})
    classes = SOURCE.train.targets[asked(result)].tolist()
    assert classes != sorted(classes)
    third = len(classes) // 3
    assert classes[:third].count(0) > third / 2
    assert classes[-third:].count(2) > third / 2


@pytest.mark.parametrize(("threshold", "words"), [(2.0, "none of the last 100"), (-2.0, "every")])
def test_a_threshold_that_asks_nothing_or_everything_is_said_after_a_window(
    threshold: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = run(
            Margin(),
            StreamSetting(AboveThreshold(threshold)),
            settings={"budget": 300, "query_size": 50},
        )
    said = [record.message for record in caplog.records if words in record.message]
    assert len(said) == 1  # though the second hundred is like the first
    assert f"setting.manager.threshold={threshold:g}" in said[0]
    assert result.reason == "stream_ended"
    assert len(asked(result)) == (0 if threshold > 0 else 201)


def test_a_threshold_that_asks_about_nothing_leaves_what_was_seen_in_the_metrics(
    tmp_path: Path,
) -> None:
    for _ in range(2):  # the second finds the first complete
        result = run(Margin(), StreamSetting(AboveThreshold(2.0)), tmp_path)
        assert [row["stream/arrived"] for row in result.rows] == [201]
        assert [row["stream/let_go"] for row in result.rows] == [201]


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="setting=stream: no sample arrives"):
        run(Margin(), initial=torch.arange(len(SOURCE.train)))


def test_a_stream_of_one_class_only_is_a_stream() -> None:
    first = (SOURCE.train.targets == 0).nonzero().squeeze(1)
    part = replace(SOURCE, train=SOURCE.train.part(first))
    result = run(Margin(), source=part, initial=torch.arange(5), settings={"query_size": 2})
    assert result.reason == "stream_ended"
    assert all(row["test/accuracy"] < 0.5 for row in result.rows[1:])


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Instability(), "Instability looks at predictions of earlier rounds"),
        (Schedule(Random(), Margin(), 90, 0.9), "Schedule looks at predictions of earlier rounds"),
        (KMeans(), "KMeans chooses among samples"),
    ],
)
def test_strategies_that_look_at_more_than_one_sample_are_refused(
    strategy: Strategy, words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        run(strategy)


def test_a_score_without_reach_takes_a_manager_that_looks_at_none() -> None:
    with pytest.raises(TypeError, match="choose setting/manager=quantile"):
        run(ExpectedGradientLength(), StreamSetting(SplitThreshold()))
    assert len(asked(run(ExpectedGradientLength(), settings={"max_rounds": 1}))) == 6


def test_committees_of_one_model_or_several_score_what_arrives_and_those_of_rounds_do_not() -> None:
    ensemble = Ensemble(2)
    assert len(asked(run(BALD(), committee=ensemble, settings={"max_rounds": 1}))) == 6
    with pytest.raises(TypeError, match="BALD looks at predictions of earlier rounds"):
        run(BALD(), committee=Rounds(2))


def test_what_a_stream_cannot_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_history=true"):
        run(Margin(), settings={"keep_history": True})


def test_labels_to_measure_by_are_asked_for_beside_the_stream() -> None:
    options = {"audit": 0.5, "query_size": 4}
    result = run(Margin(), settings=options)
    events = result.job.pool.events()
    audits = [event["index"] for event in events if event["origin"] == "audit"]
    reserve = set(result.job.standing.reserve.flatten().tolist())
    assert audits
    assert set(audits) <= reserve
    assert not reserve & {event["index"] for event in events if event["origin"] == "oracle"}


def test_the_manager_at_random_needs_no_score() -> None:
    one, other = (
        run(Margin(), StreamSetting(AtRandom(0.3))),
        run(Entropy(), StreamSetting(AtRandom(0.3))),
    )
    assert asked(one) == asked(other)


def test_people_are_asked_about_a_stream_that_waits_for_them(tmp_path: Path) -> None:
    expected = asked(run(Margin(), settings={"budget": 18, "threads": 1}))
    for number in range(4):
        oracle = FilesOracle(tmp_path / "queries", SOURCE.class_names, SOURCE.train.positions)
        result = run(Margin(), None, tmp_path, oracle=oracle, settings={"budget": 18, "threads": 1})
        seen = [row["stream/seen"] for row in result.rows]
        assert result.status == ("waiting" if number < 3 else "complete")
        assert seen == sorted(set(seen))
        give_answers(tmp_path, abstain=lambda index: False)
    assert asked(result) == expected


def test_a_stream_without_its_checkpoints_goes_on_behind_the_last_sample_asked(
    tmp_path: Path,
) -> None:
    setting = StreamSetting(Quantile(0.3), order="own")
    first = run(Margin(), setting, tmp_path, settings={"budget": 12})
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    result = run(Margin(), setting, tmp_path, settings={"budget": 30})
    assert result.rows[2]["stream/seen"] == first.rows[2]["stream/seen"]
    assert asked(result)[:12] == asked(first)
    assert asked(result) == sorted(asked(result))


def test_tensorboard_shows_streams_over_samples_seen_each_point_once(tmp_path: Path) -> None:
    for budget in (12, 24):
        result = run(Margin(), None, tmp_path, settings={"budget": budget})
    board = EventAccumulator(str(tmp_path / "tb")).Reload()
    points = board.Scalars("6_stream_over_seen/test_accuracy")
    seen = [row["stream/seen"] for row in result.rows]
    assert [point.step for point in points] == seen
    assert [point.value for point in points] == pytest.approx(
        [row["test/accuracy"] for row in result.rows]
    )
    over_labels = board.Scalars("6_stream/seen")
    assert [(p.step, p.value) for p in over_labels] == list(
        zip((row["labels"] for row in result.rows), seen, strict=True)
    )


def test_a_run_on_a_stream_is_not_replayed_as_one_on_a_pool(tmp_path: Path) -> None:
    config = {"setting": {"_target_": "dal.runs.StreamSetting"}, "seed": 0}
    config |= {"difficulty": {}, "split": {}, **{name: {"_target_": "dal"} for name in PARTS}}
    run(Margin(), None, tmp_path, config=config, settings={"keep_models": True, "max_rounds": 1})
    with pytest.raises(ValueError, match="asked about what StreamSetting gave it"):
        Replay(tmp_path)


def test_a_drift_by_classes_needs_them() -> None:
    unknown = torch.full_like(SOURCE.train.targets, UNKNOWN)
    source = replace(SOURCE, train=SOURCE.train.with_targets(unknown))
    with pytest.raises(ValueError, match=r"setting\.order=drifting goes by the class"):
        run(Margin(), StreamSetting(Quantile(), order="drifting"), source=source)


@pytest.mark.parametrize(
    "options", [{"drift": 2.0}, {"density": -1.0}, {"window": 0}, {"chunk": 0}]
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"setting.{next(iter(options))}="):
        StreamSetting(Quantile(), **options)


@pytest.mark.parametrize("setting", [PoolSetting(), StreamSetting(Quantile())])
def test_a_budget_for_everything_is_said_of_a_pool_alone(
    setting: Setting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a stream most are let go, whatever the budget; and once is enough."""
    caplog.set_level(logging.INFO)
    for rounds in (1, 2):
        run(Margin(), setting, tmp_path, settings={"budget": 500, "max_rounds": rounds})
    left = len(SOURCE.train) - len(INITIAL)
    said = [
        m for m in caplog.messages if m == f"budget=500: all {left} unlabeled samples get a label"
    ]
    assert len(said) == isinstance(setting, PoolSetting)
