"""Pictures of the plane: what a model says everywhere in it, what a strategy wants, who is labeled.

Pure functions from numbers to pictures. Regions have the color of the class that is predicted, the
paler the less sure the model is; scores are shades of grey, the darker the more wanted. So both
can be read without colors, and printed. A picture is made of tiles of `TILE` pixels, each drawn
once by matplotlib in some 50 ms, and put together with Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.recording.figures import to_pixels
from dal.recording.lettering import as_written
from dal.recording.palette import COLORS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

Pixels = NDArray[np.uint8]

MOST_CLASSES = 20
"""Of more classes a picture of regions would tell nothing."""
SIDE = 60
"""Points of the grid in each direction."""
TILE = 300
"""Pixels of a tile in each direction, without its title."""
ACROSS = 6
"""So many rounds stand beside each other at most."""
YELLOW = "#F0E442"
"""Okabe and Ito's: of what was picked, always with a black edge."""
_DOTS = "#777777"
_FOR_BLACK = {"#000000": "#707070"}
"""Of regions, on which marks must be seen."""
_TITLE = 40
_DPI = 150


@dataclass(frozen=True)
class Window:
    """The part of the plane that pictures show.

    Attributes:
        low: The left and the lower end.
        high: The right and the upper end.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, points_N2: Tensor, margin: float = 0.06) -> Window:
        """All points, and a margin: a share of the width and of the height; 1 where these are 0."""
        low, high = points_N2.double().amin(0), points_N2.double().amax(0)
        span = high - low
        room = torch.where(span > 0, margin * span, torch.ones_like(span))
        (left, below), (right, above) = (low - room).tolist(), (high + room).tolist()
        return cls((left, below), (right, above))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper end."""
        return self.low[0], self.high[0], self.low[1], self.high[1]

    def grid(self, side: int = SIDE) -> Tensor:
        """Points of a grid: float32, (side * side, 2), row after row from below, ends included."""
        ends = zip(self.low, self.high, strict=True)
        x, y = (torch.linspace(low, high, side, dtype=torch.float64) for low, high in ends)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([columns.flatten(), rows.flatten()], 1).float()


@dataclass(frozen=True)
class Frame:
    """What the plane looks like in one round.

    Attributes:
        round: The round.
        title: What stands above it.
        probs: float, (S, S, C), class probabilities on the grid, from below.
        labeled: float, (M, 2), where the labeled samples are.
        targets: int64, (M,), their classes.
        picked: float, (b, 2), where the samples of the query are.
        scores: float, (S, S), the score on the grid; NaN where there is none; None for no field.
        scored: What stands above the field of scores.
        guessed: float, (K, 2), where the samples are whose class the model guesses to learn from.
        guesses: int64, (K,), the classes that it guesses.
    """

    round: int
    title: str
    probs: Tensor
    labeled: Tensor
    targets: Tensor
    picked: Tensor
    scores: Tensor | None = None
    scored: str = ""
    guessed: Tensor = field(default_factory=lambda: torch.empty(0, 2))
    guesses: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


def lead(probs_SSC: Tensor) -> Tensor:
    """By how much each class is ahead of the best other one: float, (C, S, S).

    The boundary of a class is where it is 0.
    """
    best, places = probs_SSC.topk(2, dim=-1)
    others = best[..., :1].expand_as(probs_SSC).clone()
    others.scatter_(-1, places[..., :1], best[..., 1:])
    return (probs_SSC - others).permute(2, 0, 1)


def class_style(number: int) -> tuple[str, str]:
    """Color and marker of a class; no two of 49 share both."""
    return COLORS[number % 7], MARKERS[(number + number // 7) % 7]


def shades(probs_SSC: Tensor) -> NDArray[np.float64]:
    """Colors of the regions: float64, (S, S, 3) in [0, 1].

    The color of the class that is predicted; white where all classes are equally likely.
    """
    classes = probs_SSC.shape[-1]
    top, winner = probs_SSC.double().nan_to_num().max(-1)
    sure = ((top - 1 / classes) / (1 - 1 / classes)).clamp(0, 1)
    strength = (0.06 + 0.54 * sure).unsqueeze(-1)
    styles = [class_style(c)[0] for c in range(classes)]
    colors = torch.tensor([_rgb(_FOR_BLACK.get(c, c)) for c in styles], dtype=torch.float64)
    return (1 - strength + strength * colors[winner]).numpy()


def greys(scores_SS: Tensor) -> NDArray[np.float64]:
    """Shades of scores: float64, (S, S, 3), white for the lowest, dark grey for the highest.

    Those between go by the square root, so that what is far from the highest shows as well.
    """
    values, there = scores_SS.double(), scores_SS.isfinite()
    shade = torch.zeros_like(values)
    if bool(there.any()):
        low, high = values[there].aminmax()
        if high > low:
            shade[there] = ((values[there] - low) / (high - low)).sqrt()
    return (1 - 0.72 * shade).unsqueeze(-1).expand(-1, -1, 3).numpy()


def of_nearest(grid_G2: Tensor, points_N2: Tensor, values_N: Tensor) -> Tensor:
    """The value of the point that is nearest to each point of a grid: float, (G,)."""
    return values_N[torch.cdist(grid_G2.double(), points_N2.double()).argmin(1)]


def colored(axes: Axes, colors_SS3: NDArray[np.float64], window: Window) -> None:
    """Color the cell around each point of a grid; the outer cells reach half of one beyond it."""
    (left, below), (right, above), side = window.low, window.high, len(colors_SS3)
    x, y = (right - left) / (side - 1) / 2, (above - below) / (side - 1) / 2
    extent = left - x, right + x, below - y, above + y
    axes.imshow(colors_SS3, origin="lower", extent=extent, aspect="auto")


def boundaries(axes: Axes, probs_SSC: Tensor, window: Window, **how: Any) -> None:
    """Draw where the predicted class changes."""
    side = len(probs_SSC)
    x, y = (np.linspace(window.low[k], window.high[k], side) for k in (0, 1))
    ahead = lead(probs_SSC.double())
    for values in ahead[1:] if len(ahead) == 2 else ahead:
        if bool((values > 0).any()) and bool((values < 0).any()):
            axes.contour(x, y, values.numpy(), levels=[0], **{"colors": "black"} | how)


def model_tile(frame: Frame, window: Window, points: Tensor, names: Sequence[str] = ()) -> Pixels:
    """What the model says: regions, boundary, samples.

    Args:
        frame: The round.
        window: What is shown.
        points: float, (N, 2), all samples, as a background.
        names: Those of the classes, to be written into their regions; none for none.

    Returns:
        uint8, (height, width, 3).
    """
    figure, axes = tile(frame.title, window)
    colored(axes, shades(frame.probs), window)
    boundaries(axes, frame.probs, window, linewidths=1.1)
    dots(axes, points)
    if names:
        _name_regions(axes, frame, window, names)
    _samples(axes, frame)
    return to_pixels(figure)


def score_tile(frame: Frame, window: Window, points: Tensor, size: float = 7) -> Pixels:
    """What the strategy wants: its score, the boundary, samples; see `model_tile`."""
    figure, axes = tile(frame.scored, window, size)
    if frame.scores is not None:
        colored(axes, greys(frame.scores), window)
    boundaries(axes, frame.probs, window, linewidths=0.9, linestyles="dashed")
    dots(axes, points)
    _samples(axes, frame)
    return to_pixels(figure)


def legend(
    names: Sequence[str], width: int, scores: bool = True, guesses: bool = False, picks: bool = True
) -> Pixels:
    """What colors, markers and shades mean, as a strip of a width in pixels."""
    from matplotlib.lines import Line2D

    styles = [class_style(c) for c in range(len(names))]
    entries = [
        Line2D([], [], marker=marker, color=color, ls="", mec="black", mew=0.6, label=_cut(name))
        for (color, marker), name in zip(styles, names, strict=True)
    ]
    plain = {"ls": "", "color": _DOTS, "marker": "."}
    entries.append(Line2D([], [], label="not labeled", **plain))  # type: ignore[arg-type]
    if picks:
        star = {"marker": "*", "ms": 11, "ls": "", "color": YELLOW, "mec": "black"}
        entries.append(Line2D([], [], label="picked", **star))  # type: ignore[arg-type]
    entries.append(Line2D([], [], color="black", lw=1.1, label="boundary of classes"))
    if guesses:
        small = {"marker": "o", "ms": 4, "ls": "", "color": COLORS[0], "mec": "white"}
        entries.append(Line2D([], [], label="small: guessed", **small))  # type: ignore[arg-type]
    if scores:
        entries.append(
            Line2D([], [], marker="s", ms=9, ls="", color="#555555", label="dark: high score")
        )
    looks = {"loc": "center", "frameon": False, "fontsize": 7, "columnspacing": 1.2}
    for columns in range(max(1, min(len(entries), width // 150)), 0, -1):
        figure = _plain(width, 26 * -(-len(entries) // columns) + 12)
        drawn = figure.legend(handles=entries, ncols=columns, **looks)
        with as_written(figure):
            if drawn.get_window_extent().width <= width:
                break  # long names take fewer columns
    return to_pixels(figure)


def side_by_side(tiles: Sequence[Pixels]) -> Pixels:
    """Tiles of one height in a row."""
    return np.concatenate(list(tiles), 1)


def panels(
    columns: Sequence[Sequence[Pixels]], below: Pixels | None = None, most: int = ACROSS
) -> Pixels:
    """Rounds beside each other, each with its tiles above each other.

    Args:
        columns: The tiles of each round; equally many, of one size.
        below: A strip at the end, centered.
        most: So many stand in a row at most.

    Returns:
        uint8, (height, width, 3).
    """
    stacked = [np.concatenate(list(tiles), 0) for tiles in columns]
    height, width = stacked[0].shape[:2]
    rows = -(-len(stacked) // most)
    across = -(-len(stacked) // rows)
    strip = (0, 0) if below is None else below.shape[:2]
    total = max(across * width, strip[1])
    sheet = np.full((rows * height + strip[0], total, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(stacked):
        y, x = place // across * height, place % across * width
        sheet[y : y + height, x : x + width] = tile
    if below is not None:
        start = (total - strip[1]) // 2
        sheet[rows * height :, start : start + strip[1]] = below
    return sheet


def gif(pictures: Sequence[Pixels], seconds: float = 1.0) -> bytes:
    """Pictures of one size as an animation that begins again; the last one stays for longer."""
    from PIL import Image

    shown = [Image.fromarray(picture).quantize(256) for picture in pictures]
    times = [round(1000 * seconds)] * (len(shown) - 1) + [round(3000 * seconds)]
    file = io.BytesIO()
    shown[0].save(
        file, "GIF", save_all=True, append_images=shown[1:], duration=times, loop=0, disposal=1
    )
    return file.getvalue()


def png(picture: Pixels) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    image(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def image(picture: Pixels) -> Image.Image:
    """A picture of Pillow."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(picture))


def _samples(axes: Axes, frame: Frame) -> None:
    """Labeled ones with color and marker of their class, picked ones as stars."""
    edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.6}
    plain: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.3}
    _marks(axes, frame.guessed, frame.guesses, s=12, zorder=2.5, **plain)
    _marks(axes, frame.labeled, frame.targets, s=26, zorder=3, **edge)
    x, y = frame.picked.numpy().T
    axes.scatter(x, y, s=95, c=YELLOW, marker="*", zorder=4, **edge)


def _marks(axes: Axes, at: Tensor, classes: Tensor, **how: Any) -> None:
    for number in sorted(set(classes.tolist())):
        color, marker = class_style(number)
        x, y = at[classes == number].numpy().T
        axes.scatter(x, y, c=color, marker=marker, **how)


def dots(axes: Axes, points: Tensor) -> None:
    """All samples, as small grey dots."""
    x, y = points.numpy().T
    axes.scatter(x, y, s=3, c=_DOTS, linewidths=0, zorder=2)


def _name_regions(axes: Axes, frame: Frame, window: Window, names: Sequence[str]) -> None:
    """Write the name of each class into its region, where the most room is; none into specks."""
    from matplotlib import patheffects

    marks = torch.cat([frame.labeled, frame.picked])
    for number, name in enumerate(names):
        words = _cut(name)
        half = (4 * len(words) + 8) / TILE, 16 / TILE  # of the words and of a mark beside them
        place = roomiest(frame.probs.argmax(-1) == number, marks, window, half)
        if place is None:
            continue
        text = axes.text(*place, words, ha="center", va="center", fontsize=6.5, zorder=5)
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])


def roomiest(
    inside_SS: Tensor, marks_M2: Tensor, window: Window, half: tuple[float, float]
) -> tuple[float, float] | None:
    """Where words in a region are farthest from its edge and from marks.

    None in a region of less than 2 % of the window, and where words would cover a mark anywhere.

    Args:
        inside_SS: bool, (S, S), which points of the grid the region has.
        marks_M2: float, (M, 2), what words must not cover.
        window: The part of the plane.
        half: Half of the width and of the height of the words, as shares of the window's.
    """
    spans = [high - low for low, high in zip(window.low, window.high, strict=True)]
    units = torch.tensor(spans) * torch.tensor(half)  # so that words reach from -1 to 1
    (left, below), (right, above) = window.low, window.high
    x, y = (span / (len(inside_SS) - 1) for span in spans)
    around = torch.nn.functional.pad(inside_SS, (1, 1, 1, 1), value=False)
    wide = Window((left - x, below - y), (right + x, above + y))
    grid, flat = wide.grid(len(inside_SS) + 2) / units, around.flatten()
    own, marks = grid[flat], marks_M2.float() / units
    covers = torch.cdist(own, marks, p=torch.inf).lt(1).any(1)
    if bool(covers.all()) or inside_SS.double().mean() < 0.02:
        return None
    own, others = own[~covers], torch.cat([grid[~flat], marks])
    best = own[torch.cdist(own, others).amin(1).argmax()] * units
    return float(best[0]), float(best[1])


def tile(title: str, window: Window, size: float = 7) -> tuple[Figure, Axes]:
    """An empty tile, with a title above it, in letters of a size in points."""
    figure = _plain(TILE, TILE + _TITLE)
    margin, height, y = 6 / TILE, TILE + _TITLE, TILE + _TITLE / 2 - 5
    axes = figure.add_axes((margin, 6 / height, 1 - 2 * margin, (TILE - 12) / height))
    axes.set(xlim=window.extent[:2], ylim=window.extent[2:], xticks=[], yticks=[])
    figure.text(0.5, y / height, title, ha="center", va="center", fontsize=size)
    return figure, axes


def _plain(width: int, height: int) -> Figure:
    """An empty figure of so many pixels, without a layout of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _rgb(color: str) -> list[float]:
    return [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def _cut(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
