"""Reports: which runs are compared, what is left out, and the same again from its own file."""

from __future__ import annotations

import gzip
import json
import os
import runpy
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Generator, tensor
from written_runs import write_run

import dal
from dal.data import iris, make_source
from dal.models import LogisticRegression
from dal.oracles import Answers, SimulatedOracle
from dal.query import Margin, PoolView, Query, Random
from dal.recording.palette import COLORS
from dal.reporting import tables
from dal.reporting.compare import (
    area_between,
    areas,
    by_losses,
    lines,
    make_groups,
    needed,
    saved,
    targets_of,
    wins,
)
from dal.reporting.figures import foreign_curves, learning_curves, panels_of, win_matrix
from dal.reporting.records import RunError, read_run
from dal.reporting.report import Options, collect, write
from dal.reporting.results_file import read_csv, write_csv
from dal.reporting.states import RunState, read_state, table
from dal.training.trainer import Trainer
from dal.utils.lock import RunLock

ROOT = Path(__file__).parents[2]
Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in this process; gives exit code, standard output and errors."""

    def call(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        err = printed.err + (code if isinstance(code, str) else "")
        return (1 if isinstance(code, str) else int(code or 0)), printed.out, err

    return call


def three_seeds(root: Path) -> None:
    for seed, (low, high) in enumerate([(0.5, 0.6), (0.2, 0.32), (0.4, 0.51)]):
        start = {"weights": f"{seed:08d}"}
        write_run(root, "random", seed, [low, low, low], start=start)
        write_run(root, "margin", seed, [low, high, 0.9], start=start)


def test_report_of_its_own_csv_is_the_same(runs: Path, tmp_path: Path, script: Script) -> None:
    three_seeds(runs)
    options = ("--targets", "0.55", "--margin", "20")
    assert script("report.py", runs, "--out", tmp_path / "a", *options)[0] == 0
    stored = tmp_path / "a" / "results.csv"
    assert script("report.py", stored, "--out", tmp_path / "b", *options)[0] == 0
    first, second = ((tmp_path / name / "report.md").read_text() for name in "ab")
    # What a results file does not hold: recall by class.
    assert "dog one" in first
    assert first[: first.index("Recall of")] == second[: second.index("## Wins")]
    assert (tmp_path / "b" / "results.csv").read_bytes() == stored.read_bytes()
    some = [path for path in runs.iterdir() if "margin" in path.name]
    assert script("report.py", stored, *some, "--out", tmp_path / "c", *options)[0] == 0
    assert "6 runs." in (tmp_path / "c" / "report.md").read_text()


def test_areas_are_paired_by_seed(runs: Path) -> None:
    three_seeds(runs)
    (group,) = collect([runs], Options()).groups
    found = areas(group)
    margin, random = (
        [100 * x for x in column]
        for column in zip(
            *(
                (((low + high) / 2 + (high + 0.9) / 2) / 2, low)
                for low, high in [(0.5, 0.6), (0.2, 0.32), (0.4, 0.51)]
            ),
            strict=True,
        )
    )
    assert list(found["margin"].values()) == pytest.approx(margin)
    assert list(found["random"].values()) == pytest.approx(random)
    first, second = lines(group, "random", margin=20.0)
    assert (first.strategy, second.strategy) == ("margin", "random")
    assert first.gain is not None
    assert first.gain.p == pytest.approx(stats.ttest_rel(margin, random).pvalue)
    assert first.p_holm == pytest.approx(first.gain.p)
    assert second.gain is None


def test_variants_of_a_strategy_have_names_of_their_own(runs: Path) -> None:
    write_run(runs, "instability", 0, [0.5, 0.5])
    write_run(runs, "instability", 0, [0.5, 0.5], strategy={"window": 5})
    (group,) = collect([runs], Options()).groups
    assert set(group.curves) == {"instability", "instability (window=5)"}
    write_run(runs, "instability", 0, [0.5, 0.5], strategy={"window": 5})
    with pytest.raises(RunError, match=r"two runs of instability \(window=5\), seed 0.*-s0-.*-s0-"):
        collect([runs], Options())


@pytest.mark.parametrize("chosen", [False, True], ids=["the run's own", "chosen"])
def test_seed_of_the_data_is_no_other_default(runs: Path, chosen: bool) -> None:
    for seed in (0, 1):
        folder = write_run(runs, "random", seed, [0.5, 0.6])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["data"] = {"seed": 0 if chosen else seed}  # as ${seed} is written, resolved
        values = {"data.seed": 0} if chosen else {}
        config["choices"] = {"options": {"data": "synthetic"}, "values": values}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (group,) = collect([runs], Options()).groups
    assert group.seeds == [0, 1]


def test_runs_under_other_defaults_are_not_averaged(runs: Path) -> None:
    for seed, epochs in ((0, 200), (1, 100)):
        folder = write_run(runs, "random", seed, [0.5, 0.6])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["trainer"] = {"_target_": f"moved{seed}.Trainer", "epochs": epochs}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=r"-s0-.*-s1-.* under other defaults of trainer.epochs;"):
        collect([runs], Options())


def test_strategy_may_have_hyphens_in_its_name(runs: Path) -> None:
    for option in ("random", "my-margin", "my-entropy"):
        write_run(runs, option, 0, [0.5, 0.6])
    (group,) = collect([runs], Options()).groups
    assert set(group.curves) == {"random", "my-margin", "my-entropy"}
    assert (group.data, group.model) == ("digits", "mlp")


def test_run_whose_name_tells_no_strategy_is_left_out(runs: Path) -> None:
    write_run(runs, "random", 0, [0.5, 0.6])
    folder = write_run(runs, "margin", 0, [0.5, 0.6]).rename(runs / "digits-mlp-margin-s1-00")
    (line,) = collect([runs], Options()).left_out
    assert f"{folder} is not named as run directories are" in line


def test_other_settings_are_never_averaged(runs: Path, tmp_path: Path) -> None:
    write_run(runs, "random", 0, [0.5, 0.6], query_size=10, budget=20)
    write_run(runs, "margin", 0, [0.5, 0.6], query_size=5, budget=30)
    write_run(runs, "random", 0, [0.5, 0.6], data="iris", query_size=10)
    collection = collect([runs], Options())
    assert [group.name for group in collection.groups] == [
        "digits, mlp",
        "digits, mlp",
        "iris, mlp",
    ]
    text = write(collection, tmp_path / "out", Options()).read_text()
    assert "(query_size=10) and" in text or "(query_size=5) and" in text
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert sorted(sections) == [
        "## digits, mlp: query_size=10",
        "## digits, mlp: query_size=5",
        "## iris, mlp",
    ]
    for kind in ("png", "pdf", "svg"):
        assert len(list((tmp_path / "out").glob(f"*.{kind}"))) == 3


def test_runs_without_labels_in_common_are_named_each_by_what_it_does(runs: Path) -> None:
    early = write_run(runs, "random", 0, [0.5, 0.6])
    write_run(runs, "random", 1, [0.5, 0.6, 0.7, 0.8])
    late = write_run(runs, "margin", 0, [0.5, 0.6, 0.7, 0.8, 0.9])
    edit(
        late / "metrics.jsonl", lambda rows: [row.update(labels=row["labels"] + 20) for row in rows]
    )
    with pytest.raises(RunError) as caught:
        collect([runs], Options())
    assert str(caught.value) == (
        f"{late} begins with 30 labels and {early} ends with 20: they have no number of labels in "
        "common; leave one out"
    )


def test_two_runs_of_one_strategy_and_seed_are_both_named(runs: Path) -> None:
    write_run(runs, "margin", 0, [0.5, 0.6])
    one, two = (write_run(runs, "random", 0, [0.5, 0.6]) for _ in range(2))
    with pytest.raises(RunError) as caught:
        collect([runs], Options())
    assert str(caught.value) == (
        f"two runs of random, seed 0, with the same settings: {one} and {two}; give one of them"
    )


def test_starts_that_differ_are_named_with_what_and_where(runs: Path) -> None:
    usual = {"weights": "0" * 16, "data": "1" * 16}
    first = write_run(runs, "entropy", 0, [0.5, 0.6], start=usual)
    write_run(runs, "margin", 0, [0.5, 0.6], start=usual | {"weights": "0" * 8 + "f" * 8})
    odd = write_run(runs, "random", 0, [0.5, 0.6], start=usual | {"data": "f" * 16})
    (group,) = collect([runs], Options()).groups
    assert group.unpaired == {0: f"data of {first} and {odd}"}


def test_the_run_that_ends_first_is_named(runs: Path) -> None:
    write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    write_run(runs, "margin", 4, [0.5, 0.6])
    write_run(runs, "margin", 5, [0.5, 0.6, 0.7])
    (group,) = collect([runs], Options()).groups
    assert tables.warnings(group, "random")[0] == (
        "areas end at 20 labels, the end of 1 run (margin, seed 4 first), though 2 runs would go on"
    )


def test_unfinished_and_damaged_runs_are_named(runs: Path, tmp_path: Path, script: Script) -> None:
    three_seeds(runs)
    half = write_run(runs, "entropy", 0, [0.5], status="preempted")
    damaged = write_run(runs, "entropy", 1, [0.5])
    (damaged / "metrics.jsonl").write_text('{"round": 0,')
    empty = runs / "digits-mlp-entropy-s2-00000000"
    empty.mkdir()
    (empty / "status.json").write_text('{"status": "failed", "reason": "ValueError: no"}')
    for seed, text in ((4, "seed: abc"), (5, "[1,\n2")):
        (write_run(runs, "entropy", seed, [0.5]) / "config.yaml").write_text(text)
    old = write_run(runs, "entropy", 3, [0.5])
    (old / "metrics.jsonl").write_text('{"round": 0, "labels": 10, "test/accuracy": 0.5}')
    code, out, err = script("report.py", runs, "--out", tmp_path / "out")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "out" / "report.md"
    assert f"{half} is preempted (why) after 1 round\n" in err
    assert f"{damaged / 'metrics.jsonl'}, line 1 is damaged" in err
    assert f"{empty} has no config.yaml (failed: ValueError: no)" in err
    assert f"{old} was written by another version: 'queried' is missing" in err
    text = (tmp_path / "out" / "report.md").read_text()
    assert "6 runs. 6 more were left out" in text
    assert "config.yaml holds no settings of a run" in err
    assert "config.yaml is damaged: while parsing" in err
    assert str(half) in text


def test_partial_runs_are_cut_to_what_all_have(runs: Path, tmp_path: Path) -> None:
    write_run(runs, "random", 0, [0.1, 0.3, 0.3, 0.9])
    write_run(runs, "margin", 0, [0.2, 0.4], status="running")
    options = Options(partial=True)
    (group,) = collect([runs], options).groups
    assert group.span == (10, 20)
    assert areas(group)["random"][0] == pytest.approx(20)
    assert (
        "areas end at 20 labels" in write(collect([runs], options), tmp_path, options).read_text()
    )


def test_runs_that_should_share_their_start_and_do_not_are_not_paired(
    runs: Path, tmp_path: Path
) -> None:
    three_seeds(runs)
    odd = next(path for path in runs.iterdir() if "margin-s1" in path.name)
    (odd / "start.json").write_text(json.dumps({"weights": "ffffffff"}))
    collection = collect([runs], Options())
    (group,) = collection.groups
    assert list(group.unpaired) == [1]
    gain = lines(group, "random", 0.5)[0].gain
    assert gain is not None
    assert gain.count == 2
    text = write(collection, tmp_path, Options()).read_text()
    assert "seed 1 is left out of all paired tests" in text
    assert "differ in weights of" in text


def test_missing_seeds_and_baseline_are_named(runs: Path, tmp_path: Path) -> None:
    write_run(runs, "entropy", 0, [0.5, 0.6])
    write_run(runs, "margin", 0, [0.5, 0.6])
    write_run(runs, "margin", 1, [0.5, 0.6])
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    assert "entropy has no run of seed 1" in text
    assert "fewer than 5 seeds support no claim: entropy (1), margin (2)" in text
    assert "there are no runs of random to compare with" in text


def test_rows_of_format_3_are_read_as_labels_paid_for(runs: Path) -> None:
    folder = write_run(runs, "random", 0, [0.5, 0.6, 0.7], wasted=4)
    now = read_run(folder)
    assert now.labels == [10, 20, 30]
    edit(
        folder / "metrics.jsonl",
        lambda rows: [row.update(labels=row.pop("trained_on")) for row in rows],
    )
    assert '"labels": 16' in (folder / "metrics.jsonl").read_text()
    assert read_run(folder) == now


def test_corrections_are_no_picks(runs: Path) -> None:
    folder = write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    before = read_run(folder)
    with (folder / "queries.csv").open("a") as file:
        file.write("1,0,,dog one,0\n")
    assert read_run(folder) == before


def test_wasted_queries_count_as_labels_paid_for(runs: Path, tmp_path: Path) -> None:
    folder = write_run(runs, "random", 0, [0.5, 0.6, 0.7], wasted=4)
    run = read_run(folder)
    assert run.labels == [10, 20, 30]
    assert [r.wasted for r in run.rounds] == [4, 4, 0]
    assert run.rounds[0].picks == {"cat": 1, "dog_one": 1}
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    assert "10 to 30 labels paid for" in text
    assert "| labels paid for | none of these | labels learned from |" in text
    assert "| 30.0 | 8.0 | 22.0 |" in text
    assert "(digits-mlp-" in text
    assert list(tmp_path.glob("*-none.svg"))
    (group,) = collect([runs], Options()).groups
    for draw, name in ((learning_curves, "Test accuracy"), (foreign_curves, "Answers “none of")):
        (axes,) = draw(group, "random").axes
        assert axes.get_xlabel().startswith("Labels paid for, “none of these” included")
        assert axes.get_ylabel().startswith(name)
        (mean, *_) = axes.lines
        assert np.asarray(mean.get_xdata()).tolist() == [10, 20, 30]
    assert np.asarray(mean.get_ydata()).tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("recorded", "drawn", "shown"),
    [
        ({"query/tied": 0}, 0, "| 0% |"),
        ({"query/tied": 7}, 1, "| 50% |"),
        ({"query/random": True}, 2, "| 100% |"),
        ({}, None, ""),
    ],
)
def test_picks_that_a_draw_decided_are_counted(
    runs: Path, tmp_path: Path, recorded: dict[str, Any], drawn: int | None, shown: str
) -> None:
    folder = write_run(runs, "instability", 0, [0.5, 0.6, 0.7], drawn=recorded)
    assert [r.drawn for r in read_run(folder).rounds] == [drawn, drawn, None]
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    assert ("| picks by draw |" in text) is bool(shown)
    assert shown in text
    again = collect([tmp_path / "results.csv"], Options()).runs[0]
    assert [r.drawn for r in again.rounds] == [drawn, drawn, None]


def test_results_of_an_earlier_version_lack_a_column(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    header = "data,model,protocol,strategy,seed,start,metric,labels,value,ece,loss,fit_s,query_s"
    path.write_text(f"{header},wasted,picks\nd,m,p,random,0,,accuracy,10,0.5,,,,,,\n")
    assert [r.drawn for r in collect([path], Options()).runs[0].rounds] == [None]


def edit(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].update({"test/accuracy": 42}), "42.0 at 20 labels is no metric"),
        (lambda rows: rows[1].update({"test/accuracy": float("nan")}), "nan at 20 labels is no"),
        (lambda rows: rows[1].update({"test/ece": float("nan")}), "nan at 20 labels is no metric"),
        (lambda rows: rows[1].update({"fit_s": "abc"}), "is damaged"),
        (lambda rows: rows[0].update({"test/recall": [1]}), None),
        (lambda rows: rows.pop(1), "it has the rounds [0, 2]"),
        (lambda rows: rows.insert(1, rows[1]), "it has the rounds [0, 1, 1, 2]"),
    ],
)
def test_damaged_metrics_are_left_out_by_name(
    runs: Path, change: Callable[[list[dict[str, Any]]], object], message: str | None
) -> None:
    write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    folder = write_run(runs, "random", 1, [0.5, 0.6, 0.7])
    edit(folder / "metrics.jsonl", change)
    left_out = collect([runs], Options()).left_out
    assert len(left_out) == (message is not None)
    assert all(str(folder) in line and str(message) in line for line in left_out)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.jsonl", b"\xff\xfe\x00", "is damaged"),
        ("queries.csv", b"round,index,score,label,sample\n0,1,0.5,ca", "queries.csv is damaged"),
        ("start.json", b'{"data": 5}', "start.json is damaged"),
        ("start.json", b'{"da', "start.json is damaged"),
        ("config.yaml", b"seed: true", "holds no settings"),
    ],
)
def test_damaged_files_of_a_run_are_left_out_by_name(
    runs: Path, name: str, content: bytes, message: str
) -> None:
    write_run(runs, "random", 0, [0.5, 0.6])
    folder = write_run(runs, "random", 1, [0.5, 0.6])
    (folder / name).write_bytes(content)
    (line,) = collect([runs], Options()).left_out
    assert str(folder) in line
    assert message in line


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines.pop(0), "the picks of round 0 are 1, those in metrics.jsonl 2; "),
        (lambda lines: lines.append("1,7,0.5,cat,0"), "the picks of round 1 are 3, "),
        (lambda lines: lines.clear(), "the picks of round 0 are 0, "),
    ],
)
def test_queries_that_do_not_agree_with_the_metrics_are_left_out_by_name(
    runs: Path, edit: Callable[[list[str]], object], message: str
) -> None:
    write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    path = write_run(runs, "random", 1, [0.5, 0.6, 0.7]) / "queries.csv"
    header, *lines = path.read_text().splitlines()
    edit(lines)
    path.write_text("\n".join([header, *lines, ""]))
    (line,) = collect([runs], Options()).left_out
    assert f"{path} is damaged: {message}" in line


def test_query_that_waits_for_its_answers_is_no_damage(runs: Path) -> None:
    folder = write_run(runs, "random", 0, [0.5, 0.6, 0.7], status="waiting")
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["query/size"] = 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not collect([runs], Options(partial=True)).left_out


@pytest.mark.parametrize("below", ["", "below"])
def test_file_in_place_of_the_folder_is_one_error(
    runs: Path, tmp_path: Path, script: Script, below: str
) -> None:
    write_run(runs, "random", 0, [0.5, 0.6])
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    code, _, err = script("report.py", runs, "--out", out)
    assert code == 1
    reason = "not a directory" if below else "it is a file"
    assert err == f"error: {out} cannot be a folder for results: {reason}; give another"


def test_complete_run_that_lacks_its_last_rounds_is_left_out(runs: Path) -> None:
    write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    folder = write_run(runs, "random", 1, [0.5, 0.6, 0.7])
    (folder / "status.json").write_text('{"status": "complete", "reason": "", "round": 5}')
    (line,) = collect([runs], Options()).left_out
    assert "has the rounds [0, 1, 2] of a run that has come to round 5" in line


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("10,0.5 20,0.6 10,0.9 20,0.8", "the labels [20, 10] do not increase"),
        ("20,0.5 10,0.6", "the labels [20, 10] do not increase"),
        ("-7,0.5", "do not increase"),
        ("10,nan", "nan at 10 labels is no metric in [0, 1]"),
        ("10,-3", "-3.0 at 10 labels is no metric in [0, 1]"),
    ],
)
def test_results_that_no_run_writes_are_refused(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "results.csv"
    header = "data,model,protocol,strategy,seed,start,metric,labels,value,ece,loss,fit_s,query_s"
    rows = "".join(f"d,m,p,random,0,,accuracy,{line},,,,,,,\n" for line in lines.split())
    path.write_text(f"{header},wasted,drawn,picks\n{rows}")
    with pytest.raises(RunError) as caught:
        collect([path], Options())
    assert "results.csv, line" in str(caught.value)
    assert message in str(caught.value)


def test_partial_runs_are_named_and_not_published(runs: Path, tmp_path: Path) -> None:
    write_run(runs, "random", 0, [0.5, 0.6, 0.7])
    folder = write_run(runs, "random", 1, [0.5, 0.6], status="failed")
    options = Options(partial=True)
    text = write(collect([runs], options), tmp_path, options).read_text()
    assert f"{folder} is failed (why) after 2 rounds; it is used as far as it goes" in text
    assert [run.seed for run in read_csv(tmp_path / "results.csv")] == [0]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [2]), (3, [4]), (4, [3, 3]), (7, [4, 4, 2]), (10, [4, 4, 4, 2])]
)
def test_strategies_are_few_in_a_panel_and_all_named(
    runs: Path, count: int, sizes: list[int]
) -> None:
    write_run(runs, "random", 0, [0.1, 0.1])
    for number in range(count):
        write_run(runs, f"s{number}", 0, [0.5, 0.9 - number / 20])
    (group,) = collect([runs], Options()).groups
    panels = [axes for axes in learning_curves(group, "random").axes if axes.get_legend()]
    shown = []
    for axes in panels:
        legend = axes.get_legend()
        assert legend is not None
        *names, last = [text.get_text() for text in legend.get_texts()]
        assert last == "random"
        shown += names
        colors = {line.get_color() for line in axes.lines}
        assert len(colors) == len(names) + 1
        assert colors <= set(COLORS)
    assert shown == [f"s{number}" for number in range(count)]
    assert [len(names) for names in panels_of(group, "random")] == sizes


def test_curves_show_what_was_measured(runs: Path) -> None:
    values = {"random": [0.2, 0.4, 0.3], "margin": [0.2, 0.5, 0.6]}
    for seed in range(5):
        for name, curve in values.items():
            write_run(runs, name, seed, [value + seed / 100 for value in curve])
    (group,) = collect([runs], Options()).groups
    figure = learning_curves(group, "random")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_linestyle() != "None"]
    found = {line.get_linestyle(): np.asarray(line.get_xydata()) for line in lines}
    assert found["-"][:, 0].tolist() == [10, 20, 30]
    assert found["-"][:, 1] == pytest.approx(np.add(values["margin"], 0.02))
    assert found["--"][:, 1] == pytest.approx(np.add(values["random"], 0.02))
    half = stats.sem(np.arange(5) / 100) * stats.t.ppf(0.975, 4)
    places = []
    for container in axes.containers:
        (bars,) = container.lines[2]
        segments = np.array(bars.get_segments())
        assert np.diff(segments[:, :, 1], axis=1).ravel() == pytest.approx(2 * half)
        assert segments[:, :, 1].mean(axis=1)[0] == pytest.approx(0.22, abs=0.05)
        places.append(segments[1, 0, 0])
    assert len(places) == 2
    assert 0.5 < abs(places[0] - places[1]) < 5
    assert all(15 < place < 25 for place in places)
    assert axes.get_xlabel() == "Labels"
    assert axes.get_ylabel() == "Test accuracy"
    assert figure.get_suptitle() == "digits, mlp\nmean of 5 seeds, 95 % intervals"
    width, height = figure.get_size_inches()
    assert (width, height) == (pytest.approx(5.2), pytest.approx(3.9))
    figure.canvas.draw()
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert {"10", "15", "20", "25", "30"} <= set(ticks)
    assert all(tick.isdecimal() for tick in ticks)


def test_few_seeds_are_shown_run_by_run(runs: Path) -> None:
    for seed in range(2):
        write_run(runs, "random", seed, [0.2 + seed / 10, 0.4])
    (group,) = collect([runs], Options()).groups
    figure = learning_curves(group, "random")
    (axes,) = figure.axes
    assert figure.get_suptitle() == "digits, mlp\nmean of 2 seeds, single runs"
    starts = sorted(float(np.asarray(line.get_ydata())[0]) for line in axes.lines)
    assert starts == pytest.approx([0.2, 0.25, 0.25, 0.3])
    assert not axes.collections


def test_equal_figures_are_equal_files_in_every_format(runs: Path, tmp_path: Path) -> None:
    three_seeds(runs)
    for name in "ab":
        write(collect([runs], Options()), tmp_path / name, Options())
    kinds = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for kind, start in kinds.items():
        files = sorted((tmp_path / "a").glob(f"*.{kind}"))
        assert len(files) == 2
        for file in files:
            assert file.read_bytes().startswith(start)
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("curves", "wanted"),
    [
        ({"random": [0.3, 0.72], "margin": [0.3, 0.81]}, (0.7, 0.8)),
        ({"random": [0.3, 0.72], "margin": [0.3, 0.74]}, (0.65, 0.7)),
        ({"random": [0.7, 0.72], "margin": [0.7, 0.81]}, (0.75, 0.8)),
        ({"random": [0.905, 0.92], "margin": [0.905, 0.93]}, (0.92, 0.93)),
        ({"random": [0.5, 1.0]}, (0.9, 0.95)),
        ({"random": [0.93, 0.93]}, ()),
        ({"random": [0.93, 0.4]}, ()),
    ],
)
def test_targets_are_chosen_from_the_curves(
    runs: Path, tmp_path: Path, curves: dict[str, list[float]], wanted: tuple[float, ...]
) -> None:
    for seed in range(3):
        for name, (start, end) in curves.items():
            write_run(runs, name, seed, [start, end - (seed == 2) / 5])
    collection = collect([runs], Options())
    assert targets_of(collection.groups[0]) == pytest.approx(wanted)
    text = write(collection, tmp_path / "out", Options()).read_text()
    header = " | ".join(["| strategy", *(f"labels to {100 * t:g} %" for t in wanted)]) + " |"
    assert (header in text.splitlines()) is bool(wanted)


def test_wins_of_one_section_are_no_sum(runs: Path, tmp_path: Path) -> None:
    three_seeds(runs)
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    wins_of = text[text.index("## Wins") :]
    assert "sections" not in wins_of
    assert "| wins over | margin | random |" in wins_of
    assert "| margin |  | 1.00 |" in wins_of
    assert "| lost, mean | 0.00 | 1.00 |" in wins_of
    for seed in range(3):
        for name in ("random", "margin"):
            write_run(runs, name, seed, [0.5, 0.5], data="iris")
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    assert "summed over sections" in text[text.index("## Wins") :]
    won = {("a", "b"): 1.5}
    for count, label in ((1, "share of rounds won"), (2, "rounds won in 2 sections")):
        figure = win_matrix(won, ["a", "b"], count)
        axes, bar = figure.axes
        assert bar.get_ylabel() == label
        assert axes.images[0].get_clim() == (0, count)
        assert np.asarray(axes.images[0].get_array()).tolist() == [[0, 1.5], [0, 0]]
        assert [text.get_text() for text in axes.texts] == ["1.5"]
        assert [text.get_position() for text in axes.texts] == [(1, 0)]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("is beaten", "beats")
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert figure.get_size_inches().tolist() == pytest.approx([4.4, 3.2])


def test_wins_of_many_strategies_are_a_figure_only(runs: Path, tmp_path: Path) -> None:
    for seed in range(2):
        for number in range(13):
            write_run(runs, f"s{number}", seed, [0.5, 0.6 + number / 100])
    text = write(collect([runs], Options()), tmp_path, Options()).read_text()
    assert "![wins](wins.png)" in text
    assert "wins over" not in text


def test_wins_are_shares_of_significant_rounds(runs: Path) -> None:
    rng = np.random.default_rng(0)
    curves = {}
    for seed in range(4):
        low = rng.uniform(0.3, 0.4, 4)
        # Better at 20 labels beyond doubt, worse at 30, the same at 40.
        high = low + [0.0, 0.2, -0.2, 0.0] + rng.normal(0, 0.001, 4) * [0, 1, 1, 0]
        curves[seed] = low, high
        write_run(runs, "random", seed, low.tolist())
        write_run(runs, "margin", seed, high.tolist())
    found = wins(collect([runs], Options()).groups)
    gains = np.array([high - low for low, high in curves.values()])[:, 1:]
    p = [stats.ttest_1samp(gains[:, k], 0).pvalue for k in range(2)]
    assert max(p) < 0.05
    third = pytest.approx(1 / 3)
    assert found == {("margin", "random"): third, ("random", "margin"): third}
    assert by_losses({("a", "b"): 1.0, ("b", "a"): 0.2}) == ["a", "b"]


def test_labels_needed_and_saved(runs: Path) -> None:
    run = read_run(write_run(runs, "random", 0, [0.2, 0.7, 0.65, 0.8]))
    assert [needed(run, value) for value in (0.1, 0.65, 0.71, 0.9)] == [10, 20, 40, np.inf]
    assert saved(150, 200) == 0.25
    assert saved(np.inf, 200) is None
    assert area_between(run, (15, 25)) == pytest.approx(100 * (0.45 + 2 * 0.7 + 0.675) / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no nowhere"),
        (["{runs}"], "there are none below the paths given: {runs}"),
        (["{runs}", "--margin", "0"], "margin=0; give points of area above 0"),
        (["{runs}", "--targets", "90"], "targets have 90; give shares in (0, 1)"),
        (["{csv}"], "lacks data"),
        (["{bad}"], "line 2 is damaged"),
        ([sys.executable], "is no results file of dal report: "),
    ],
)
def test_bad_input_is_one_error(
    runs: Path, tmp_path: Path, script: Script, arguments: list[str], message: str
) -> None:
    wrong, bad = tmp_path / "wrong.csv", tmp_path / "bad.csv"
    wrong.write_text("a,b\n1,2\n")
    header = "data,model,protocol,strategy,seed,start,metric,labels,value,ece,loss,fit_s,query_s"
    bad.write_text(f"{header},wasted,picks\nd,m,p,random,zero,,accuracy,10,0.5,,,,,,\n")
    given = [a.format(runs=runs, csv=wrong, bad=bad) for a in arguments]
    code, _, err = script("report.py", *given, "--out", tmp_path / "out")
    assert code == 1
    assert err.startswith("error: ")
    assert message.format(runs=runs) in err
    assert not (tmp_path / "out").exists()


def test_curves_go_to_tensorboard_once(runs: Path, tmp_path: Path) -> None:
    three_seeds(runs)
    for _ in range(2):
        write(collect([runs], Options()), tmp_path, Options(), board=True)
    (folder,) = (tmp_path / "tb").glob("*margin")
    board = EventAccumulator(str(folder))
    board.Reload()
    points = [(event.step, event.value) for event in board.Scalars("accuracy/mean")]
    assert points == [
        (10, pytest.approx(1.1 / 3)),
        (20, pytest.approx(1.43 / 3)),
        (30, pytest.approx(0.9)),
    ]
    low = [event.value for event in board.Scalars("accuracy/low")]
    assert low[1] == pytest.approx(1.43 / 3 - stats.sem([0.6, 0.32, 0.51]) * stats.t.ppf(0.975, 2))


def test_report_reads_what_a_run_wrote(runs: Path, tmp_path: Path) -> None:
    source = make_source(iris(), seed=0)
    initial = tensor([0, 40, 80])
    for name, strategy in (("random", Random()), ("margin", Margin())):
        dal.run(
            source,
            LogisticRegression,
            strategy,
            initial=initial,
            trainer=Trainer(epochs=2),
            settings=dal.Settings(budget=6, query_size=3, threads=1),
            run_dir=runs / f"iris-logistic_regression-{name}-s0-00000000",
            config={"seed": 0, "strategy": {}},
        )
    (group,) = collect([runs], Options()).groups
    random, margin = (group.curves[name][0] for name in ("random", "margin"))
    assert random.start == margin.start
    assert set(random.start) == {"data", "initial", "candidates", "weights"}
    assert random.labels == [3, 6, 9]
    assert random.values[0] == margin.values[0]
    assert set(random.recall) == set(source.class_names)
    assert sum(random.rounds[0].picks.values()) == 3
    csv = tmp_path / "results.csv"
    write_csv([random], csv)
    packed = tmp_path / "results.csv.gz"
    for _ in range(2):
        write_csv([random], packed)
        assert gzip.decompress(packed.read_bytes()) == csv.read_bytes()
    assert read_csv(packed)[0].rounds == read_csv(csv)[0].rounds
    (again,) = read_csv(csv)
    assert again.labels == random.labels
    assert again.values == pytest.approx(random.values, abs=1e-4)
    assert (
        make_groups([again])[0].curves["random"][0].start["weights"] == random.start["weights"][:8]
    )


class Late(SimulatedOracle):
    """Ann and bob answer each sample; the first sample of a question comes a round late."""

    enough, answers_per_sample = 0.5, 2

    def collect(self, ticket: dict[str, Any]) -> Answers:
        return self._of_both(ticket["indices"][1:] or ticket["indices"])

    def revisit(self, ticket: dict[str, Any]) -> Answers:
        return self._of_both(ticket["indices"])

    def _of_both(self, indices: list[int]) -> Answers:
        found = super().collect({"indices": indices * 2})
        return replace(found, annotators=["ann"] * len(indices) + ["bob"] * len(indices))


class Twice(Margin):
    """Asks once more about the samples whose labels were known at the start."""

    def select(self, view: PoolView, query_size: int, rng: Generator) -> Query:
        query = super().select(view, max(1, query_size - 1), rng)
        return replace(query, again=tensor([0])) if query_size > 1 else query


def test_report_reads_runs_with_audits_late_answers_several_people_and_second_questions(
    runs: Path,
) -> None:
    source = make_source(iris(), seed=0)
    folder = runs / "iris-logistic_regression-margin-s0-00000000"
    dal.run(
        source,
        LogisticRegression,
        Twice(),
        initial=tensor([0, 40, 80]),
        trainer=Trainer(epochs=2),
        oracle=Late(source.train.targets),
        settings=dal.Settings(budget=36, query_size=6, audit=0.34, threads=1, figures=False),
        run_dir=folder,
        config={"seed": 0, "strategy": {}},
    )
    found = collect([runs], Options())
    assert not found.left_out
    run = found.groups[0].curves["margin"][0]
    row = run.rows[0]
    assert [row[f"query/{name}"] for name in ("size", "again", "audit")] == [6, 1, 2]
    assert row["query/open"]
    assert [sum(r.picks.values()) for r in run.rounds[:2]] == [3, 3]


def test_status_shows_every_run_and_fails_for_failed_ones(runs: Path, script: Script) -> None:
    done = write_run(runs, "random", 0, [0.5])
    assert script("status.py", runs)[0] == 0
    running = write_run(runs, "margin", 0, [0.5])
    here = {"status": "running", "host": socket.gethostname(), "pid": os.getpid(), "updated": 0}
    (running / "status.json").write_text(json.dumps(here | {"round": 3, "accuracy": 0.25}))
    with RunLock(running):
        code, out, _ = script("status.py", runs)
    assert code == 0
    assert "complete " in out
    assert "1 complete, 1 running" in out
    assert "0.2500" in out
    (running / "status.json").write_text(json.dumps(here | {"pid": 2**22 + 1}))
    code, out, _ = script("status.py", runs)
    assert code == 1
    assert "is gone; run its command again" in out
    (running / "status.json").write_text(json.dumps(here | {"pid": 1, "host": "elsewhere"}))
    assert read_state(running).status == "running"
    for text in ("{", "[1]", '{"status": 3}', '{"status": "complete", "updated": "x"}'):
        (running / "status.json").write_text(text)
        assert read_state(running).status == "unknown"
    assert "process" not in table([read_state(done)])
    (done / "status.json").write_text(json.dumps({"status": "failed", "reason": "OSError: full"}))
    code, out, _ = script("status.py", done)
    assert code == 1
    assert "OSError: full" in out
    assert script("status.py", runs / "none")[2].startswith("error: there is no")


NOUGHTS = "0" * 400


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"status": "complete", "updated": 1%b}' % NOUGHTS.encode(),
        b'{"status": "complete", "accuracy": 1%b}' % NOUGHTS.encode(),
        b'{"status": "running", "updated": NaN}',
        b'{"status": {"a": 1}}',
        None,
    ],
)
def test_status_goes_on_past_a_directory_that_is_half_written(
    runs: Path, script: Script, content: bytes | None
) -> None:
    write_run(runs, "random", 0, [0.5])
    odd = write_run(runs, "margin", 0, [0.5]) / "status.json"
    odd.unlink()
    if content is None:
        odd.mkdir()
    else:
        odd.write_bytes(content)
    code, out, err = script("status.py", runs)
    assert (code, err) == (0, "")
    assert "1 complete, 1 unknown" in out


def test_status_shows_any_reason_in_one_line_and_any_name(runs: Path, script: Script) -> None:
    for number, (folder, reason) in enumerate(
        [(b"long", "one\ntwo"), (b"a\xff", ""), (b"odd", "\ud800")]
    ):
        path = runs / os.fsdecode(folder)
        path.mkdir()
        status = {"status": "failed", "reason": reason, "round": number}
        (path / "status.json").write_text(json.dumps(status))
    code, out, _ = script("status.py", runs)
    assert code == 1
    _, *lines, empty, last = out.splitlines()
    assert [line.split()[2] for line in lines] == ["a\\udcff", "long", "odd"]
    assert lines[1].endswith("(one)")
    assert lines[2].endswith("(\\ud800)")
    assert (empty, last[:10]) == ("", "3 failed; ")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(30, "30 s"), (59, "59 s"), (60, "1 min"), (3599, "60 min"), (7200, "2 h"), (259200, "3 d")],
)
def test_status_tells_ages_in_the_largest_unit(tmp_path: Path, seconds: float, shown: str) -> None:
    state = RunState(tmp_path / "run", "waiting", "answers", 3, 50, 0.25, seconds)
    line = table([state], tmp_path).splitlines()[1]
    assert line.split("run")[0].split() == ["waiting", "3", "50", "0.2500", *shown.split()]
    assert line.endswith("run  (answers)")


def test_status_shows_the_headline_of_each_run(tmp_path: Path) -> None:
    for name, status in {
        "a": {"metric": "macro_f1", "macro_f1": 0.75, "accuracy": 0.25},
        "b": {"accuracy": 0.5},
        "c": {"metric": "macro_f1"},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").write_text(json.dumps({"status": "complete", **status}))
    a, b, c = (read_state(tmp_path / name) for name in "abc")
    head, first, second = table([a, c], tmp_path).splitlines()[:3]
    assert head.split() == ["status", "round", "labels", "macro", "F1", "age", "run"]
    assert (first.split(), second.split()) == (["complete", "0.7500", "a"], ["complete", "c"])
    head, first, second = table([a, b], tmp_path).splitlines()[:3]
    assert head.split() == ["status", "round", "labels", "test", "age", "run"]
    assert "  macro F1 0.7500  " in first
    assert "  accuracy 0.5000  " in second
    assert "accuracy" in table([])


@pytest.mark.parametrize("value", ["1e999", "[" * 200_000])
def test_absurd_metrics_are_left_out_by_name(runs: Path, value: str) -> None:
    write_run(runs, "random", 0, [0.5, 0.6])
    folder = write_run(runs, "random", 1, [0.5, 0.6])
    (folder / "metrics.jsonl").write_text(f'{{"round": {value}, "labels": 1}}')
    (line,) = collect([runs], Options()).left_out
    assert str(folder) in line
