"""The table that compares strategies: read, paired by seed, and the same again from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from benchmarks.compare import Curve, holm, interval, main, read_csv, read_runs, table


def write_run(root: Path, option: str, seed: int, accuracy: list[float], **settings: Any) -> Path:
    strategy = settings.pop("strategy", {})
    config = {"seed": seed, "strategy": strategy, "data": {"root": str(root)}, "budget": 20}
    folder = root / f"digits-mlp-{option}-s{seed}-{len(list(root.iterdir())):08x}"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config | settings))
    (folder / "status.json").write_text(json.dumps({"status": "complete"}))
    rows = [
        {"labels": 10 * (i + 1), "test/accuracy": a, "scan_s": 1.0, "select_s": 0.5}
        for i, a in enumerate(accuracy)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def test_table_is_paired_by_seed_and_the_same_from_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "saved"
    runs.mkdir()
    for seed, (low, high) in enumerate([(0.5, 0.6), (0.2, 0.32), (0.4, 0.51)]):
        write_run(runs, "random", seed, [low, low, low])
        write_run(runs, "margin", seed, [high, high, 0.9])
    written = tmp_path / "results.csv"
    main([*map(str, runs.iterdir()), "--csv", str(written), "--targets", "0.55"])
    shown = capsys.readouterr().out
    main([str(written), "--targets", "0.55"])
    assert capsys.readouterr().out == shown
    some = [str(path) for path in runs.iterdir() if "margin" in path.name]
    main([*some, str(written), "--targets", "0.55"])
    assert capsys.readouterr().out == shown
    margin, random = shown.splitlines()[2:]
    areas = {"margin": [], "random": []}
    for name, seeds in read_csv(written).items():
        areas[name] = [100 * seeds[s].area for s in range(3)]
    gain = np.subtract(areas["margin"], areas["random"])
    p = stats.ttest_rel(areas["margin"], areas["random"]).pvalue
    low, high = stats.t.interval(0.95, 2, gain.mean(), stats.sem(gain))
    cells = [cell.strip() for cell in margin.strip("|").split("|")]
    assert cells[:2] == ["margin", "3"]
    assert cells[3] == f"{gain.mean():+.2f} ± {(high - low) / 2:.2f}"
    assert cells[4] == f"{p:.3f}"
    assert cells[6:] == ["30", "1.50"]
    assert "not reached (0 of 3)" in random


def test_runs_that_differ_in_more_than_strategy_and_seed_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "random", 0, [0.5])
    write_run(tmp_path, "margin", 0, [0.5], query_size=5)
    with pytest.raises(ValueError, match="differ in query_size"):
        read_runs(tmp_path.iterdir())


def test_variants_of_a_strategy_have_names_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path, "instability", 0, [0.5], strategy={"window": 3})
    write_run(tmp_path, "instability", 0, [0.5], strategy={"window": 5})
    assert set(read_runs(tmp_path.iterdir())) == {"instability", "instability (window=5)"}
    write_run(tmp_path, "instability", 0, [0.5], strategy={"window": 5})
    with pytest.raises(ValueError, match=r"two runs of instability \(window=5\), seed 0"):
        read_runs(tmp_path.iterdir())


def test_unfinished_runs_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path, "random", 0, [0.5])
    (folder / "status.json").write_text('{"status": "running"}')
    assert read_runs([folder]) == {}
    assert f"{folder} is running" in capsys.readouterr().err


def test_table_without_the_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="no runs of random"):
        table({"margin": {0: Curve([1, 2], [0.1, 0.2], 0.0)}}, [0.9])


def test_interval_and_correction_are_the_textbook_ones() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((high - low) / 2)
    assert np.isnan(interval([1.0]))
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p_values) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
