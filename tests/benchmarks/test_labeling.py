"""The measurement of the labeling page runs; how fast it is is not tested here."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import executable

from benchmarks.labeling import in_words, measure


def test_a_row_holds_median_95_percent_and_largest() -> None:
    values = [float(value) for value in range(1, 101)]
    assert in_words("a", values) == "| a | 50 | 95 | 100 |"


def test_digits_are_answered_by_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = executable()
    if chromium is None:
        pytest.skip("needs Chromium: none on the PATH, and DAL_CHROMIUM is not set")
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    presses, times = measure(seconds=0, count=4, size=2, chromium=chromium)
    assert len(presses) == 4
    assert len(times) == 2
    assert all(press["key"] < press["mark"] < press["next"] for press in presses)
