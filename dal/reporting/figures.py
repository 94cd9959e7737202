"""The figures of a report, fit to print; colors as in `dal.recording.palette`.

A panel holds few strategies, each with thin error bars beside those of the others: bands of more
than two merge into grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dal.recording.lettering import as_written
from dal.recording.palette import COLORS, DPI, MARKERS
from dal.reporting.compare import Group, areas
from dal.reporting.measures import measured
from dal.reporting.records import RunRecord
from dal.reporting.statistics import FEW_SEEDS, Floats, half_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
"""Every figure is written as each of them: to look at, and to print at any size."""

PER_PANEL = 4
"""So many curves in one panel at most, the baseline among them."""
_COLUMNS = 3
_MARKS = 8


def mean_curve(
    group: Group,
    strategy: str,
    values_of: Callable[[RunRecord], Sequence[float]] = lambda run: run.values,
) -> tuple[Floats, Floats, Floats]:
    """Numbers of labels, mean over seeds, and half the width of its 95 % interval.

    Args:
        group: The runs.
        strategy: The strategy whose runs are averaged.
        values_of: Gives the numbers of a run to be averaged, one a round.

    Returns:
        Three float64 arrays of one length: labels within the group's span at which any seed was
        measured (others are interpolated there), the mean of the metric, and half the
        width of Student's interval, NaN for one seed.
    """
    runs = list(group.curves[strategy].values())
    low, high = group.span
    labels = sorted({low, high} | {n for run in runs for n in run.labels if low < n < high})
    values = np.array([np.interp(labels, run.labels, values_of(run)) for run in runs])
    half = half_widths(values)
    return np.asarray(labels, dtype=np.float64), values.mean(axis=0), half


def draw_curve(
    axes: Axes,
    group: Group,
    strategy: str,
    color: str,
    marker: str,
    dashed: bool,
    marks: int = _MARKS,
    aside: float = 0.0,
    values_of: Callable[[RunRecord], Sequence[float]] = lambda run: run.values,
) -> None:
    """Draw the mean curve of a strategy with its 95 % interval; of few seeds, every run instead.

    Args:
        axes: The axes to draw in.
        group: The runs.
        strategy: The strategy whose runs are drawn; its name becomes the label.
        color: Color of lines, markers and intervals.
        marker: Marker of the mean.
        dashed: Whether the line of the mean is dashed.
        marks: About how many markers, each with an interval.
        aside: How far the markers are moved along the line, in distances between two of them, so
            that intervals of several strategies stand beside each other.
        values_of: Gives the numbers of a run to be drawn, one a round.
    """
    labels, mean, half = mean_curve(group, strategy, values_of)
    style = "--" if dashed else "-"
    at = labels[:: max(1, len(labels) // marks)]
    distance = at[1] - at[0] if len(at) > 1 else 0.0
    at = np.clip(at + aside * distance, labels[0], labels[-1])
    runs = group.curves[strategy].values()
    axes.plot(labels, mean, style, color=color, linewidth=1.4, zorder=3)
    shown = len(runs) >= FEW_SEEDS
    axes.errorbar(
        at,
        np.interp(at, labels, mean),
        yerr=np.interp(at, labels, half) if shown else None,
        fmt=marker,
        color=color,
        markersize=4,
        elinewidth=0.9,
        linestyle=style,
        label=strategy,
        zorder=3,
    )[0].set_linestyle("none")
    for run in () if shown else runs:
        values = np.interp(labels, run.labels, values_of(run))
        axes.plot(labels, values, color=color, linewidth=0.6, alpha=0.5)


def learning_curves(group: Group, baseline: str) -> Figure:
    """Draw the mean curve of every strategy; see `draw_curve`.

    The best strategies by area come first, few in a panel, and the baseline is in every one.

    Args:
        group: The runs.
        baseline: Drawn dashed.
    """
    seeds = {len(runs) for runs in group.curves.values()}
    many = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    unit = "seed" if many == "1" else "seeds"
    parts = ["95 % intervals"] * (max(seeds) >= FEW_SEEDS)
    shown = " or ".join([*parts, *["single runs"] * (min(seeds) < FEW_SEEDS)])
    figure = _panels(group, baseline, measured(group.metric))
    figure.suptitle(f"{group.title}\nmean of {many} {unit}, {shown}", fontsize=10)
    return figure


def foreign_curves(group: Group, baseline: str) -> Figure:
    """Draw how many answers were "none of these", of all that were paid for.

    Args:
        group: The runs.
        baseline: Drawn dashed.
    """

    def so_far(run: RunRecord) -> list[float]:
        wasted = [0, *(r.wasted for r in run.rounds[:-1])]
        return [float(n) for n in np.cumsum(wasted)]

    figure = _panels(group, baseline, "Answers \u201cnone of these\u201d", so_far)
    figure.suptitle(group.title, fontsize=10)
    return figure


def panels_of(group: Group, baseline: str) -> list[list[str]]:
    """Which strategies share a panel, the best mean area first; the baseline ends each."""
    means = {name: np.mean(list(values.values())) for name, values in areas(group).items()}
    others = (name for name in means if name != baseline)
    ordered = sorted(others, key=lambda name: -group.sign * means[name])
    last = [baseline] if baseline in means else []
    room = PER_PANEL - len(last)
    count = max(1, math.ceil(len(ordered) / room))
    size = math.ceil(len(ordered) / count)
    return [[*ordered[size * n : size * (n + 1)], *last] for n in range(count)]


def _panels(
    group: Group,
    baseline: str,
    ylabel: str,
    values_of: Callable[[RunRecord], Sequence[float]] = lambda run: run.values,
) -> Figure:
    """Curves of every strategy over labels, few in a panel, all panels with the same axes."""
    from matplotlib.ticker import MaxNLocator

    panels = panels_of(group, baseline)
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    wide = 5.2 if len(panels) == 1 else 3.4
    figure = _canvas(wide * columns, (3.6 if len(panels) == 1 else 2.7) * rows + 0.3)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(panels):
            axes.set_axis_off()
            continue
        names = panels[number]
        for place, name in enumerate(names):
            own = -1 if name == baseline else place + number * (PER_PANEL - 1) * (len(panels) == 2)
            aside = (place - (len(names) - 1) / 2) / (2 * PER_PANEL)
            look = COLORS[own], MARKERS[own]
            draw_curve(axes, group, name, *look, name == baseline, aside=aside, values_of=values_of)
        axes.xaxis.set_major_locator(
            MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
        axes.tick_params(labelsize=8, labelbottom=True)
        if number + columns >= len(panels):
            axes.set_xlabel(group.paid_for, fontsize=9)
        if number % columns == 0:
            axes.set_ylabel(ylabel, fontsize=9)
        axes.grid(color="#E0E0E0", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def win_matrix(wins: Mapping[tuple[str, str], float], names: Sequence[str], count: int) -> Figure:
    """Draw how often each strategy (row) beats each other one (column).

    Args:
        wins: See `dal.reporting.compare.wins`.
        names: The strategies, in order.
        count: Number of groups: the largest value possible.
    """
    values = np.array([[wins.get((row, column), 0.0) for column in names] for row in names])
    side = max(3.2, 0.42 * len(names) + 1.6)
    figure = _canvas(side + 1.2, side)
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=count)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="is beaten", ylabel="beats")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value > 0:
                color = "white" if value > count / 2 else "black"
                text = f"{value:.2g}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    label = "share of rounds won" if count == 1 else f"rounds won in {count} sections"
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name ends in, without a date or a random name.

    Equal figures give equal files. Letters of a PDF stay letters, of fonts that printers take.

    Raises:
        OSError: The file cannot be written.
        ValueError: matplotlib knows no format of that name.
    """
    from matplotlib import rc_context

    date = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    kind = path.suffix.removeprefix(".")
    with rc_context({"svg.hashsalt": "dal", "pdf.fonttype": 42}), as_written(figure):
        nothing: dict[str, Any] = {date[kind]: None} if kind in date else {}
        figure.savefig(path, format=kind, metadata=nothing)


def _canvas(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
