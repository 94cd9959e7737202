"""Where stopping criteria would have ended runs, read from their rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
from waiting import completed
from written_runs import write_run

from dal.reporting.records import find_runs, read_run
from dal.reporting.report import Options, collect, write
from dal.reporting.states import read_state, table
from dal.reporting.stopping import USUAL, first_stop, stop_of, stop_table
from dal.stopping import StabilizingPredictions

VALUES = [0.5, 0.7, 0.8, 0.84, 0.86, 0.9]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    return folder


def watched_run(
    saved: Path, seed: int, kappas: list[float], entropy: float = 0.5, option: str = "margin"
) -> Path:
    """A run with the labels 10, 20, ..., 60 whose rows have columns of a stop set."""
    folder = write_run(saved, option, seed, VALUES)
    path, number = folder / "metrics.jsonl", 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"stop/entropy": entropy, "stop/entropy_max": 2.0, "stop/expected_f1": 0.8}
        if number:
            row |= {"stop/kappa": kappas[number - 1], "stop/changed": 0.1}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_first_stop_is_the_first_of_several() -> None:
    rows = [{}, *({"stop/kappa": kappa} for kappa in (1.0, 0.96, 1.0, 1.0, 1.0, 1.0))]
    assert first_stop(StabilizingPredictions(), rows, "test/accuracy") == 5
    assert first_stop(StabilizingPredictions(window=1, kappa=0.99), rows, "") == 1
    assert first_stop(StabilizingPredictions(window=6, kappa=1.0), rows, "") is None


def test_stop_is_measured_against_the_end_of_the_run(saved: Path) -> None:
    run = read_run(watched_run(saved, 0, [0.9, 0.99, 1.0, 0.995, 0.9]))
    stop = stop_of(USUAL["stabilizing"], run)
    assert stop is not None
    assert stop.labels == 50  # after the fifth of six rounds: the last three are 0.99 and more
    assert stop.saved == pytest.approx(1 - 50 / 60)
    assert stop.lost == pytest.approx(0.9 - 0.86)
    assert stop_of(USUAL["max_confidence"], run) is None


def test_table_has_means_and_deviations_of_the_runs_ended(saved: Path) -> None:
    watched_run(saved, 0, [1.0, 1.0, 1.0, 0.5, 0.5])
    watched_run(saved, 1, [0.5, 1.0, 1.0, 1.0, 0.5])
    watched_run(saved, 2, [0.5] * 5)
    (group,) = collect([saved], Options()).groups
    lines = stop_table(group).splitlines()
    assert len(lines) == 3  # nothing ends by the others
    labels, lost = [40, 50], [90 - 84, 90 - 86]
    wanted = f"{fmean(labels):.0f} ± {stdev(labels):.0f}"
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:4] == ["margin", "stabilizing", "2 of 3", wanted]
    assert cells[5] == f"{fmean(lost):.1f} ± {stdev(lost):.1f}"


def test_report_shows_them_where_runs_have_recorded_them(saved: Path, tmp_path: Path) -> None:
    watched_run(saved, 0, [1.0] * 5, entropy=0.001)
    text = write(collect([saved], Options()), tmp_path / "new", Options()).read_text()
    assert "| margin | stabilizing | 1 of 1 | 40 | 33 | 6.0 |" in text
    assert "| margin | overall_uncertainty | 1 of 1 | 10 | 83 | 40.0 |" in text
    assert "would have ended these runs" in text
    again = write(collect([tmp_path / "new" / "results.csv"], Options()), tmp_path / "a", Options())
    assert "would have ended" not in again.read_text()  # a results file has no such columns


def test_runs_of_before_have_no_such_section(saved: Path, tmp_path: Path) -> None:
    write_run(saved, "margin", 0, [0.5] * 9)
    text = write(collect([saved], Options()), tmp_path / "out", Options()).read_text()
    assert "would have ended" not in text


def test_reports_import_no_torch() -> None:
    code = "import sys, dal.reporting.stopping; assert 'torch' not in sys.modules"
    completed([sys.executable, "-c", code], check=True)


def test_status_tells_which_criterion_ended_a_run(saved: Path) -> None:
    reasons = {0: "stabilizing: mean kappa of 3 0.9950, 0.99 asked", 1: "budget"}
    for seed, reason in reasons.items():
        folder = write_run(saved, "margin", seed, VALUES)
        (folder / "status.json").write_text(json.dumps({"status": "complete", "reason": reason}))
    text = table([read_state(folder) for folder in find_runs([saved])])
    assert text.count("(stabilizing: mean kappa of 3 0.9950, 0.99 asked)") == 1
    assert "(budget)" not in text
