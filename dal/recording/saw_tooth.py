"""The saw-tooth of a run: a metric of every epoch over all optimizer steps.

It rises within a round, and falls where new samples come: they are those that the model found hard.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dal.recording.figures import canvas, faint_grid
from dal.recording.palette import BLUE, COLORS
from dal.recording.words import LABELED, in_words
from dal.utils.direction import direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {"train": (COLORS[4], 0.9, "train"), "val": (BLUE, 1.2, "validation")}
"""Color, width and words of the curve of each part."""
MOST_MARKED = 60
"""Of more rounds than this neither their beginnings nor their best epochs are marked singly."""
_TICKS = 8


class SawTooth:
    """Keeps loss and one metric of every epoch, 48 bytes each, and draws them.

    Args:
        metric: Which one besides the loss, such as ``macro_f1``.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        names = [f"{part}/{name}" for name in (metric, "loss") for part in LOOKS]
        self._columns = {name: array("d") for name in dict.fromkeys(names)}
        self._steps, self._rounds, self._labeled = array("q"), array("q"), array("q")

    def add(self, round_number: int, step: int, values: Mapping[str, float]) -> None:
        """Add an epoch: its round, the steps of the run by its end, and its metrics by name."""
        self._steps.append(step)
        self._rounds.append(round_number)
        self._labeled.append(int(values.get(LABELED, 0)))
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))

    def draw(self, title: str = "") -> Figure | None:
        """The metric above the loss, for training and validation, with the rounds marked.

        Returns:
            The figure; None where no fit has gone on for more than one epoch.
        """
        rounds = np.array(self._rounds)
        if len(rounds) == len(set(rounds.tolist())):
            return None
        known = {n: np.array(c) for n, c in self._columns.items() if not np.isnan(c).all()}
        metrics = dict.fromkeys(name.partition("/")[2] for name in known)
        figure = canvas(9.0, 2.4 * len(metrics) + 0.6)
        rows = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(rows, metrics, strict=True):
            self._mark_rounds(axes, rounds)
            for part, (color, width, words) in LOOKS.items():
                if (values := known.get(f"{part}/{metric}")) is not None:
                    axes.plot(self._steps, values, color=color, linewidth=width, label=words)
                    shown = part, values
            self._mark_best(axes, rounds, *shown, direction(metric) == "min")
            axes.set_ylabel(in_words(metric))
            faint_grid(axes, axis="y")
            axes.margins(x=0.01)
        handles = {
            label: line
            for axes in rows
            for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        rows[0].legend(
            handles.values(),
            handles.keys(),
            loc="center left",
            bbox_to_anchor=(1.005, 0.5),
            frameon=False,
            fontsize=9,
        )
        rows[-1].set_xlabel("Optimizer steps over all rounds")
        self._name_rounds(rows[0], rounds)
        if title:
            figure.suptitle(title, fontsize=10)
        return figure

    def _starts(self, rounds: NDArray[np.int64]) -> list[int]:
        """The place of the first epoch of each round."""
        return [0, *(1 + np.flatnonzero(np.diff(rounds))).tolist()]

    def _mark_rounds(self, axes: Axes, rounds: NDArray[np.int64]) -> None:
        """A gray ground below every second round."""
        starts = self._starts(rounds)
        if len(starts) > MOST_MARKED:
            return
        # A round begins with the step after the last one of the round before.
        ends = [self._steps[start - 1] if start else 0 for start in starts] + [self._steps[-1]]
        for low, high in list(pairwise(ends))[1::2]:
            axes.axvspan(low, high, color="#F2F2F2", linewidth=0, zorder=0)

    def _mark_best(
        self,
        axes: Axes,
        rounds: NDArray[np.int64],
        part: str,
        values: NDArray[np.float64],
        lower: bool,
    ) -> None:
        """A point at the best epoch of each round."""
        ends = [*self._starts(rounds), len(rounds)]
        if len(ends) > MOST_MARKED or np.isnan(values).any():
            return
        best = [
            low + int((values[low:high] * (-1 if lower else 1)).argmax())
            for low, high in pairwise(ends)
        ]
        places = [self._steps[n] for n in best]
        color = LOOKS[part][0]
        axes.plot(places, values[best], ".", color=color, markersize=6, label="best of the round")

    def _name_rounds(self, axes: Axes, rounds: NDArray[np.int64]) -> None:
        """Above the curves, how many samples some of the rounds trained on."""
        starts = self._starts(rounds)
        shown = starts[:: max(1, math.ceil(len(starts) / _TICKS))]
        above = axes.secondary_xaxis("top")
        places = [self._steps[start - 1] if start else 0 for start in shown]
        if any(self._labeled):
            above.set_xticks(places, [f"{self._labeled[start]}" for start in shown], fontsize=8)
            above.set_xlabel("Labeled samples, from here on", fontsize=9)
        else:
            above.set_xticks(places, [f"{rounds[start]}" for start in shown], fontsize=8)
            above.set_xlabel("Round, from here on", fontsize=9)
