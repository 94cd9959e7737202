"""Names and texts of people in figures: as they are written, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dal.recording.figures import confusion_matrix, prediction_history, save, to_pixels
from dal.reporting.figures import save as save_report

ODD = ["$\\foo$", "喜び 😀", "a\rb"]


def test_names_with_dollars_and_unknown_letters_are_drawn() -> None:
    figure = confusion_matrix(torch.eye(3, dtype=torch.int64), ODD)
    assert to_pixels(figure).ndim == 3


@pytest.mark.parametrize("write", [save, save_report])
def test_titles_with_formulas_are_written_as_they_are(tmp_path: Path, write: object) -> None:
    assert callable(write)
    drawn = []
    for title in ("$x$ and $\\frac{1}{2}$", "x and \\frac{1}{2}"):
        figure = prediction_history(torch.full((2, 3), 1 / 3), ODD, title=title)
        write(figure, tmp_path / "figure.png")
        drawn.append((tmp_path / "figure.png").read_bytes())
    assert drawn[0] != drawn[1]  # dollars are shown
