"""Figures of a run: pure functions from numbers to matplotlib figures.

They use matplotlib's object-oriented API alone, so no window, no global figure and no setting is
touched, and they may be called from any thread. Colors are those of `dal.recording.palette`.
Drawing one takes 60 to 250 ms (see `Throttle`); matplotlib is imported at the first call.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dal.recording.lettering import as_written
from dal.recording.palette import BLUE, COLORS, DPI, GREY, MARKERS
from dal.utils.safe_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED = 20
"""With more classes than this, cells and bars carry no numbers and only some axis ticks a name."""


def learning_curve(
    labels: Sequence[int],
    accuracy: Sequence[float],
    *,
    title: str,
    metric: str = "accuracy",
    part: str = "Test",
    aubc: float | None = None,
    path: Path | None = None,
    over: str = "Labels",
) -> Figure:
    """Draw test accuracy, or another metric, against the labels paid for.

    Args:
        labels: Labels paid for at each round, increasing.
        accuracy: Test accuracy at each of them, in [0, 1].
        title: Stands above the axes.
        metric: What the values are.
        part: Which part of the data they are of.
        aubc: Area under the curve divided by the label range (`dal.metrics.aubc`), in [0, 1].
        path: PNG file to write as well; it is replaced in one step, never seen half written.
        over: What ``labels`` are.

    Raises:
        ValueError: The lengths differ or are zero.
        OSError: The file cannot be written.
    """
    if len(labels) != len(accuracy) or not labels:
        raise ValueError(
            f"{len(labels)} label counts for {len(accuracy)} accuracies; pass one pair per round, "
            "and at least one"
        )
    figure, axes = _figure(6.0, 4.0)
    marker = "o" if len(labels) <= 40 else None
    label = None if aubc is None else f"AUBC {aubc:.4f}"
    axes.plot(labels, accuracy, color=BLUE, marker=marker, markersize=4, linewidth=1.8, label=label)
    axes.set(title=title, xlabel=over, ylabel=f"{part} {metric}")
    integer_axis(axes)
    faint_grid(axes)
    if label is not None:
        axes.legend(loc="best", frameon=False)
    if path is not None:
        save(figure, path)
    return figure


def confusion_matrix(counts: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw how often each class was predicted for each true class.

    The shade is the share within the true class (the row); up to 20 classes, the counts stand in
    the cells.

    Args:
        counts: int64, (C, C), rows are true classes, columns predicted ones.
        class_names: The C names.

    Raises:
        ValueError: The shape is not (C, C).
    """
    num_classes = len(class_names)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(
            f"counts have shape {tuple(counts.shape)} for {num_classes} class names; pass "
            f"({num_classes}, {num_classes})"
        )
    values = counts.detach().cpu()
    share = (values / values.sum(dim=1, keepdim=True).clamp_min(1)).numpy()
    side = min(4.0 + 0.3 * num_classes, 8.5)
    figure, axes = _figure(side + 1.0, side)
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set(xlabel="Predicted class", ylabel="True class")
    _name_ticks(axes, class_names, axis="x")
    _name_ticks(axes, class_names, axis="y")
    if num_classes <= MAX_NAMED:
        _write_cells(axes, values.tolist(), share)
    figure.colorbar(image, ax=axes, label="Share of the true class", fraction=0.046, pad=0.03)
    return figure


def label_outcomes(counts: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw for every label how often it was found, missed, and predicted without holding.

    Args:
        counts: int64, (C, 2, 2), ``[[TN, FP], [FN, TP]]`` of each label.
        class_names: The C names.

    Raises:
        ValueError: The shape is not (C, 2, 2).
    """
    num_labels = len(class_names)
    if counts.shape != (num_labels, 2, 2):
        raise ValueError(
            f"counts have shape {tuple(counts.shape)} for {num_labels} class names; pass "
            f"({num_labels}, 2, 2)"
        )
    found, missed, wrong = (
        counts[:, row, column].tolist() for row, column in ((1, 1), (1, 0), (0, 1))
    )
    figure, axes = _figure(min(max(5.5, 3.0 + 0.35 * num_labels), 9.0), 3.5)
    places = range(num_labels)
    axes.bar(places, found, color=BLUE, label="found")
    axes.bar(places, missed, bottom=found, color=GREY, label="missed")
    axes.bar(places, [-count for count in wrong], color=COLORS[1], label="wrongly predicted")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(ylabel="Test samples", xlim=(-0.6, num_labels - 0.4))
    axes.yaxis.set_major_formatter(lambda count, _: f"{abs(count):g}")
    _name_ticks(axes, class_names, axis="x")
    faint_grid(axes, axis="y")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def class_histogram(counts: Tensor, class_names: Sequence[str], title: str) -> Figure:
    """Draw how many samples each class has, such as those picked in one query.

    Args:
        counts: Integer or float, (C,), not negative.
        class_names: The C names.
        title: Stands above the axes.

    Raises:
        ValueError: The shape is not (C,).
    """
    if counts.shape != (len(class_names),):
        raise ValueError(
            f"counts have shape {tuple(counts.shape)} for {len(class_names)} class names; pass "
            f"({len(class_names)},)"
        )
    values = counts.detach().cpu().tolist()
    figure, axes = _figure(min(max(5.5, 3.0 + 0.35 * len(values)), 9.0), 3.5)
    bars = axes.bar(range(len(values)), values, color=BLUE, width=0.8)
    axes.set(title=title, ylabel="Samples", xlim=(-0.6, len(values) - 0.4))
    axes.set_ylim(0, 1.1 * max([*values, 1]))
    _name_ticks(axes, class_names, axis="x")
    integer_axis(axes, axis="y")
    faint_grid(axes, axis="y")
    if len(values) <= MAX_NAMED:
        axes.bar_label(bars, fontsize=8, padding=1)
    return figure


def prediction_history(
    probs: Tensor,
    class_names: Sequence[str],
    *,
    rounds: Sequence[int] | None = None,
    image: Tensor | None = None,
    top: int = 5,
    title: str | None = None,
) -> Figure:
    """Draw how the predicted class probabilities of one sample moved over the rounds.

    Args:
        probs: Float, (T, C), one row per round in [0, 1]; a row of NaN, for a round in which the
            sample was already labeled, is left as a gap.
        class_names: The C names.
        rounds: The T round numbers, or None for 0 to T - 1.
        image: The sample, uint8 or float, (channels, H, W), drawn on the left.
        top: How many classes get a color and a name: those of the highest probability reached in
            any round. The others are grey and share one entry of the legend.
        title: Stands above the lines.

    Raises:
        ValueError: A shape or length does not fit, or ``top`` is below 1.

    Reference:
        H. He and S.-J. Huang. Active learning based on instability sampling. 2022, figure 1.
    """
    rounds = range(len(probs)) if rounds is None else rounds
    if not rounds or probs.shape != (len(rounds), len(class_names)):
        raise ValueError(
            f"probs have shape {tuple(probs.shape)} for {len(rounds)} rounds and "
            f"{len(class_names)} class names; pass (rounds, classes), at least one round"
        )
    if top < 1:
        raise ValueError(f"top={top} names no class; pass at least 1")
    figure, axes = _figure(6.5, 3.6) if image is None else _figure_beside(image)
    _draw_history(axes, probs.detach().cpu(), class_names, rounds, top)
    axes.set(xlabel="Round", ylabel="Predicted probability", ylim=(-0.03, 1.03))
    if title is not None:
        axes.set_title(title)
    integer_axis(axes)
    faint_grid(axes)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, reverse=True
    )
    return figure


def image_grid(images: Tensor, *, columns: int = 8, side: int = 64, padding: int = 2) -> Tensor:
    """Arrange images in a grid, row by row.

    Images smaller than ``side`` are enlarged by a whole factor with sharp pixels, larger ones are
    averaged down, so that a grid of 32 stays below about 100 kB.

    Args:
        images: uint8 in [0, 255] or float, (n, channels, H, W). Other than 1 or 3 channels are
            averaged to one. Float images outside [0, 1] are stretched, each by itself, to [0, 1].
        columns: Images per row; the last row is filled up with white.
        side: Longest side of one image in pixels, at most.
        padding: White pixels around each image.

    Returns:
        uint8, (1 or 3, height, width).

    Raises:
        ValueError: ``images`` is empty or has not four dimensions.
    """
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; pass (n, channels, H, W), none of them 0"
        )
    tiles = F.pad(_fit(_to_unit(images.detach().cpu()), side), (padding,) * 4, value=1.0)
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    _, channels, height, width = tiles.shape
    grid = torch.ones(rows * columns, channels, height, width)
    grid[: len(tiles)] = tiles
    grid = grid.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    pixels = grid.reshape(channels, rows * height, columns * width)
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def to_pixels(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Render a figure: uint8, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with as_written(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG under a temporary name, then rename it.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    with as_written(figure):
        figure.savefig(buffer, format="png")
    write_atomically(path, lambda file: file.write(buffer.getvalue()), sync=False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of that many inches with its axes."""
    figure = canvas(width, height)
    return figure, figure.add_subplot()


def _figure_beside(image: Tensor) -> tuple[Figure, Axes]:
    """A figure with the image on the left and empty axes on the right."""
    figure = canvas(9.0, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    pixels = _to_unit(image.detach().cpu()[None])[0].permute(1, 2, 0).squeeze(-1)
    left.imshow(pixels.numpy(), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    left.set_axis_off()
    return figure, right


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_history(
    axes: Axes, probs_TC: Tensor, class_names: Sequence[str], rounds: Sequence[int], top: int
) -> None:
    """One line per class; the ``top`` highest ones colored and named, highest first."""
    highest = probs_TC.nan_to_num(nan=-1.0).amax(dim=0)
    order = highest.argsort(descending=True, stable=True).tolist()
    series = probs_TC.numpy()
    others = order[top:]
    shared = class_names[others[0]] if len(others) == 1 else f"{len(others)} others"
    for c in others:
        label = shared if c == others[0] else None
        line = axes.plot(rounds, series[:, c], color=GREY, linewidth=0.9, label=label)
        line[0].set(marker=".", markersize=3)
    for rank, c in reversed(list(enumerate(order[:top]))):
        color, marker = COLORS[rank % len(COLORS)], MARKERS[rank % len(MARKERS)]
        style = "-" if rank < len(COLORS) else "--"
        line = axes.plot(rounds, series[:, c], style, color=color, label=class_names[c], zorder=3)
        line[0].set(marker=marker, markersize=4.5, linewidth=1.8)


def _to_unit(images: Tensor) -> Tensor:
    """Float32 images in [0, 1] with 1 or 3 channels, see `image_grid`."""
    if images.dtype == torch.uint8:
        x = images.float() / 255
    else:
        x = images.float()
        low = x.amin(dim=(1, 2, 3), keepdim=True)
        high = x.amax(dim=(1, 2, 3), keepdim=True)
        stretched = (x - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
        x = torch.where((low < 0) | (high > 1), stretched, x)
    return x if x.shape[1] in (1, 3) else x.mean(dim=1, keepdim=True)


def _fit(images: Tensor, side: int) -> Tensor:
    """Enlarge by a whole factor or average down, so that the longest side is at most ``side``."""
    height, width = images.shape[-2:]
    longest = max(height, width)
    if longest > side:
        size = (max(1, height * side // longest), max(1, width * side // longest))
        return F.interpolate(images, size, mode="area")
    factor = side // longest
    return images.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _name_ticks(axes: Axes, names: Sequence[str], *, axis: Literal["x", "y"]) -> None:
    """Put the class names on an axis; with many classes only every k-th."""
    step = math.ceil(len(names) / MAX_NAMED)
    shown = [_shorten(name) for name in names[::step]]
    if axis == "y":
        axes.set_yticks(range(0, len(names), step), shown, fontsize=8)
        return
    axes.set_xticks(range(0, len(names), step), shown, fontsize=8)
    if max(map(len, shown)) > 2:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")


def _shorten(name: str, length: int = 16) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _write_cells(axes: Axes, counts: list[list[int]], share: np.ndarray[Any, Any]) -> None:
    """Write each count that is not 0 into its cell, white where the cell is dark."""
    size = 9 if len(counts) <= 10 else 7
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                color = "white" if share[row, column] > 0.5 else "black"
                axes.text(
                    column,
                    row,
                    f"{count}",
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=size,
                    in_layout=False,
                )


def integer_axis(axes: Axes, *, axis: Literal["x", "y"] = "x") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(
        MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )


def faint_grid(axes: Axes, *, axis: Literal["both", "x", "y"] = "both") -> None:
    """A faint grid behind the data, and no frame on the right and above."""
    axes.grid(axis=axis, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
