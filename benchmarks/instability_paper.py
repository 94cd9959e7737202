"""What the instability paper states, tested on runs of its protocol.

``python -m benchmarks.instability_paper benchmarks/results/instability_*.csv.gz --figure out.png``
prints the tables of ``benchmarks/instability_paper.md``. Everything is tested on areas under
learning curves, in percentage points, paired by seed; Holm's correction covers the data sets of one
column. Fewer than five seeds are shown without interval and test.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from dal.recording.palette import COLORS, DPI, MARKERS
from dal.reporting.compare import Group, areas, differences
from dal.reporting.figures import draw_curve, save
from dal.reporting.report import Options, collect
from dal.reporting.statistics import FEW_SEEDS, LEVEL, Paired, half_width, holm, paired
from dal.reporting.tables import drawn, markdown, p_value, plus_minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASIC = ("random", "least_confidence", "entropy", "instability")
OURS = "instability"
TABLES = ("iris", "wine", "new_thyroid", "clean1", "breast_cancer", "digits_tabular")
ORDER = (*TABLES, "mnist", "fashion_mnist", "svhn")
"""The data sets as the paper lists them."""
MARGIN = 0.5
"""Points of area within which two strategies count as equivalent."""

VARIANTS = {
    "window 2 against 3": ("instability (window=2)", OURS),
    "window 5 against 3": ("instability (window=5)", OURS),
    "window 5 against 2": ("instability (window=5)", "instability (window=2)"),
    "KL against Wasserstein": ("instability (distance=kl)", OURS),
    "JS against Wasserstein": ("instability (distance=js)", OURS),
    "ordinal ground": ("instability (ground=ordinal)", OURS),
    "sorted ground": ("instability (ground=sorted)", OURS),
}


def read_groups(paths: Sequence[Path]) -> list[Group]:
    """The runs on the paper's data sets, in its order."""
    found = collect(paths, Options()).groups
    return sorted((g for g in found if g.data in ORDER), key=lambda g: ORDER.index(g.data))


def area_table(groups: Sequence[Group]) -> str:
    """Mean areas by data set; the best of the paper's four in bold."""
    names = [*BASIC, "margin"]
    rows = []
    for group in groups:
        found = areas(group)
        means = {n: sum(v.values()) / len(v) for n, v in found.items()}
        best = max((n for n in BASIC if n in means), key=lambda n: means[n])
        cells = [_area(found, name, bold=name == best) for name in names]
        rows.append([group.data, *cells])
    return markdown(["data set", *names], rows)


def difference_table(groups: Sequence[Group], pairs: Mapping[str, tuple[str, str]]) -> str:
    """Paired differences by data set: mean, interval, and what the tests say.

    Args:
        groups: The runs.
        pairs: By the title of a column, which strategy is compared with which.
    """
    columns = {title: _column(groups, *names) for title, names in pairs.items()}
    rows = [[group.data, *(column[group.data] for column in columns.values())] for group in groups]
    return markdown(["data set", *columns], rows)


def draw_table(groups: Sequence[Group]) -> str:
    """By data set, the share of picks that a draw decided: among equal scores, or all at random."""
    names = [
        "least_confidence",
        "margin",
        "entropy",
        OURS,
        *(pair[0] for pair in VARIANTS.values()),
    ]
    names = [n for n in dict.fromkeys(names) if any(n in group.curves for group in groups)]
    rows = [[group.data, *(_drawn(group, name) for name in names)] for group in groups]
    return markdown(["picks by draw", *names], rows)


def _drawn(group: Group, name: str) -> str:
    runs = group.curves.get(name, {}).values()
    return drawn(runs) if runs else "not run"


def _column(groups: Sequence[Group], first: str, second: str) -> dict[str, str]:
    gains = {}
    for group in groups:
        found = areas(group)
        gains[group.data] = differences(found.get(first, {}), found.get(second, {}), group.unpaired)
    tests = {data: paired(g, MARGIN) for data, g in gains.items() if len(g) >= FEW_SEEDS}
    corrected = holm({data: test.p for data, test in tests.items()})
    return {
        data: _cell(tests[data], corrected[data]) if data in tests else _untested(g)
        for data, g in gains.items()
    }


def _untested(values: Sequence[float]) -> str:
    """The mean of few values."""
    return f"{fmean(values):+.2f} (n = {len(values)})" if values else "not run"


def _cell(test: Paired, p_holm: float) -> str:
    text = f"{plus_minus(test.mean, test.half, '+')}, p {p_value(p_holm)}"
    text += " =" if test.p_equivalent < LEVEL else ""
    return f"**{text}**" if p_holm < LEVEL else text


def _area(found: Mapping[str, Mapping[int, float]], name: str, bold: bool) -> str:
    values = list(found.get(name, {}).values())
    if not values:
        return "not run"
    few = len(values) < FEW_SEEDS
    text = f"{fmean(values):.2f}" if few else plus_minus(fmean(values), half_width(values))
    text += f" (n = {len(values)})" * few
    return f"**{text}**" if bold and not few else text


def figure(groups: Sequence[Group]) -> Figure:
    """Learning curves of the paper's four strategies, a panel a data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(groups) // columns)
    drawn = Figure(figsize=(10, 3.1 * rows), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[len(groups) :]:
        panel.set_axis_off()
    for axes, group in zip(panels, groups, strict=False):
        for number, name in enumerate(BASIC):
            if name in group.curves:
                first = name == BASIC[0]
                color = COLORS[-1] if first else COLORS[number]
                aside = (number - (len(BASIC) - 1) / 2) / (2 * len(BASIC))
                draw_curve(axes, group, name, color, MARKERS[number], first, aside=aside)
        count = min(len(runs) for name, runs in group.curves.items() if name in BASIC)
        axes.set(title=f"{group.data} ({count} seeds)", xlabel="Labels", ylabel="Test accuracy")
        axes.grid(color="#E0E0E0", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, test, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="results files or run directories")
    parser.add_argument("--figure", type=Path, help="PNG of the learning curves")
    options = parser.parse_args(arguments)
    groups = read_groups(options.paths)
    others = [*BASIC[:-1], "margin"]
    print(area_table(groups))
    print(difference_table(groups, {f"against {name}": (OURS, name) for name in others}))
    print(difference_table(groups, VARIANTS))
    print(draw_table(groups))
    if options.figure:
        save(figure(groups), options.figure)


if __name__ == "__main__":
    main()
