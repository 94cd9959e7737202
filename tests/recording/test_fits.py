"""How fits go, drawn over each other."""

from __future__ import annotations

import numpy as np
import pytest

from dal.recording.fits import MOST_ROUNDS, FitCurves


def curves(rounds: int, **values: float) -> FitCurves:
    found = FitCurves()
    for number in range(rounds):
        for epoch in range(3):
            found.add(number, {"train/loss": number + epoch / 10, "train/accuracy": 0.5, **values})
    return found


def test_loss_and_metric_of_every_round_over_its_epochs() -> None:
    figure = curves(4).draw("accuracy")
    assert figure is not None
    loss, accuracy = figure.axes
    lines = [np.asarray(line.get_xydata()).tolist() for line in loss.lines]
    assert lines == [[[e, n + e / 10] for e in range(3)] for n in range(4)]
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("Epoch of the round", "train/loss")
    assert accuracy.get_ylabel() == "train/accuracy"
    legend = accuracy.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2", "3"]
    assert len({line.get_color() for line in loss.lines}) == 4


def test_the_validation_part_comes_first() -> None:
    figure = curves(2, **{"val/loss": 7.0, "val/accuracy": 0.25}).draw("accuracy")
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["val/loss", "val/accuracy"]


@pytest.mark.parametrize("rounds", [1, MOST_ROUNDS, MOST_ROUNDS + 1, 100, 777])
def test_of_many_rounds_some_are_drawn_the_last_always(rounds: int) -> None:
    figure = curves(rounds).draw("accuracy")
    assert figure is not None
    shown = [int(np.asarray(line.get_ydata())[0]) for line in figure.axes[0].lines]
    assert len(shown) <= MOST_ROUNDS + 2
    assert len(shown) == rounds or len(shown) >= MOST_ROUNDS // 2
    assert (shown[0], shown[-1]) == (0, rounds - 1)
    assert len(set(np.diff(shown[:-1]))) <= 1


def test_every_second_round_stays_then_every_fourth() -> None:
    for rounds, shown in ((14, [*range(0, 14, 2), 13]), (30, [*range(0, 29, 4), 29])):
        figure = curves(rounds).draw("accuracy")
        assert figure is not None
        lines = figure.axes[0].lines
        assert [int(np.asarray(line.get_ydata())[0]) for line in lines] == shown


def test_nothing_to_draw() -> None:
    assert FitCurves().draw("accuracy") is None
    assert curves(1).draw("accuracy") is not None
    lonely = FitCurves()
    lonely.add(0, {"lr": 0.1})
    assert lonely.draw("accuracy") is None
