"""The tables of label efficiency, on runs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run

from benchmarks.label_efficiency import CASES, DRAWN, folder_of, main


def written(root: Path, case: str, way: str, runs: list[list[float]], status: str) -> None:
    folder = root / folder_of(case) / folder_of(way)
    folder.mkdir(parents=True, exist_ok=True)
    for seed, values in enumerate(runs):
        write_run(folder, "random", seed, values, status=status)


def test_tables_hold_mean_deviation_and_the_lowest_of_runs_that_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, kept, picture = tmp_path / "saved", tmp_path / "r.csv.gz", tmp_path / "figure.png"
    runs = [[0.5, 0.71, 0.9], [0.7, 0.83, 0.94], [0.6, 0.86, 0.8]]
    for case, way in DRAWN:
        written(root, case, way, runs, "complete")
    written(root, "mnist", "random start", runs[:1], "interrupted")
    main([str(root), "--keep", str(kept)])
    main([str(kept), "--figure", str(picture)])
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index("### mnist") + 2 :]
    assert table[0] == "| | seeds | 10 labels | 20 labels | 30 labels | 50 labels |"
    at_20 = 100 * np.array([0.71, 0.83, 0.86])
    assert table[2].split(" | ")[1:] == [
        "3",
        "60.0 ± 10.0 (50.0)",
        f"{at_20.mean():.1f} ± {at_20.std(ddof=1):.1f} (71.0)",
        "88.0 ± 7.2 (80.0)",
        " |",
    ]
    assert not any("random start" in line for line in lines)  # it has not ended
    assert picture.stat().st_size > 10_000


def test_every_command_is_one_that_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--commands"])
    folders = [
        line.split("saved_dir=")[1].split()[0] for line in capsys.readouterr().out.splitlines()
    ]
    assert len(set(folders)) == sum(len(case.ways) for case in CASES.values())
