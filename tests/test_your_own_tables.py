"""The page on tables of one's own, followed to the letter in an empty folder."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from pages import followed

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your_own_tables.md").read_text()


def test_every_step_works_and_says_what_the_page_says(tmp_path: Path) -> None:
    output = followed(PAGE, tmp_path)
    data, said, asked, predicted = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert (tmp_path / "flowers.csv").read_text().startswith(data)
    assert output.count(said) == 2
    (run,) = (tmp_path / "saved").iterdir()
    for number in (0, 1):
        assert (run / "queries" / f"round_{number:04d}.csv").read_text().startswith(asked)
    text = (tmp_path / "predictions.csv").read_text()
    assert text.startswith(predicted)
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 30
    # all irises in turn are setosa, versicolor, virginica; the first are told apart with ease
    assert {row["class"] for row in rows[:10]} == {"setosa"}
    assert rows[0]["flower"] == "flower 4"
    assert "['flower 4', 'flower 9', 'flower 14'] tensor" in output
