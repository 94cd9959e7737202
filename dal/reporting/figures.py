"""The figures of a report; colors as in `dal.recording.palette`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dal.recording.palette import COLORS, DPI, GREY, MARKERS
from dal.reporting.compare import Group, areas
from dal.reporting.statistics import FEW_SEEDS, Floats, half_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def mean_curve(group: Group, strategy: str) -> tuple[Floats, Floats, Floats]:
    """Numbers of labels, mean over seeds, and half the width of its 95 % interval.

    Args:
        group: The runs.
        strategy: One of them.

    Returns:
        Three float64 arrays of one length: labels within the group's span at which any seed was
        measured (others are interpolated there), the mean of the metric in [0, 1], and half the
        width of Student's interval, NaN for one seed.
    """
    runs = list(group.curves[strategy].values())
    low, high = group.span
    labels = sorted({low, high} | {n for run in runs for n in run.labels if low < n < high})
    values = np.array([np.interp(labels, run.labels, run.values) for run in runs])
    half = half_widths(values)
    return np.asarray(labels, dtype=np.float64), values.mean(axis=0), half


def draw_curve(
    axes: Axes, group: Group, strategy: str, color: str, marker: str, dashed: bool, marks: int = 12
) -> None:
    """Draw the mean curve of a strategy with its 95 % interval; of few seeds, every run instead.

    Args:
        axes: Where to.
        group: The runs.
        strategy: One of them, which becomes the label.
        color: Of everything.
        marker: Of the mean.
        dashed: Whether the mean is.
        marks: About how many markers.
    """
    labels, mean, half = mean_curve(group, strategy)
    axes.plot(
        labels,
        mean,
        "--" if dashed else "-",
        color=color,
        marker=marker,
        markevery=max(1, len(labels) // marks),
        markersize=4.5,
        linewidth=1.7,
        label=strategy,
        zorder=3,
    )
    runs = group.curves[strategy].values()
    if len(runs) >= FEW_SEEDS:
        axes.fill_between(labels, mean - half, mean + half, color=color, alpha=0.13, linewidth=0)
    else:
        for run in runs:
            values = np.interp(labels, run.labels, run.values)
            axes.plot(labels, values, color=color, linewidth=0.7, alpha=0.45)


def learning_curves(group: Group, baseline: str) -> Figure:
    """Draw the mean curve of every strategy; see `draw_curve`.

    The best strategies by area and the baseline have colors, markers and names; where there are
    more than colors, the rest are grey lines that share one entry of the legend.

    Args:
        group: The runs.
        baseline: Drawn dashed.
    """
    means = {name: np.mean(list(values.values())) for name, values in areas(group).items()}
    ordered = sorted(means, key=lambda name: -means[name])
    named = [name for name in ordered if name != baseline][: len(COLORS) - 1]
    figure = _canvas(7.0, 4.4)
    axes = figure.add_subplot()
    for rank, name in enumerate([*named, *([baseline] if baseline in means else [])]):
        place = -1 if name == baseline else rank
        draw_curve(axes, group, name, COLORS[place], MARKERS[place], dashed=name == baseline)
    others = [name for name in ordered if name not in (*named, baseline)]
    shared = others[0] if len(others) == 1 else f"{len(others)} others"
    for name in others:
        labels, mean, _ = mean_curve(group, name)
        label = shared if name == others[0] else None
        axes.plot(labels, mean, color=GREY, linewidth=0.8, zorder=1, label=label)
    seeds = {len(runs) for runs in group.curves.values()}
    many = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    unit = "seed" if many == "1" else "seeds"
    parts = ["95 % intervals"] * (max(seeds) >= FEW_SEEDS)
    shown = " or ".join([*parts, *["single runs"] * (min(seeds) < FEW_SEEDS)])
    axes.set(
        title=f"{group.name}: mean of {many} {unit}, {shown}",
        xlabel="Labels",
        ylabel=f"Test {group.metric.replace('_', ' ')}",
    )
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
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
    figure.colorbar(image, ax=axes, label="data sets won", fraction=0.046, pad=0.03)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without a date: equal figures give equal files."""
    options: dict[str, Any] = {"metadata": {"Software": None}}
    figure.savefig(path, format="png", **options)


def _canvas(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
