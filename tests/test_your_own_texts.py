"""The page on texts of one's own, followed to the letter in an empty folder."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from pages import ROOT, followed

PAGE = (ROOT / "docs" / "your_own_texts.md").read_text()


def test_every_step_works_and_says_what_the_page_says(tmp_path: Path) -> None:
    output = followed(PAGE, tmp_path)
    data, said, asked, predicted = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert (tmp_path / "reviews.csv").read_text().startswith(data)
    assert output.count(said) == 2
    first, again, several = sorted(
        (tmp_path / "saved").iterdir(), key=lambda run: run.stat().st_ctime
    )
    for run, number in ((first, 0), (first, 1), (again, 0)):
        text = (run / "queries" / f"round_{number:04d}.csv").read_text(encoding="utf-8-sig")
        assert text.startswith(asked)
    assert "margin-s0" in several.name
    assert "thresholds=fitted" in output
    assert "round   3 |    40 labels" in output
    text = (tmp_path / "predictions.csv").read_text()
    assert text.startswith(predicted)
    assert len(list(csv.DictReader(text.splitlines()))) == 40
    assert "['praise', 'complaint']" in output
    assert "labels.csv: 130 labels" in output
    assert "all: 340 train + 100 test texts" in output
