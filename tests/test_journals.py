"""The ledger on the disk, and what a run goes on from where its checkpoints are gone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dal
from dal.checkpoint import Checkpoints
from dal.data import initial_labels, make_source
from dal.data.dataset import Dataset
from dal.journals import Journals
from dal.learners import Dropout, make_learner
from dal.models import MLP
from dal.oracles import FilesOracle
from dal.pool import Pool
from dal.query import Entropy, Instability, Margin, Strategy
from dal.runs.parts import Parts
from dal.state import FORMAT
from dal.training.trainer import Trainer
from dal.utils.safe_files import DamagedError


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def filled(count: int) -> Pool:
    pool = Pool(20)
    pool.label(0, ints(0, 1), ints(1, 0), origin="initial")
    for number in range(count):
        score = torch.tensor([0.1 * number], dtype=torch.float64)
        pool.label(number, ints(5 + number), ints(number % 2), origin="oracle", score=score)
    return pool


def rows(count: int) -> list[dict[str, Any]]:
    return [{"round": number, "test/accuracy": 0.1 + 0.2} for number in range(count)]


def test_journals_give_back_what_a_checkpoint_knew(tmp_path: Path) -> None:
    journals, marks = Journals(tmp_path, "digest"), []
    for count in range(4):
        marks.append(journals.extend(filled(count), rows(count)))
    fresh = Journals(tmp_path, "digest")
    for count, mark in enumerate(marks):
        pool = Pool(20)
        pool.extend(fresh.events(mark))
        assert pool.events() == filled(count).events()
        assert fresh.rows_of(mark) == rows(count)
    fresh.take(filled(1), rows(1))
    assert fresh.extend(filled(2), rows(2)) == marks[2]
    found = fresh.all_events()
    assert found is not None
    assert len(found) == 4


def test_corrections_come_back_and_are_appended_like_all_events(tmp_path: Path) -> None:
    pool, journals = filled(3), Journals(tmp_path, "digest")
    journals.extend(pool, [])
    before = (tmp_path / "ledger.jsonl").read_bytes()
    seconds = torch.tensor([2.5, float("nan")], dtype=torch.float64)
    pool.label(
        3, ints(6, 0), ints(2, 2), origin="oracle", again=True, seconds=seconds, annotator=["a", ""]
    )
    pool.label(3, ints(15), ints(1), origin="pseudo")
    mark = journals.extend(pool, [])
    after = (tmp_path / "ledger.jsonl").read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") == 3
    fresh = Pool(20)
    fresh.extend(Journals(tmp_path, "digest").events(mark))
    assert fresh.events() == pool.events()
    assert fresh.train_set().targets.tolist() == [2, 0, 0, 2, 0, 1]


def test_ledger_stands_twice(tmp_path: Path) -> None:
    mark = Journals(tmp_path, "digest").extend(filled(3), [])
    for damaged in (tmp_path / "ledger.jsonl", tmp_path / "checkpoints" / "ledger.jsonl"):
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-9] + b"x" + content[-8:])
        fresh = Journals(tmp_path, "digest")
        assert len(fresh.events(mark)) == len(fresh.all_events() or ()) == 5
        damaged.write_bytes(content)
    shutil.rmtree(tmp_path / "checkpoints")
    assert len(Journals(tmp_path, "digest").events(mark)) == 5
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(DamagedError, match=r"ledger\.jsonl cannot be read"):
        Journals(tmp_path, "digest").events(mark)
    assert Journals(tmp_path, "digest").all_events() is None


def test_any_flipped_bit_of_a_lone_ledger_is_refused(tmp_path: Path) -> None:
    Journals(tmp_path, "digest").extend(filled(2), [])
    shutil.rmtree(tmp_path / "checkpoints")
    path = tmp_path / "ledger.jsonl"
    content = path.read_bytes()
    for position in range(0, len(content) - 1, 3):  # without its end, a last line never was
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        path.write_bytes(altered)
        with pytest.raises(DamagedError, match=r"ledger\.jsonl .*; restore it, or move all but"):
            Journals(tmp_path, "digest").all_events()
    lines = content.splitlines(keepends=True)
    for missing in range(len(lines) - 1):
        path.write_bytes(b"".join(lines[:missing] + lines[missing + 1 :]))
        with pytest.raises(DamagedError):
            Journals(tmp_path, "digest").all_events()


def test_line_cut_off_by_a_kill_never_was(tmp_path: Path) -> None:
    Journals(tmp_path, "digest").extend(filled(2), [])
    for path in tmp_path.rglob("ledger.jsonl"):  # the second is written after the first
        path.write_bytes(path.read_bytes()[:-5])
    assert len(Journals(tmp_path, "digest").all_events() or ()) == 3


@pytest.mark.parametrize("shortened", ["ledger.jsonl", "checkpoints/ledger.jsonl"])
def test_ledger_that_lost_whole_lines_is_taken_from_the_other(
    shortened: str, tmp_path: Path
) -> None:
    Journals(tmp_path, "digest").extend(filled(3), [])
    path = tmp_path / shortened
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert len(Journals(tmp_path, "digest").all_events() or ()) == 5


def test_ledger_with_a_class_that_is_none_is_refused() -> None:
    source = make_source(dataset(), seed=0)
    learner = make_learner(
        MLP, Trainer(), source, source.task, Dropout(), seed=0, device=torch.device("cpu")
    )
    parts = Parts(source, learner, Margin(), ints(0, 1))
    (event,) = filled(0).events()[:1]
    with pytest.raises(ValueError, match=r"target 3 .*is not one of the 3 classes"):
        parts.pool([event | {"target": 3}])


def test_ledger_of_other_data_is_refused(tmp_path: Path) -> None:
    Journals(tmp_path, "digest").extend(filled(2), [])
    with pytest.raises(ValueError, match=r"data have changed since .*ledger\.jsonl was written"):
        Journals(tmp_path, "other").all_events()


@pytest.mark.parametrize(("header", "named"), [({}, "3 or older"), ({"format": 5}, "5")])
def test_ledger_of_another_version_is_refused(
    header: dict[str, Any], named: str, tmp_path: Path
) -> None:
    go(tmp_path, 8)
    delete_checkpoints(tmp_path)
    first, *lines = (tmp_path / "ledger.jsonl").read_text().splitlines(keepends=True)
    text = json.dumps(header | {"data": json.loads(first)["data"]})
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    first = f'{text[:-1]}, "check": "{digest}"}}\n'
    (tmp_path / "ledger.jsonl").write_text("".join([first, *lines]))
    names = ("ledger.jsonl", "metrics.jsonl", "queries.csv")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    with pytest.raises(ValueError, match=f"format {named}, this is {FORMAT}.*choose another saved"):
        go(tmp_path, 12)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def dataset() -> Dataset:
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(120) % 3
    inputs = torch.randn(120, 6, generator=rng) + 1.5 * torch.eye(6)[targets]
    return Dataset("gaussians", inputs, targets, ("a", "b", "c"))


def go(
    run_dir: Path, budget: int = 12, strategy: type[Strategy] = Margin, files: bool = False
) -> dal.Result:
    """Rounds of four labels each."""
    source = make_source(dataset(), seed=0)
    return dal.run(
        source,
        lambda shape, classes: MLP(shape, classes, hidden=(8,)),
        strategy(),
        initial=initial_labels(source.train.targets, seed=0, count=6),
        trainer=Trainer(epochs=3, restart="cold"),
        oracle=FilesOracle(run_dir / "queries", source.class_names) if files else None,
        settings=dal.Settings(query_size=4, budget=budget, threads=1, batch_size=64, figures=False),
        run_dir=run_dir,
    )


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if not k.endswith("_s")} for li in lines]


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()[1:]]


def answer(run_dir: Path) -> None:
    """Fill in the newest file as a person would: always with the first class."""
    path = sorted((run_dir / "queries").glob("*.csv"))[-1]
    header, *lines = path.read_text().splitlines()
    place = header.split(",").index("label")
    cells = [line.split(",") for line in lines]
    for cell in cells:
        cell[place] = "a"
    path.write_text("\n".join([header, *(",".join(cell) for cell in cells)]) + "\n")


def delete_checkpoints(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")


def damage_checkpoints(run_dir: Path) -> None:
    for path in (run_dir / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [delete_checkpoints, damage_checkpoints])
@pytest.mark.parametrize("strategy", [Margin, Instability])
def test_run_without_checkpoints_goes_on_from_its_ledger(
    strategy: type[Strategy],
    damage: Callable[[Path], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    go(tmp_path / "whole", 12, strategy)
    go(tmp_path / "run", 8, strategy)
    damage(tmp_path / "run")
    result = go(tmp_path / "run", 12, strategy)
    assert "goes on from its 8 answers in ledger.jsonl" in caplog.text
    (*before, last) = metrics(tmp_path / "run")[:3]
    assert last.pop("lost") == ["all checkpoints"]
    whole = metrics(tmp_path / "whole")
    # Fits of this trainer start anew each round, so nothing else differs, but for what compares the
    # model with the one before.
    assert whole[2].pop("stop/kappa") <= 1
    assert whole[2].pop("stop/changed") >= 0
    assert [*before, last, *metrics(tmp_path / "run")[3:]] == whole
    queries = [(tmp_path / name / "queries.csv").read_text() for name in ("run", "whole")]
    assert queries[0] == queries[1]
    assert result.job.pool.num_queried == 12
    assert Checkpoints(tmp_path / "run" / "checkpoints").load() is not None


def test_what_people_tell_of_an_answer_is_kept_in_the_ledger(tmp_path: Path) -> None:
    go(tmp_path, budget=4, files=True)
    path = tmp_path / "queries" / "round_0000.csv"
    header, *lines = path.read_text().splitlines()
    told = ["a,eva,2.5", "?,max,", "b,,7", "a,eva,0"]
    filled = [line + answer for line, answer in zip(lines, told, strict=True)]
    path.write_text("\n".join([f"{header},annotator,seconds", *filled]))
    result = go(tmp_path, budget=4, files=True)
    assert result.reason == "budget"
    initial, answers = events(tmp_path)[:6], events(tmp_path)[6:]
    assert {(e["origin"], e["annotator"], e["seconds"]) for e in initial} == {("initial", "", None)}
    assert [event["annotator"] for event in answers] == ["eva", "max", "files", "eva"]
    assert [event["seconds"] for event in answers] == [2.5, None, 7.0, 0.0]
    assert [event["abstained"] for event in answers] == [False, True, False, False]
    assert [event["cost"] for event in answers] == [1.0] * 4
    assert all(event["supersedes"] is None for event in initial + answers)


def test_round_whose_answers_are_missing_is_not_asked_anew(tmp_path: Path) -> None:
    assert go(tmp_path, files=True).status == "waiting"
    answer(tmp_path)
    assert go(tmp_path, files=True).status == "waiting"
    answer(tmp_path)
    asked = (tmp_path / "queries" / "round_0001.csv").read_bytes()
    delete_checkpoints(tmp_path)
    # Of other seeds of the fit come other picks, which must not be asked for.
    assert go(tmp_path, strategy=Entropy, files=True).status == "waiting"
    assert (tmp_path / "queries" / "round_0001.csv").read_bytes() == asked
    lines = (tmp_path / "queries.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["0"] * 4 + ["1"] * 4


def test_all_but_the_answers_of_people_may_be_deleted(tmp_path: Path) -> None:
    for _ in range(2):
        go(tmp_path, files=True)
        answer(tmp_path)
    go(tmp_path, files=True)
    before = (tmp_path / "queries.csv").read_bytes()
    for path in tmp_path.iterdir():
        if path.name != "queries":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    go(tmp_path, files=True)
    assert (tmp_path / "queries.csv").read_bytes() == before


def test_damaged_rows_are_taken_from_what_people_see(tmp_path: Path) -> None:
    go(tmp_path / "whole", 12)
    go(tmp_path / "run", 8)
    path = tmp_path / "run" / "checkpoints" / "rows.jsonl"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    go(tmp_path / "run", 12)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_lost_metrics_end_no_run(tmp_path: Path) -> None:
    go(tmp_path, 8)
    (tmp_path / "checkpoints" / "rows.jsonl").unlink()
    (tmp_path / "metrics.jsonl").write_text("{\n")
    go(tmp_path, 12)
    rows = metrics(tmp_path)
    assert [row["round"] for row in rows] == [2, 3]
    assert rows[0]["lost"] == ["the metrics of the rounds before"]
    assert len((tmp_path / "queries.csv").read_text().splitlines()) == 13


def test_results_are_never_written_over(tmp_path: Path) -> None:
    go(tmp_path, 8)
    delete_checkpoints(tmp_path)
    (tmp_path / "ledger.jsonl").unlink()
    before = {name: (tmp_path / name).read_bytes() for name in ("queries.csv", "metrics.jsonl")}
    with pytest.raises(
        ValueError, match=r"holds results, but there is no ledger\.jsonl .*move all"
    ):
        go(tmp_path, 12)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_unreadable_ledger_is_refused_and_everything_kept(tmp_path: Path) -> None:
    go(tmp_path, 8)
    delete_checkpoints(tmp_path)
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"oracle", b"orakel", 1))
    before = {
        p: p.read_bytes() for p in tmp_path.glob("*.*") if p.name in (path.name, "queries.csv")
    }
    with pytest.raises(DamagedError, match=r"ledger\.jsonl is damaged in line \d+; restore it, or"):
        go(tmp_path, 12)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("gone", ["both ledgers", "checkpoints and the ledger"])
def test_nothing_to_go_on_from_is_refused_with_a_remedy(gone: str, tmp_path: Path) -> None:
    go(tmp_path, 8)
    for path in tmp_path.rglob("ledger.jsonl"):
        path.unlink()
    if gone != "both ledgers":
        damage_checkpoints(tmp_path)
    with pytest.raises(DamagedError, match=r"; restore it, or move all but queries/ out of "):
        go(tmp_path, 12)


def test_predictions_lost_with_the_checkpoints_are_named(tmp_path: Path) -> None:
    go(tmp_path, 12, Instability)
    delete_checkpoints(tmp_path)
    (tmp_path / "history" / "round_0001.npy").unlink()
    go(tmp_path, 16, Instability)
    assert metrics(tmp_path)[3]["lost"] == ["all checkpoints", "the predictions of round 1"]


def test_what_a_round_writes_does_not_grow(tmp_path: Path) -> None:
    sizes = []
    for budget in (8, 40, 72):
        go(tmp_path, budget)
        sizes.append(max(p.stat().st_size for p in (tmp_path / "checkpoints").glob("*.pt")))
    assert sizes[2] - sizes[1] < 512  # two more digits here and there, and torch's alignment
