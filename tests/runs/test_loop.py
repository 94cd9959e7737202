"""The loop as a library: without files, with people as the oracle, with bad strategies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_job import dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import dal
from dal import checkpoint
from dal.checkpoint import Checkpoints
from dal.data import initial_labels, make_source
from dal.models import MLP, LogisticRegression
from dal.oracles import Answers, FilesOracle, SimulatedOracle
from dal.query import Entropy, Instability, PoolView, Query, Random, Strategy
from dal.recording.event_file import EventFile
from dal.state import FORMAT
from dal.training.trainer import Trainer
from dal.utils.signals import PreemptedError

SOURCE = make_source(dataset(), seed=0)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)


def run(strategy: Strategy, run_dir: Path | None = None, **options: Any) -> dal.Result:
    settings = {"budget": 12, "query_size": 6, "threads": 1, "figures": False}
    settings |= options.pop("settings", {})
    parts = {"initial": INITIAL, "trainer": Trainer(epochs=3)} | options
    made = dal.Settings(**settings)
    return dal.run(SOURCE, MLP, strategy, settings=made, run_dir=run_dir, **parts)


def test_run_without_directory_spends_the_budget() -> None:
    result = run(Entropy())
    assert (result.status, result.reason) == ("complete", "budget")
    for name in ("labels", "trained_on", "cost"):
        assert [row[name] for row in result.rows] == [9, 15, 21]
    assert [row["queried"] for row in result.rows] == [0, 6, 12]
    assert {(row["pseudo"], row["validation_labels"]) for row in result.rows} == {(0, 0)}
    assert [row["round"] for row in result.rows] == [0, 1, 2]
    assert [number for number, *_ in result.job.pool.queries()] == [0] * 6 + [1] * 6
    assert result.job.pool.num_queried == 12
    assert 0 <= result.aubc <= 1


def test_run_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run(Entropy(), settings={"threads": 2})
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_run_budget_no_multiple_of_query_size_asks_the_rest() -> None:
    result = run(Entropy(), settings={"budget": 8})
    assert [row["query/size"] for row in result.rows[:-1]] == [6, 2]


def test_run_budget_beyond_the_pool_empties_it() -> None:
    result = run(Random(), settings={"budget": 1000, "query_size": 100})
    assert result.reason == "pool_exhausted"
    assert result.job.pool.num_unlabeled == 0
    assert len(result.job.pool.train_set()) == len(SOURCE.train)


def test_run_query_size_beyond_the_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="query_size=500 but only 201 samples"):
        run(Random(), settings={"query_size": 500, "budget": 1000})


def test_run_candidates_are_a_fixed_subset_shared_by_strategies() -> None:
    seen: list[set[int]] = []

    class Seeing(Random):
        def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
            seen.append(set(view.indices.tolist()))
            return super().select(view, query_size, rng)

    for seed in (3, 3, 4):
        run(Seeing(), settings={"seed": seed, "query_size": 4, "budget": 8, "candidates": 12})
    assert [len(candidates) for candidates in seen] == [12, 8] * 3
    assert seen[1] < seen[0]
    assert seen[2:4] == seen[:2]
    assert seen[4] != seen[0]


def test_run_ends_when_the_candidates_are_used_up() -> None:
    result = run(Random(), settings={"query_size": 4, "budget": 40, "candidates": 10})
    assert (result.reason, result.job.pool.num_queried) == ("pool_exhausted", 10)
    with pytest.raises(ValueError, match="query_size=4 but only 3 samples can be chosen"):
        run(Random(), settings={"query_size": 4, "candidates": 3})
    with pytest.raises(ValueError, match="but only 1 sample can be chosen"):
        run(Random(), settings={"query_size": 4, "candidates": 1})


def test_run_candidates_beyond_the_pool_are_all_of_it() -> None:
    result = run(Random(), settings={"candidates": 10**6})
    assert len(result.job.candidates) == result.job.pool.num_unlabeled


def test_run_strategy_meant_for_another_task_is_refused() -> None:
    class ForLabelSets(Random):
        tasks = frozenset({"multilabel"})

    with pytest.raises(TypeError, match="ForLabelSets is meant for multilabel targets"):
        run(ForLabelSets())


def test_run_max_rounds_zero_fits_once() -> None:
    result = run(Random(), settings={"max_rounds": 0})
    assert (result.reason, len(result.rows)) == ("max_rounds", 1)


def test_run_strategies_at_one_seed_share_round_0() -> None:
    rows = [run(strategy).rows[0] for strategy in (Random(), Entropy())]
    shared = [
        {k: v for k, v in row.items() if "query" not in k and not k.endswith("_s")} for row in rows
    ]
    assert shared[0] == shared[1]


def test_run_instability_first_query_is_random_and_recorded() -> None:
    rows = run(Instability()).rows
    assert rows[0]["query/random"] is True
    assert "query/random" not in rows[1]
    assert rows[1]["query/tied"] >= 0


def test_run_keep_history_shows_a_sample_over_all_rounds(tmp_path: Path) -> None:
    result = run(Random(), tmp_path, settings={"keep_history": True})
    index = int(result.job.pool.unlabeled_idx[0])
    probs = result.job.history.of_sample(index)
    assert probs.shape == (2, 3)
    assert torch.allclose(probs.sum(1), torch.ones(2))
    queried = result.job.pool.queries()[0][1]
    assert result.job.history.of_sample(queried)[1].isnan().all()


def test_run_without_record_of_epochs_is_the_same_run(tmp_path: Path) -> None:
    queries = {}
    for recorded in (True, False):
        folder = tmp_path / str(recorded)
        result = run(Entropy(), folder, settings={"record_epochs": recorded})
        queries[recorded] = result.job.pool.queries()
        tags = EventAccumulator(str(folder / "tb")).Reload().Tags()["scalars"]
        assert ("5_fit_over_steps/train/loss" in tags) is recorded
        assert ("epoch 2, 9 labeled" in (folder / "train.log").read_text()) is recorded
    assert queries[True] == queries[False]


def test_run_without_figures_is_the_same_run(tmp_path: Path) -> None:
    queries = {}
    for drawn in (True, False):
        folder = tmp_path / str(drawn)
        result = run(Entropy(), folder, settings={"figures": drawn})
        queries[drawn] = result.job.pool.queries()
        tags = EventAccumulator(str(folder / "tb")).Reload().Tags()["images"]
        assert any(tag.startswith("7_figures/") for tag in tags) is drawn
        assert (folder / "curve.png").is_file() is drawn
    assert queries[True] == queries[False]


def test_run_epochs_are_on_disk_before_a_save_within_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, replace = [], os.replace

    def replace_and_look(source: Any, target: Any, **options: Any) -> None:
        replace(source, target, **options)
        if Path(target).parent.name != "checkpoints" or Path(target).suffix != ".pt":
            return
        fit = checkpoint.load(Path(target))["state"]["fit"]
        if fit is not None:
            events = EventAccumulator(str(tmp_path / "tb")).Reload()
            seen.append((fit["epoch"], len(events.Scalars("5_fit_over_steps/train/loss"))))

    monkeypatch.setattr(os, "replace", replace_and_look)
    run(Entropy(), tmp_path, settings={"save_every": 1, "max_rounds": 0})
    assert seen == [(1, 1), (2, 2), (3, 3)]


def shown(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """All points that TensorBoard shows of a run, but for seconds."""
    events = EventAccumulator(str(run_dir / "tb"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith("_s")]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def write_beyond(run_dir: Path) -> None:
    """What a killed process leaves behind: points beyond its last commit."""
    file = EventFile(run_dir / "tb")
    points = shown(run_dir)
    for tag, step in (("5_fit_over_steps/train/loss", 1), ("1_learning_curve/accuracy", 6)):
        value = Summary.Value(tag=tag, simple_value=99.0)
        file.add(Summary(value=[value]), points[tag][-1][0] + step)
    file.close()


def test_tensorboard_of_an_interrupted_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    class Interrupting(Entropy):
        times = 0

        def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
            if self.times:
                self.times -= 1
                os.kill(os.getpid(), signal.SIGTERM)
            return super().select(view, query_size, rng)

    strategy = Interrupting()
    options: dict[str, Any] = {"settings": {"budget": 24}, "trainer": Trainer(epochs=4)}
    run(strategy, tmp_path / "whole", **options)
    strategy.times = 3
    for _ in range(3):
        with pytest.raises(PreemptedError):
            run(strategy, tmp_path / "parts", **options)
        write_beyond(tmp_path / "parts")
    result = run(strategy, tmp_path / "parts", **options)
    assert result.status == "complete"
    found = shown(tmp_path / "parts")
    assert found == shown(tmp_path / "whole")
    assert len(found["5_fit_over_steps/train/loss"]) == 5 * 4
    assert [x for x, _ in found["1_learning_curve/accuracy"]] == [9, 15, 21, 27, 33]


def test_tensorboard_opens_on_curve_and_times_and_tells_of_each_pick(tmp_path: Path) -> None:
    config = {
        "seed": 3,
        "query_size": 6,
        "choices": {"options": {"strategy": "entropy"}, "values": {"trainer.epochs": 3}},
    }
    result = run(Entropy(), tmp_path, config=config)
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    groups = sorted({tag.split("/")[0] for tag in events.Tags()["scalars"]})
    assert groups[:2] == ["1_learning_curve", "3_time"]
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("best")]
    rows = events.Tensors("6_query/picks/text_summary")[0].tensor_proto.string_val[0].decode()
    picks = [q for q in result.job.pool.queries() if q[0] == 0]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.split("\n")[2:]]
    assert [(int(c[0]), c[1], float(c[3])) for c in cells] == [
        (int(SOURCE.train.positions[i]), SOURCE.class_names[t], pytest.approx(score, rel=1e-3))
        for _, i, score, t in picks
    ]
    assert all(cell[2].rpartition(", ")[0] in SOURCE.class_names for cell in cells)
    random = run(Random(), tmp_path / "random", settings={"max_rounds": 1})
    assert random.job.pool.queries()
    events_of_random = EventAccumulator(str(tmp_path / "random" / "tb")).Reload()
    table = events_of_random.Tensors("6_query/picks/text_summary")[0].tensor_proto.string_val[0]
    assert all(row.split("|")[3].strip() == "" for row in table.decode().split("\n")[2:])
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert sorted(hparams) == ["seed", "strategy", "trainer.epochs"]


def test_run_of_another_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    run(Entropy(), tmp_path, settings={"max_rounds": 0})
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save({**(checkpoints.load() or {}), "format": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=f"format 1, this is {FORMAT}.*choose another saved_dir"):
        run(Entropy(), tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_run_cold_restart_differs_from_warm() -> None:
    cold = run(Random(), trainer=Trainer(epochs=3, restart="cold")).rows
    warm = run(Random(), trainer=Trainer(epochs=3)).rows
    assert cold[0]["test/loss"] == warm[0]["test/loss"]
    assert cold[1]["test/loss"] != warm[1]["test/loss"]


def test_run_files_oracle_waits_and_goes_on(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path / "queries", SOURCE.class_names)
    settings = {"budget": 6}
    for _ in range(2):  # asking again changes nothing
        waiting = run(Entropy(), tmp_path / "run", oracle=oracle, settings=settings)
        assert (waiting.status, waiting.reason) == ("waiting", "answers")
        assert waiting.job.pool.num_queried == 0
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    labels = ["a", "b", "c", "0", "?", "?"]
    filled = [line + label for line, label in zip(lines, labels, strict=True)]
    path.write_text("\n".join([header, *filled]) + "\n")
    result = run(Entropy(), tmp_path / "run", oracle=oracle, settings=settings)
    assert (result.status, result.reason) == ("complete", "budget")
    assert [target for *_, target in result.job.pool.queries()] == [0, 1, 2, 0, -1, -1]
    counted = ("labels", "trained_on", "cost", "queried")
    assert [result.rows[-1][name] for name in counted] == [9 + 6, 9 + 4, 9 + 6, 6]
    assert (tmp_path / "run" / "queries.csv").read_text().count("?") == 2


def test_run_corrected_while_it_waits_shows_each_round_once(tmp_path: Path) -> None:
    """A correction counts from the next round on: in rows, in the curve and in the training set."""
    oracle = FilesOracle(tmp_path / "queries", SOURCE.class_names)
    waiting = run(Entropy(), tmp_path / "run", oracle=oracle, settings={"budget": 7})
    pool, index = waiting.job.pool, INITIAL[:1]
    pool.label(0, index, (SOURCE.train.targets[index] + 1) % 3, origin="oracle", again=True)
    waiting.job.commit("answers")
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{line}a" for line in lines)]))
    result = run(Entropy(), tmp_path / "run", oracle=oracle, settings={"budget": 7})
    assert result.reason == "budget"
    counted = ("labels", "queried", "cost", "trained_on")
    assert [[row[name] for name in counted] for row in result.rows] == [
        [9, 0, 9, 9],
        [16, 7, 16, 15],
    ]
    curve = [(row["labels"], pytest.approx(row["test/accuracy"])) for row in result.rows]
    assert shown(tmp_path / "run")["1_learning_curve/accuracy"] == curve


def test_run_files_oracle_equals_simulated(tmp_path: Path) -> None:
    """The detour over files and three processes' worth of states changes no result."""
    settings = {"budget": 6}
    oracle = FilesOracle(tmp_path / "queries", SOURCE.class_names)
    run(Instability(), tmp_path / "run", oracle=oracle, settings=settings)
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    targets = [int(SOURCE.train.targets[int(line.split(",")[0])]) for line in lines]
    filled = [line + str(target) for line, target in zip(lines, targets, strict=True)]
    path.write_text("\n".join([header, *filled]))
    by_hand = run(Instability(), tmp_path / "run", oracle=oracle, settings=settings)
    simulated = run(Instability(), settings=settings)
    assert by_hand.rows[-1]["test/loss"] == simulated.rows[-1]["test/loss"]


class Wrong(Strategy):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        indices = view.indices[:query_size].clone()
        if self.kind == "repeats":
            indices[1] = indices[0]
        elif self.kind == "labeled":
            indices[0] = INITIAL[0]
        elif self.kind == "short":
            indices = indices[:-1]
        return Query(indices, torch.zeros(len(indices)))


@pytest.mark.parametrize("kind", ["repeats", "labeled", "short"])
def test_run_bad_query_is_refused_and_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Wrong must return 6 distinct candidates"):
        run(Wrong(kind), tmp_path)
    assert '"failed"' in (tmp_path / "status.json").read_text()
    assert "Traceback" in (tmp_path / "train.log").read_text()
    assert run(Entropy(), tmp_path).reason == "budget"


class Liar(SimulatedOracle):
    def collect(self, ticket: dict[str, Any]) -> Answers:
        answers = super().collect(ticket)
        return Answers(answers.indices, answers.targets + 7, answers.abstained, answers.cost)


def test_run_answer_that_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="is not one of the 3 classes"):
        run(Random(), oracle=Liar(SOURCE.train.targets))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: replace(a, indices=(a.indices + 1) % 30),
            "was asked about the samples .* as well",
        ),
        (lambda a: replace(a, indices=a.indices[:1].repeat(6)), "6 answers of Odd about sample"),
        (lambda a: replace(a, indices=a.indices[:-1]), "collected 5 indices and 6 targets"),
        (lambda a: replace(a, targets=a.targets.tolist()), "targets as a list; give a tensor"),
        (vars, r"collected a dict; give dal\.oracles\.Answers"),
    ],
    ids=["others", "twice", "too few", "a list", "a dict"],
)
def test_run_answers_that_are_none_to_the_query_are_refused(
    change: Callable[[Answers], Any], message: str
) -> None:
    class Odd(SimulatedOracle):
        def collect(self, ticket: dict[str, Any]) -> Answers:
            answers: Answers = change(super().collect(ticket))
            return answers

    with pytest.raises((TypeError, ValueError), match=f"Odd .*{message}"):
        run(Random(), oracle=Odd(SOURCE.train.targets))


def test_run_absent_class_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    only_two = (SOURCE.train.targets < 2).nonzero().squeeze(1)[:8]
    run(Random(), initial=only_two)
    assert "no label yet for 1 of 3 classes: 'c'" in caplog.text


def test_run_works_with_a_model_of_one_layer() -> None:
    settings = dal.Settings(budget=6, query_size=6, threads=1)
    result = dal.run(
        SOURCE,
        LogisticRegression,
        Entropy(),
        initial=INITIAL,
        trainer=Trainer(epochs=3),
        settings=settings,
    )
    assert result.reason == "budget"


def test_run_files_oracle_asks_for_rows_of_the_arrays_given(tmp_path: Path) -> None:
    positions = SOURCE.train.positions
    assert torch.equal(dataset().inputs[positions], SOURCE.train.inputs)
    oracle = FilesOracle(tmp_path / "queries", SOURCE.class_names, positions)
    waiting = run(Entropy(), tmp_path / "run", oracle=oracle, settings={"budget": 6})
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    asked = [int(line.split(",")[0]) for line in lines]
    assert asked == positions[waiting.job.state.pending["indices"]].tolist()
    labels = [dataset().targets[row] for row in asked]
    filled = [f"{line}{label}" for line, label in zip(lines, labels, strict=True)]
    path.write_text("\n".join([header, *filled]))
    run(Entropy(), tmp_path / "run", oracle=oracle, settings={"budget": 6})
    rows = (tmp_path / "run" / "queries.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[-1]) for row in rows] == asked
    assert [row.split(",")[3] for row in rows] == [SOURCE.class_names[c] for c in labels]
