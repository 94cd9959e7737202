"""How the fits of a run went, as one figure: a line for each of some rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dal.recording.figures import canvas, faint_grid, integer_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROUNDS = 12
"""Of so many rounds at most, and the last, the epochs are kept."""


class FitCurves:
    """Keeps the epochs of rounds spread over the run, and of the last; draws them over each other.

    Of many rounds every second, then every fourth is kept, and so on, so that neither memory nor
    the figure grows with a run.
    """

    def __init__(self) -> None:
        self._rounds: dict[int, dict[str, list[float]]] = {}
        self._stride = 1

    def add(self, round_number: int, values: Mapping[str, float]) -> None:
        """Add an epoch: its metrics by name, such as ``val/accuracy``."""
        if round_number not in self._rounds:
            while sum(number % self._stride == 0 for number in self._rounds) > MOST_ROUNDS:
                self._stride *= 2
            self._rounds = {n: c for n, c in self._rounds.items() if n % self._stride == 0}
        curves = self._rounds.setdefault(round_number, {})
        for name, value in values.items():
            curves.setdefault(name, []).append(value)

    def draw(self, metric: str) -> Figure | None:
        """Loss and metric over the epochs, of the validation part where there is one.

        Args:
            metric: The headline metric.

        Returns:
            The figure; None where no epoch is known.
        """
        first = next(iter(self._rounds.values()), {})
        part = "val" if any(name.startswith("val/") for name in first) else "train"
        names = [name for name in (f"{part}/loss", f"{part}/{metric}") if name in first]
        if not names:
            return None
        from matplotlib import colormaps

        figure = canvas(4.2 * len(names) + 0.8, 3.6)
        colors = colormaps["viridis"]
        last = max(max(self._rounds), 1)
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for number, curves in sorted(self._rounds.items()):
                values = curves.get(name, [])
                color = colors(0.92 * (1 - number / last))
                marker = "." if len(values) == 1 else None
                axes.plot(range(len(values)), values, color=color, marker=marker, label=f"{number}")
            axes.set(xlabel="Epoch of the round", ylabel=name)
            integer_axis(axes)
            faint_grid(axes)
        axes.legend(
            title="round", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
        )
        return figure
