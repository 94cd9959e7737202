"""The tables of the instability paper against scipy, on runs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from written_runs import write_run

from benchmarks.instability_paper import main


def test_tables_hold_what_scipy_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "saved"
    runs.mkdir()
    rng = np.random.default_rng(0)
    means = {"random": 0.5, "entropy": 0.6, "instability": 0.6, "margin": 0.6}
    values: dict[str, list[float]] = {name: [] for name in means}
    for seed in range(5):
        for name, mean in means.items():
            value = mean + rng.normal(0, 0.02)
            values[name].append(100 * value)
            drawn = {"query/tied": 5 if name in ("instability", "margin") else 0}
            write_run(runs, name, seed, [value, value], drawn=drawn, data="iris")
    picture = tmp_path / "figure.png"
    main([str(runs), "--figure", str(picture)])
    area, against, variants, draws = (
        block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")
    )
    best = max(("entropy", "instability"), key=lambda name: np.mean(values[name]))
    place = [cell.strip() for cell in area[0].split("|")].index(best)
    assert area[2].split("|")[place].strip().startswith(f"**{np.mean(values[best]):.2f}")
    gains = np.subtract(values["instability"], values["random"])
    p = stats.ttest_1samp(gains, 0).pvalue
    assert f"**{gains.mean():+.2f} ± " in against[2]
    assert (f"p {p:.3f}" if p >= 0.0005 else "p < 0.001") in against[2]
    assert variants[2].count("not run") == 7
    assert draws == [
        "| picks by draw | margin | entropy | instability |",
        "| --- | ---: | ---: | ---: |",
        "| iris | 50% | 0% | 50% |",
    ]
    assert picture.stat().st_size > 10_000
