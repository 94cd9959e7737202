"""Runs whose samples are made: where, who answers, what is kept, and what is refused."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
import synthesis_job
import torch
from synthesis_job import SOURCE, run, run_by_files
from torch import Tensor

import dal
from dal.checkpoint import load
from dal.data import Dataset, digits, iris, make_multilabel_classification, make_source, moons
from dal.data.made import MadeSplit
from dal.data.synthetic import nearer_center
from dal.learners import Dropout, Ensemble, Rounds
from dal.models import MLP
from dal.models.estimators import knn
from dal.oracles import Noisy, SimulatedOracle
from dal.query import (
    BALD,
    Badge,
    Density,
    Entropy,
    ExpectedGradientLength,
    Instability,
    LeastConfidence,
    Margin,
    Random,
)
from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import Probs
from dal.runs import PoolSetting, SynthesisSetting
from dal.runs.spool import with_added
from dal.utils.safe_files import DamagedError, csv_text

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dal.runs.loop", "torch._dynamo", "torch.utils.tensorboard"])
TOTAL = len(SOURCE.train)
MADE = ("ascent", "between")


def made_of(result: dal.Result) -> Tensor:
    train = result.job.source.train
    assert isinstance(train, MadeSplit)
    assert isinstance(train.made, Tensor)
    return train.made


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if not k.endswith("_s")} for li in lines]


def finish(function: Any, *args: Any) -> int:
    process = CONTEXT.Process(target=function, args=args)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return int(process.exitcode)


def test_the_line_of_a_round_says_how_many_were_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(None)
    ends = [m.rpartition(" | ")[2] for m in caplog.messages if m.startswith("round ")]
    assert ends == ["0 made", "4 made", "8 made", "12 made"]


def test_ascent_makes_what_the_network_is_unsure_about(tmp_path: Path) -> None:
    result = run(tmp_path)
    made = made_of(result)
    box = SOURCE.train.inputs
    assert isinstance(box, Tensor)
    assert len(made) == 12
    assert ((made >= box.amin(0)) & (made <= box.amax(0))).all()
    events = [event for event in result.job.pool.events() if event["origin"] != "initial"]
    assert [event["index"] for event in events] == [*range(TOTAL, TOTAL + 12)]
    assert {event["origin"] for event in events} == {"synthetic"}
    assert [event["target"] for event in events] == nearer_center(made).tolist()
    assert result.job.pool.labels == 18
    assert len(result.job.candidates) == TOTAL - 6
    # Entropy of two classes is at most ln 2: a network is nearly that unsure of what was made.
    assert statistics.median(event["score"] for event in events) > 0.65
    assert [row["synthesis/made"] for row in result.rows] == [0, 4, 8, 12]
    assert all(row["query/gain"] >= 0 for row in result.rows[:-1])
    with (tmp_path / "queries.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [int(row["index"]) for row in told] == [*range(TOTAL, TOTAL + 12)]
    assert [int(row["sample"]) for row in told] == [*range(120, 132)]


def test_halving_between_classes_comes_to_the_boundary_and_goes_along_it() -> None:
    result = run(None, "between", budget=40, strategy=Random())
    assert len(made_of(result)) == 40
    inputs = torch.cat([SOURCE.train.inputs, made_of(result)])  # type: ignore[list-item]
    known = result.job.pool.train_set()
    labels = dict(zip(known.indices.tolist(), known.targets.tolist(), strict=True))
    truth = nearer_center(inputs)
    chains = result.job.state.setting["chains"]
    assert len(chains) == 4
    for a, b, asked in chains:
        assert labels[a] != labels[b]
        assert all(labels[n] == truth[n] for n in (a, b) if n >= TOTAL)
        assert asked >= TOTAL
    assert sum(row.get("query/beside", 0) for row in result.rows) > 0


def test_features_ask_about_real_samples_of_high_scores() -> None:
    result = run(None, "features")
    events = [event for event in result.job.pool.events() if event["origin"] == "oracle"]
    assert len({event["index"] for event in events}) == 12
    assert max(event["index"] for event in events) < TOTAL
    assert not isinstance(result.job.source.train, MadeSplit)


@pytest.mark.parametrize("how", MADE)
@pytest.mark.parametrize(
    "case", [{"committee": Ensemble(2)}, {"model": MLP}, {"strategy": Margin()}]
)
def test_the_same_run_makes_the_same_samples(how: str, case: dict[str, Any]) -> None:
    first, again = (run(None, how, budget=8, **case) for _ in range(2))
    assert torch.equal(made_of(first), made_of(again))


def test_pixels_stay_pixels_and_a_trained_model_answers(tmp_path: Path) -> None:
    source = make_source(digits(), seed=0)
    expert = run(
        tmp_path / "expert", source=source, count=100, budget=4, model=MLP, setting=PoolSetting()
    )
    oracle = SimulatedOracle(source.train.targets, truth=tmp_path / "expert")
    for start in ("pool", "noise"):
        setting = SynthesisSetting(start=start, steps=5)  # type: ignore[arg-type]
        result = run(tmp_path / start, source=source, setting=setting, oracle=oracle, count=20)
        made = made_of(result)
        assert made.dtype == torch.uint8
        assert made.shape[1:] == source.train.store.spec
        assert len(made.unique()) > 16
        predictor = dal.load(tmp_path / "expert")
        told = [e["target"] for e in result.job.pool.events() if e["origin"] == "synthetic"]
        names = predictor.predict(made)
        assert [source.class_names[target] for target in told] == names
    assert expert.status == "complete"


@pytest.mark.parametrize("how", MADE)
def test_killed_runs_go_on_to_the_same_bits(tmp_path: Path, how: str) -> None:
    assert finish(synthesis_job.run, tmp_path / "whole", how) == 0
    deaths = 0
    for seed in range(200):
        code = finish(synthesis_job.run_and_die, tmp_path / "killed", seed, how)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert code == 0
    assert deaths >= 3
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (whole / "queries.csv").read_bytes() == (killed / "queries.csv").read_bytes()
    assert rows(whole) == rows(killed)
    for path in sorted((whole / "made").iterdir()):
        one, other = load(path), load(killed / "made" / path.name)
        assert torch.equal(one["inputs"], other["inputs"])
    weights = [load(folder / "model.pt")["weights"] for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def answer(folder: Path) -> None:
    for path in (folder / "queries").glob("*.csv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = list(csv.DictReader(file))
        if any(row["label"] for row in found):
            continue
        for row in found:
            row["label"] = "left" if int(row["index"]) % 2 else "right"
        path.write_text(csv_text([list(found[0]), *[list(row.values()) for row in found]]))


@pytest.mark.parametrize("how", MADE)
def test_people_answer_in_files_and_nothing_is_lost_with_all_checkpoints(
    tmp_path: Path, how: str
) -> None:
    assert run_by_files(tmp_path, how).status == "waiting"
    kept = load(tmp_path / "made" / "round_0000.pt")["inputs"]
    for _ in range(2):
        answer(tmp_path)
        assert run_by_files(tmp_path, how).status == "waiting"
        shutil.rmtree(tmp_path / "checkpoints")
    result = run_by_files(tmp_path, how)
    assert result.job.pool.labels == 6 + 8
    assert torch.equal(made_of(result)[:4], kept)
    with (tmp_path / "queries" / "round_0000.csv").open() as file:
        told = {int(row["index"]): row["label"] for row in csv.DictReader(file)}
    assert list(told) == [120, 121, 122, 123]
    events = [e for e in result.job.pool.events() if e["origin"] == "synthetic"]
    names = [SOURCE.class_names[event["target"]] for event in events]
    assert names == ["right", "left"] * 4
    answer(tmp_path)
    assert run_by_files(tmp_path, how).status == "complete"


def test_made_samples_that_are_gone_are_missed(tmp_path: Path) -> None:
    run(tmp_path, budget=4)
    shutil.rmtree(tmp_path / "made")
    with pytest.raises(DamagedError, match=f"lacks made samples.*number {TOTAL} first"):
        run(tmp_path, budget=8)


def test_made_samples_have_the_numbers_of_the_run_once_it_has_ended(tmp_path: Path) -> None:
    result = run(tmp_path, budget=4)
    events = result.job.pool.events()
    source = with_added(SOURCE, tmp_path, events)
    made = torch.tensor([event["index"] for event in events if event["index"] >= TOTAL])
    assert len(made) == 4
    assert source.train.original(made) == result.job.source.train.original(made)
    assert torch.equal(torch.as_tensor(source.train.raw(made)), torch.as_tensor(made_of(result)))
    path = tmp_path / "made" / "round_0000.pt"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        DamagedError, match="does not match its digest; restore it, or move the run"
    ):
        with_added(SOURCE, tmp_path, events)


def test_what_was_made_and_is_damaged_before_anybody_answered_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "a", budget=4)
    expected = run(tmp_path / "b", budget=8)
    (tmp_path / "a" / "made" / "round_0001.pt").write_bytes(b"half")
    result = run(tmp_path / "a", budget=8)
    assert "round_0001.pt is damaged; its samples" in caplog.text
    assert torch.equal(made_of(result), made_of(expected))


def test_what_was_made_before_a_kill_is_asked_about_on_another_machine(tmp_path: Path) -> None:
    run(tmp_path / "a", budget=4)
    run(tmp_path / "b", budget=8)
    path = tmp_path / "b" / "made" / "round_0001.pt"
    content = load(path)
    content["inputs"] += 0.01  # as if other numerics had made it
    dal.checkpoint.save(path, content)
    (tmp_path / "a" / "made" / "round_0001.pt").write_bytes(path.read_bytes())
    result = run(tmp_path / "a", budget=8)
    assert torch.equal(made_of(result)[4:], content["inputs"])


def test_one_class_alone_has_no_opposite_pair(caplog: pytest.LogCaptureFixture) -> None:
    only = (SOURCE.train.targets == 0).nonzero().squeeze(1)[:2]
    result = run(None, "between", budget=8, initial=only)
    assert "round 0: all labels are of one class" in caplog.text
    origins = [event["origin"] for event in result.job.pool.events()]
    assert origins == ["initial"] * 2 + ["oracle"] * 4 + ["synthetic"] * 4


def test_a_pool_that_is_labeled_as_a_whole_ends_nothing() -> None:
    result = run(None, initial=torch.arange(TOTAL), budget=8)
    assert result.reason == "budget"
    assert result.job.pool.labels == TOTAL + 8


def test_noise_of_people_is_theirs_on_made_samples_too() -> None:
    of = SimulatedOracle(SOURCE.train.targets)
    noisy = Noisy(of, class_names=SOURCE.class_names, accuracy=0.0)
    result = run(None, oracle=noisy)
    told = [e["target"] for e in result.job.pool.events() if e["origin"] == "synthetic"]
    assert told == (1 - nearer_center(made_of(result))).tolist()


class NotSmooth(ScoreStrategy):
    """A score that nothing can climb."""

    needs = frozenset({Probs()})

    def score(self, view: PoolView) -> Tensor:
        return (view[Probs()] > 0.5).double().sum(1)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"strategy": Random()}, "Random gives none"),
        ({"strategy": Badge()}, "Badge gives none"),
        ({"strategy": Density()}, "Density compares candidates"),
        ({"strategy": Instability()}, "Instability compares candidates or earlier"),
        ({"strategy": BALD(), "committee": Rounds(3)}, "BALD compares candidates or earlier"),
        ({"strategy": ExpectedGradientLength()}, "GradNorms.* has no gradient"),
        ({"strategy": NotSmooth()}, "NotSmooth: the score has no gradient"),
        ({"model": knn}, "Entropy: the model has no gradient"),
    ],
)
@pytest.mark.parametrize("how", ["ascent", "features"])
def test_what_has_no_gradient_is_refused_by_name(
    how: str, case: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=rf"setting\.how={how}.*{words}.*choose"):
        run(None, how, **case)


def test_committees_are_climbed() -> None:
    for case in (
        {"committee": Ensemble(2)},
        {"committee": Dropout(3), "model": lambda s, c: MLP(s, c, [8], 0.5)},
    ):
        result = run(None, strategy=BALD(), budget=4, **case)
        assert result.rows[0]["query/gain"] > 0
    with pytest.raises(TypeError, match="members of a committee"):
        run(None, "features", strategy=BALD(), committee=Ensemble(2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bounds": [1, 1]}, "has no volume"),
        ({"bounds": [2, 1]}, "has no volume"),
        ({"bounds": [[0, 0], [1, 0]]}, "has no volume"),
        ({"bounds": [0, 1, 2]}, "has 3 entries"),
        ({"bounds": [0, float("nan")]}, "finite"),
        ({"bounds": [[0, 0], [1]]}, "2 numbers below and 1 above"),
        ({"bounds": [0, 1], "how": "features"}, "bounds are of samples"),
        ({"how": "descent"}, "give ascent, features or between"),
        ({"start": "zero"}, "give pool or noise"),
        ({"steps": 0}, "steps=0"),
        ({"rate": 0}, "rate=0"),
        ({"rate": 1.5}, "rate=1.5"),
        ({"close": 2}, "close=2"),
        ({"reach": -1}, "reach=-1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SynthesisSetting(**options)


def test_bounds_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(TypeError, match="bounds=wide"):
        SynthesisSetting(bounds="wide")
    with pytest.raises(ValueError, match="3 pairs for samples of 2 features"):
        run(None, setting=SynthesisSetting(bounds=[[0, 0, 0], [1, 1, 1]]))
    flat = make_source(Dataset("flat", torch.ones(40, 2), torch.arange(40) % 2, ("a", "b")), seed=0)
    with pytest.raises(ValueError, match="range has no volume"):
        run(None, source=flat)
    images = make_source(digits(), seed=0)
    with pytest.raises(ValueError, match="from 0 to 255"):
        run(None, source=images, setting=SynthesisSetting(bounds=[0, 300]))


def test_given_bounds_are_kept_to() -> None:
    setting = SynthesisSetting(bounds=[[-1, -2], [0.5, 2]], start="noise")
    made = made_of(run(None, setting=setting))
    assert ((made >= torch.tensor([-1, -2])) & (made <= torch.tensor([0.5, 2]))).all()


def test_an_ascent_that_diverges_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    class Broken(Entropy):
        def score(self, view: PoolView) -> Tensor:
            scores = super().score(view)
            return scores / (scores * 0) if len(scores) == 4 else scores

    with pytest.raises(FloatingPointError, match=r"ascent diverged in step 0.*4 of 4.*bounds"):
        run(tmp_path, strategy=Broken())
    assert run(tmp_path).status == "complete"


def test_oracles_without_a_truth_are_refused_by_name(tmp_path: Path) -> None:
    source = make_source(iris(), seed=0)
    for how in MADE:
        with pytest.raises(ValueError, match=r"oracle=simulated cannot.*oracle\.truth=RUN"):
            run(None, how, source=source)
    assert run(None, "features", source=source).status == "complete"
    run(tmp_path, source=source, budget=4, setting=PoolSetting(), model=MLP)
    other = SimulatedOracle(SOURCE.train.targets, truth=tmp_path)
    with pytest.raises(ValueError, match=r"knows the classes \['setosa'"):
        run(None, oracle=other)
    with pytest.raises(FileNotFoundError):
        run(None, oracle=SimulatedOracle(SOURCE.train.targets, truth=tmp_path / "none"))


def test_what_no_sample_can_be_made_of_is_refused() -> None:
    tokens = {"ids": torch.randint(5, (40, 3)), "mask": torch.ones(40, 3)}
    whole = torch.randint(5, (40, 3))
    for inputs, words in ((tokens, "numbers of tokens"), (whole, "whole numbers")):
        source = make_source(Dataset("words", inputs, torch.arange(40) % 2, ("a", "b")), seed=0)
        with pytest.raises(ValueError, match=rf"setting\.how=ascent makes samples.*{words}"):
            run(None, source=source)
    several = make_source(make_multilabel_classification(100), seed=0)
    with pytest.raises(ValueError, match="oracle=simulated cannot answer"):
        run(None, source=several, strategy=dal.query.MultilabelMargin())
    with pytest.raises(TypeError, match="between two classes"):
        run(None, "between", source=several, strategy=Random())
    with pytest.raises(ValueError, match="keep_history=true"):
        run(None, settings={"keep_history": True})


def test_moons_and_other_scores_are_climbed() -> None:
    source = make_source(moons(120), seed=0)
    result = run(None, source=source, strategy=LeastConfidence())
    assert result.status == "complete"
    assert made_of(result).shape == (12, 2)
