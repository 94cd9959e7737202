"""Runs on samples that no data set holds: of a generator, of a pipe, of a file of lines."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import arrivals_job
import pytest
import torch
from arrivals_job import COUNT, INITIAL, SAMPLES, SOURCE, run
from torch import Tensor

import dal
from dal.checkpoint import load
from dal.data import digits_tabular, make_source, text
from dal.data import table as own_table
from dal.data.synthetic import nearer_center
from dal.models import MLP, LogisticRegression
from dal.oracles import Answers, FilesOracle, Oracle
from dal.query import Margin, Query
from dal.runs import StreamSetting
from dal.runs.spool import with_added
from dal.streams import AboveThreshold, Quantile
from dal.training.trainer import Trainer
from dal.utils.safe_files import DamagedError

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dal.runs.loop", "torch._dynamo", "torch.utils.tensorboard"])
TOTAL = len(SOURCE.train)
TABLE = "id,size,color,kind\n" + "".join(
    f"r{n},{n / 4},{'red' if n % 2 else 'blue'},{'ab'[n % 4 > 1]}\n" for n in range(40)
)


def rows(result: dal.Result) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in result.rows]


def num_arrived(result: dal.Result) -> int:
    return sum(row.get("stream/arrived", 0) for row in result.rows)


def asked(result: dal.Result) -> list[int]:
    return [index for _, index, _, _ in result.job.pool.queries()]


class Expert(Oracle):
    """Says of everything that it is of the second class."""

    name = "expert"

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        return {"indices": query.indices.tolist()}

    def collect(self, ticket: dict[str, Any]) -> Answers:
        indices = torch.tensor(ticket["indices"])
        count = len(indices)
        return Answers(
            indices, torch.ones_like(indices), torch.zeros(count).bool(), torch.ones(count)
        )


def test_what_arrives_is_decided_about_as_the_same_samples_of_the_data() -> None:
    source = replace(SOURCE, train=SOURCE.train.part(torch.cat([INITIAL, others()])))
    first = torch.arange(COUNT)
    expected = run(None, None, source=source, initial=first)
    result = run(None, source=source, initial=first)
    assert (result.status, result.reason) == ("complete", "stream_ended")
    assert len(asked(result)) > 20
    assert [index - TOTAL for index in asked(result)] == [n - COUNT for n in asked(expected)]
    assert result.job.pool.queries() != expected.job.pool.queries()
    for mine, theirs in zip(rows(result), rows(expected), strict=True):
        assert {k: v for k, v in theirs.items() if k != "stream/accuracy"} == mine


def others() -> Tensor:
    return torch.tensor([n for n in range(TOTAL) if n not in set(INITIAL.tolist())])


def test_answers_about_samples_of_a_generator_are_those_of_an_oracle(tmp_path: Path) -> None:
    result = run(tmp_path, (sample for sample in SAMPLES), budget=12)
    assert result.reason == "budget"
    events = [event for event in result.job.pool.events() if event["origin"] != "initial"]
    assert {event["origin"] for event in events} == {"oracle"}
    assert min(event["index"] for event in events) >= TOTAL
    arrived = torch.stack([SAMPLES[event["index"] - TOTAL] for event in events])
    assert [event["target"] for event in events] == nearer_center(arrived).tolist()
    assert result.job.pool.labels == COUNT + 12
    assert len(result.job.candidates) == TOTAL - COUNT
    with (tmp_path / "queries.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [int(row["sample"]) - 150 for row in told] == [e["index"] - TOTAL for e in events]


def test_what_arrived_is_read_again_from_a_run_that_ended(tmp_path: Path) -> None:
    result = run(tmp_path, SAMPLES[:20])
    source = with_added(SOURCE, tmp_path, result.job.pool.events())
    indices = torch.tensor(asked(result))
    expected = torch.stack([SAMPLES[index - TOTAL] for index in asked(result)])
    assert torch.equal(torch.as_tensor(source.train.raw(indices)), expected)
    source = of_table(tmp_path)
    lines = tmp_path / "new.jsonl"
    lines.write_text('{"id": "x", "size": 2.5, "color": "red"}\n')
    by_people(source, tmp_path / "run", lines)
    source = with_added(source, tmp_path / "run", [{"index": len(source.train)}])
    assert source.content(len(source.train)) == "x"


def test_a_generator_goes_on_where_it_stood_and_nothing_that_arrived_is_lost(
    tmp_path: Path,
) -> None:
    whole = run(None)
    samples = iter(SAMPLES)
    for budget in (8, 20, 60):
        result = run(tmp_path, samples, budget=budget)
    assert rows(result) == rows(whole)
    assert asked(result) == asked(whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_runs_come_to_the_same_bits(tmp_path: Path, seed: int) -> None:
    expected = run(None, budget=16)
    deaths = 0
    for attempt in range(60):
        process = CONTEXT.Process(
            target=arrivals_job.run_and_die, args=(tmp_path, 100 * seed + attempt)
        )
        process.start()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
    assert deaths > 2
    result = run(tmp_path, budget=16)
    assert rows(result) == rows(expected)
    assert result.job.pool.queries() == expected.job.pool.queries()
    weights = [r.job.learner.fingerprint() for r in (result, expected)]
    assert weights[0] == weights[1]


def of_table(folder: Path) -> dal.data.Source:
    path = folder / "table.csv"
    path.write_text(TABLE)
    return make_source(own_table(str(path), target="kind", id="id"), seed=0, kind="none")


def by_people(source: dal.data.Source, run_dir: Path, arrivals: Any, **options: Any) -> dal.Result:
    oracle = FilesOracle(run_dir / "queries", source.class_names, source.train.positions)
    return dal.run(
        source,
        MLP,
        Margin(),
        initial=torch.arange(8),
        trainer=Trainer(epochs=2),
        oracle=oracle,
        setting=StreamSetting(AboveThreshold(-2.0), arrivals=arrivals),
        settings=dal.Settings(query_size=2, budget=6, figures=False, threads=1, **options),
        run_dir=run_dir,
    )


def answer(run_dir: Path) -> list[dict[str, str]]:
    """Fill in the newest query; gives its rows as they were asked."""
    path = max((run_dir / "queries").glob("round_*.csv"))
    with path.open() as file:
        told = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(told[0]))
        writer.writeheader()
        writer.writerows({**row, "label": "b"} for row in told)
    return told


def test_people_are_asked_about_lines_of_a_pipe_by_their_names(tmp_path: Path) -> None:
    source, run_dir, pipe = of_table(tmp_path), tmp_path / "run", tmp_path / "pipe"
    os.mkfifo(pipe)
    names = []
    for part in ("id,size,color\nx1,3,red\nx2,4,blue\n", "x3,5,red\nx4,4,blue\nx5,1,red\n"):
        writer = threading.Thread(target=pipe.write_text, args=(part,))
        writer.start()
        result = by_people(source, run_dir, pipe)
        writer.join()
        assert result.status == "waiting"
        names += [row["content"] for row in answer(run_dir)]
    assert names == ["x1", "x2", "x3", "x4"]
    pipe.unlink()
    pipe.write_text("")
    result = by_people(source, run_dir, pipe)
    assert result.status == "waiting"  # for the last, which had arrived before
    assert [row["content"] for row in answer(run_dir)] == ["x5"]
    result = by_people(source, run_dir, pipe)
    assert result.reason == "stream_ended"
    assert {event["origin"] for event in result.job.pool.events()} == {"initial", "oracle"}
    assert result.rows[-1]["stream/seen"] == 5
    with (run_dir / "queries.csv").open() as file:  # as well what was picked in earlier processes
        assert [row["content"] for row in csv.DictReader(file)] == ["x1", "x2", "x3", "x4", "x5"]


def test_a_question_may_be_larger_than_what_the_data_have_left() -> None:
    result = run(None, initial=torch.arange(TOTAL - 2), settings={"query_size": 4}, budget=8)
    assert len(asked(result)) == 8


def test_texts_arrive_as_lines(tmp_path: Path) -> None:
    path, lines = tmp_path / "texts.csv", tmp_path / "new.txt"
    path.write_text(
        "text,label\n" + "".join(f"word{n % 4} of {n},{'ab'[n % 2]}\n" for n in range(30))
    )
    lines.write_text("word1 again\n\nword2 of 3\nword3 more\n")
    source = make_source(text(str(path), target="label"), seed=0)
    result = dal.run(
        source,
        LogisticRegression,
        Margin(),
        initial=torch.arange(8),
        trainer=Trainer(epochs=2),
        oracle=Expert(),
        setting=StreamSetting(AboveThreshold(-2.0), arrivals=lines),
        settings=dal.Settings(query_size=2, budget=6, figures=False),
    )
    train = result.job.source.train
    assert [train.show(index) for index in asked(result)] == [
        "word1 again", "word2 of 3", "word3 more",
    ]  # fmt: skip
    assert result.reason == "stream_ended"


def test_a_pipe_without_a_sample_is_refused_and_the_run_goes_on_later(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sample arrived before the end"):
        run(tmp_path, [])
    assert run(tmp_path, SAMPLES).reason == "stream_ended"


def test_a_stream_that_breaks_ends_the_run_with_what_arrived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Iterator[Tensor]:
        yield from SAMPLES[:20]
        raise BrokenPipeError("gone")

    result = run(None, broken())
    assert (result.status, result.reason) == ("complete", "stream_ended")
    assert num_arrived(result) == 20
    assert "broke (gone): the stream ends here" in caplog.text


def test_an_ended_stream_goes_on_when_more_arrives(tmp_path: Path) -> None:
    first = run(tmp_path, SAMPLES[:40])
    again = run(tmp_path, SAMPLES[:40])
    assert rows(again) == rows(first)
    assert num_arrived(again) == 40
    result = run(tmp_path, SAMPLES)
    assert num_arrived(result) == len(SAMPLES)


def test_a_run_without_its_checkpoints_goes_on_behind_the_last_sample_asked(
    tmp_path: Path,
) -> None:
    first = run(tmp_path, budget=12)
    shutil.rmtree(tmp_path / "checkpoints")
    result = run(tmp_path, budget=24)
    assert asked(result)[:12] == asked(first)
    assert asked(result) == sorted(set(asked(result)))


def test_what_arrived_and_is_gone_is_missed(tmp_path: Path) -> None:
    result = run(tmp_path, budget=12)
    pieces = sorted((tmp_path / "arrived").iterdir())
    assert len(load(pieces[0])["inputs"]) == 8

    def refused(fact: str) -> None:
        match = f"{fact}.*; restore it, or move the run"
        with pytest.raises(DamagedError, match=match):
            run(tmp_path, budget=24)
        with pytest.raises(DamagedError, match=match):
            with_added(SOURCE, tmp_path, result.job.pool.events())

    whole = pieces[0].read_bytes()
    pieces[0].unlink()
    refused("lacks samples that arrived")
    pieces[0].mkdir()
    refused("is no file of samples")
    pieces[0].rmdir()
    dal.checkpoint.save(pieces[0], {"first": TOTAL})
    refused("is no file of samples")
    pieces[0].write_bytes(whole[:-9])
    refused("is damaged: its content does not match its digest")
    for piece in pieces:
        piece.unlink()
    refused("lacks samples that were asked about")
    shutil.rmtree(tmp_path / "arrived")
    with pytest.raises(DamagedError, match="lacks samples that were asked about"):
        run(tmp_path, budget=24)


def test_what_nobody_could_answer_is_refused() -> None:
    source = make_source(digits_tabular(), seed=0)
    with pytest.raises(ValueError, match="cannot answer about samples that arrive"):
        run(None, [], source=source, initial=torch.arange(20))


def test_an_order_of_the_data_is_none_of_what_arrives() -> None:
    with pytest.raises(ValueError, match=r"setting\.order=drifting puts samples of the data"):
        StreamSetting(Quantile(), order="drifting", arrivals=SAMPLES)
