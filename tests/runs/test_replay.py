"""Replay: picks confirmed in float64, what others would have picked, cards; errors."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dal import checkpoint
from dal.cli.config import compose
from dal.query import Entropy, Margin, MultilabelMargin
from dal.reporting.records import read_run
from dal.runs.cards import draw_cards
from dal.runs.from_config import execute
from dal.runs.replay import Replay
from dal.utils.safe_files import csv_text

ROOT = Path(__file__).parents[2]
SMALL = (
    "query_size=5",
    "budget=15",
    "trainer.epochs=5",
    "threads=1",
    "keep_models=true",
    "figures=false",
)


@pytest.fixture(autouse=True)
def no_hydra() -> None:
    HydraConfig.instance().cfg = None


def made(folder: Path, *overrides: str) -> Path:
    """A finished run."""
    settings = compose(ROOT / "conf", [*SMALL, *overrides])
    config: Any = OmegaConf.to_container(settings, resolve=True)
    execute(config, folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of margin, made once."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return made(folder, "data=iris", "model=mlp", "strategy=margin")


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run of margin."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize(
    "options",
    [
        ("data=digits", "model=lenet5", "strategy=instability", "strategy.ground=sorted"),
        ("data=digits", "model=lenet5", "strategy=badge"),
        (
            "data=digits",
            "model=bayesian_cnn",
            "strategy=bald",
            "committee.size=4",
            "candidates=100",
        ),
        ("data=iris", "model=mlp", "strategy=vote_entropy", "committee=ensemble"),
        ("data=iris", "model=mlp", "strategy=mean_std", "committee=rounds"),
        ("data=iris", "model=mlp", "strategy=expected_gradient_length", "candidates=40"),
        ("data=iris", "model=sklearn_logistic_regression", "strategy=margin"),
        (
            "data=synthetic_multilabel",
            "model=mlp",
            "strategy=multilabel_margin",
            "thresholds=fitted",
            "split.validation=0.2",
        ),
        ("data=iris", "model=mlp", "strategy=random", "difficulty=[noisy,repeated]"),
        (
            "data=wine",
            "model=mlp",
            "strategy=information_density",
            "cooperative=fixed",
            "cooperative.threshold=0.4",
        ),
        (
            "data=wine",
            "model=mlp",
            "strategy=coreset",
            "cooperative=fixed",
            "cooperative.threshold=0.4",
        ),
        (
            "data=iris",
            "model=mlp",
            "strategy=pure",
            "difficulty=[ood]",
            "difficulty.ood.classes=[setosa]",
            "oracle.on_foreign=reject",
        ),
    ],
    ids=lambda options: options[2].partition("=")[2],
)
def test_picks_of_a_run_are_confirmed_in_float64(tmp_path: Path, options: tuple[str, ...]) -> None:
    replay = Replay(made(tmp_path / "run", *options), {"margin": Margin(), "entropy": Entropy()})
    rounds = list(replay.rounds())
    assert [r.number for r in rounds] == [0, 1, 2]
    for r in rounds:
        assert (r.size, r.confirmed) == (5, 5)
        assert r.shortfall is None
        assert r.difference is not None
        assert r.difference < 1e-4
        assert all(0 <= count <= 5 for count in r.overlap.values())
    assert replay.history.rounds == [0, 1, 2]
    assert replay.history.last(1, torch.arange(3)).dtype == torch.float64
    if options[2] == "strategy=margin":
        assert [r.overlap["margin"] for r in rounds] == [5, 5, 5]


def answer(folder: Path, number: int, label: Callable[[int, int], str]) -> None:
    """Fill in a file: a label by place and row of the data, nothing where it is empty."""
    path = folder / "queries" / f"round_{number:04d}.csv"
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        row["label"] = label(place, int(row["index"])) or row["label"]
    path.write_text(csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))


def test_each_round_is_replayed_with_what_had_been_answered_then(tmp_path: Path) -> None:
    """Late, changed and rejected answers come in rounds after the one that asked."""
    names = ("setosa", "versicolor", "virginica")
    options = ("data=iris", "model=mlp", "strategy=margin", "oracle=files", "oracle.enough=0.6")
    run = made(tmp_path / "iris-mlp-margin-s0-0000", *options)
    answer(run, 0, lambda place, row: "" if place > 2 else names[row // 50])
    made(run, *options)
    answer(run, 1, lambda place, row: "" if place == 2 else "-" if place == 4 else names[row // 50])
    answer(run, 0, lambda place, row: "setosa" if place == 0 else names[row // 50])  # 3 and 4: late
    made(run, *options)
    answer(run, 2, lambda place, row: names[row // 50])
    answer(run, 0, lambda place, row: names[row // 50])  # 0 was wrong
    made(run, *options)
    assert json.loads((run / "status.json").read_text())["status"] == "waiting"
    late = Replay(run)
    assert [(r.size, r.confirmed, r.labels.count("?")) for r in late.rounds()] == [
        (5, 5, 0),
        (5, 5, 1),
        (5, 5, 0),
    ]
    answer(run, 1, lambda place, row: "" if place == 4 else names[row // 50])
    made(run, *options)
    assert json.loads((run / "status.json").read_text())["status"] == "complete"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [len(row.get("query/open", ())) for row in rows] == [2, 1, 0, 0, 0]
    record = read_run(run)  # reports count what came late, and no pick twice
    assert [sum(r.picks.values()) for r in record.rounds] == [5, 4, 5, 0, 0]
    assert set().union(*(r.picks for r in record.rounds)) <= set(names)
    replay = Replay(run, {"margin": Margin()})
    for replayed in replay.rounds():
        assert (replayed.size, replayed.confirmed, replayed.overlap["margin"]) == (5, 5, 5)
        assert replayed.difference is not None
        assert replayed.difference < 1e-5
        open_then = [row.get("query/open", []) for row in rows[: replayed.number]]
        for index in (i for indices in open_then for i in indices):
            assert index not in replayed.query.indices
    assert replay.numbers == [0, 1, 2]


def test_new_picks_beside_those_asked_again_are_confirmed(tmp_path: Path) -> None:
    options = "data=iris", "model=mlp", "strategy=activelab", "oracle=several"
    folder = made(tmp_path / "run", *options, "oracle.annotators_per_sample=1", "budget=25")
    rounds = list(Replay(folder).rounds())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    again = [row.get("query/again", 0) for row in rows[:5]]
    assert any(again)
    assert [r.size + again[r.number] for r in rounds] == [5] * len(rounds)
    assert [r.confirmed for r in rounds] == [r.size for r in rounds]


def test_other_picks_are_not_confirmed(run_dir: Path) -> None:
    path = run_dir / "models" / "round_0001.pt"
    kept = checkpoint.load(path)
    for tensor in kept["learner"]["model"].values():
        tensor.mul_(-0.5)
    checkpoint.save(path, kept)
    rounds = list(Replay(run_dir).rounds())
    assert rounds[0].confirmed == rounds[2].confirmed == 5
    assert rounds[1].confirmed < 5
    assert rounds[1].shortfall is not None
    assert rounds[1].shortfall > 0


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """Runs the script; gives its error, or nothing."""
    monkeypatch.setattr(sys, "argv", ["replay.py", *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / "scripts" / "replay.py"), run_name="__main__")
    except SystemExit as end:
        return str(end.code)
    return ""


def test_script_writes_table_and_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(
        tmp_path / "run", "data=digits", "model=lenet5", "strategy=entropy", "candidates=100"
    )
    against = ("--against", "entropy", "random", "bald", "multilabel_margin")
    assert call(monkeypatch, folder, *against, "--round", 1, "--cards", 2) == ""
    printed = capsys.readouterr()
    assert "round 1: 5 of 5 confirmed" in printed.out
    assert "bald is left out: " in printed.err
    assert "multilabel_margin is left out: multilabel_margin is meant for multilabel" in printed.err
    out = folder / "replay"
    rows = list(csv.DictReader((out / "replay.csv").read_text().splitlines()))
    assert [row["entropy"] for row in rows] == ["5", "5"]
    assert {path.name for path in (out / "cards").iterdir()} == {
        "round_001_pick_01.png",
        "round_001_pick_02.png",
    }
    assert "cards/round_001_pick_02.png" in (out / "replay.md").read_text()


def test_runs_that_cannot_be_replayed_are_named(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no run" in call(monkeypatch, tmp_path)
    assert "no strategy margi; did you mean margin?" in call(
        monkeypatch, run_dir, "--against", "margi"
    )
    (run_dir / "models" / "round_0001.pt").unlink()
    assert "the model of round 1 was not kept" in call(monkeypatch, run_dir)
    status = json.loads((run_dir / "status.json").read_text())
    (run_dir / "status.json").write_text(json.dumps(status | {"status": "running"}))
    assert "a run that is going on" in call(monkeypatch, run_dir)
    remedy = "make the run anew with keep_models=true and another saved_dir"
    other = made(
        tmp_path / "other", "data=iris", "model=mlp", "strategy=margin", "keep_models=false"
    )
    assert f"kept no models; {remedy}" in call(monkeypatch, other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.yaml").unlink(), r"there is no .*config\.yaml; restore it, or "),
        (lambda f: (f / "config.yaml").write_text("a: [b"), r"config\.yaml is damaged \(while pa"),
        (lambda f: (f / "config.yaml").write_bytes(b"\xff\xfe"), r"config\.yaml is damaged \('utf"),
        (
            lambda f: (f / "config.yaml").write_text("[1]"),
            r"config\.yaml holds no settings of a run",
        ),
        (
            lambda f: change(f, lambda c: (c.pop("plugins"), c["data"].pop("_target_"))),
            r"another version of dal: it lacks data; replay the run with that version",
        ),
        (
            lambda f: change(f, lambda c: c["model"].update(hidden=[3])),
            r"round_0000\.pt does not fit the model of .*config\.yaml; put back",
        ),
        (
            lambda f: checkpoint.save(f / "models" / "round_0000.pt", {"learner": {"members": []}}),
            r"round_0000\.pt does not fit the model of ",
        ),
        (
            lambda f: (f / "models" / "round_0000.pt").write_bytes(b"cut off"),
            r"round_0000\.pt is not a checkpoint .*; put back the file that this run wrote, or",
        ),
        (
            lambda f: [path.unlink() for path in f.rglob("ledger.jsonl")],
            r"there is no ledger\.jsonl in .*; restore it, or make the run anew",
        ),
        (
            lambda f: [path.write_text("{}\n") for path in f.rglob("ledger.jsonl")],
            r"ledger\.jsonl is damaged in line 1; restore it, or ",
        ),
    ],
)
def test_damaged_runs_are_one_error(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], message: str
) -> None:
    damage(run_dir)
    error = call(monkeypatch, run_dir, "--against")
    assert re.match(f"error: .*{message}", error)
    assert "\n" not in error


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the settings that a run wrote down."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    edit(config)
    path.write_text(yaml.safe_dump(config))


def test_run_is_only_read(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = run_dir / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"target": 1', b'"target": 2'))
    for path in (run_dir / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert call(monkeypatch, run_dir, "--cards", 0) == ""
    after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert {p: c for p, c in after.items() if "replay" not in p.parts} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--round", 7), "the run has no query in round 7; give 0 to 2"),
        (("--round", -1), "the run has no query in round -1; give 0 to 2"),
        (("--cards", -2), "--cards=-2; give 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, int],
    message: str,
) -> None:
    capsys.readouterr()
    assert call(monkeypatch, run_dir, *arguments) == f"error: {message}"
    assert capsys.readouterr().out == ""
    assert not (run_dir / "replay").exists()


def test_file_in_place_of_the_folder_is_refused_at_once(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    capsys.readouterr()
    error = call(monkeypatch, run_dir, "--out", tmp_path / "file")
    assert "file cannot be a folder for results: it is a file; give another" in error
    assert capsys.readouterr().out == ""


def test_run_without_a_query_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "run", "data=iris", "model=mlp", "strategy=margin", "max_rounds=0")
    assert "has no query yet" in call(monkeypatch, folder)


def test_cards_of_tables_have_no_image(tmp_path: Path) -> None:
    replay = Replay(
        made(tmp_path / "run", "data=iris", "model=mlp", "strategy=badge"),
        {"wrong": MultilabelMargin()},
    )
    assert list(replay.skipped) == ["wrong"]
    first = next(replay.rounds())
    (card,) = draw_cards(replay, first, tmp_path / "cards", 1)
    assert card.stat().st_size > 5000


def test_cards_of_texts_name_them_whatever_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    odd = ["$\\foo$ is", "two\n\nlines", "שלום", "😀 喜", "\t", "<b>"]
    names = ["$\\foo$", "喜"]
    rows = [f'"{odd[n % 6]} word{n % 4}",{names[n % 2]}' for n in range(30)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    data = f"data.path={path}", "data.target=label"
    folder = made(tmp_path / "run", "experiment=text", *data, "initial.count=6")
    replay = Replay(folder)
    cards = draw_cards(replay, next(replay.rounds()), tmp_path / "cards", 4)
    assert len(cards) == 4
