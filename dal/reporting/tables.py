"""The Markdown of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from dal.reporting.compare import (
    Group,
    Line,
    areas,
    differences,
    lines,
    median_needed,
    picked,
    saved,
)
from dal.reporting.measures import is_share
from dal.reporting.records import RunRecord, counted
from dal.reporting.statistics import FEW_SEEDS, LEVEL, detectable, evenness, half_width

MOST_CLASSES = 20
"""With more classes than this, recall is not shown by class."""


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    body = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in body) + "\n"


def area_table(group: Group, baseline: str, margin: float) -> str:
    """Areas, and paired differences to the baseline with their tests."""
    header = ["strategy", "seeds", "area, %" if is_share(group.metric) else "area × 100"]
    compared = baseline in group.curves
    if compared:
        header += [f"against {baseline}", "d_z", "p", "p (Holm)", f"p (within ±{margin:g})"]
    rows = []
    for line in lines(group, baseline, margin):
        row = [line.strategy, str(len(line.seeds)), plus_minus(line.area, line.half)]
        rows.append(row + (_gain(line, baseline) if compared else []))
    return markdown(header, rows)


def _gain(line: Line, baseline: str) -> list[str]:
    gain = line.gain
    if gain is None:
        return ["" if line.strategy == baseline else "no seed shared", "", "", "", ""]
    cells = [plus_minus(gain.mean, gain.half, "+"), number(gain.effect, 1)]
    holm = math.nan if line.p_holm is None else line.p_holm
    return [*cells, p_value(gain.p), p_value(holm), p_value(gain.p_equivalent)]


def label_table(group: Group, baseline: str, targets: Sequence[float]) -> str:
    """Labels needed for some values of the metric, median over seeds, and the saving."""
    base = (
        {t: median_needed(group.curves[baseline].values(), t)[0] for t in targets}
        if (baseline in group.curves)
        else {}
    )
    shares = is_share(group.metric)
    values = [f"{100 * target:g} %" if shares else f"{target:g}" for target in targets]
    header = ["strategy", *(f"labels to {value}" for value in values)]
    rows = []
    for name in ordered(group):
        runs, cells = list(group.curves[name].values()), [name]
        for target in targets:
            middle, reached = median_needed(runs, target)
            text = f"{middle:g}" if math.isfinite(middle) else "not reached"
            if reached < len(runs):
                text += f" ({reached} of {len(runs)})"
            share = None if name == baseline else saved(middle, base.get(target, math.inf))
            cells.append(text if share is None else f"{text}, {share:.0%} saved")
        rows.append(cells)
    return markdown(header, rows)


def side_table(group: Group) -> str:
    """Time, calibration, how even the picks are over classes, drawn and wasted ones.

    Columns of which nothing is known are left out; the table is empty where nothing at all is.
    """
    classes = sorted(picked(group.every))
    columns: dict[str, list[str]] = {"strategy": ordered(group)}
    for name in ordered(group):
        runs = list(group.curves[name].values())
        counts = picked(runs)
        cells = {
            "fit, s a run": _mean(_total([r.fit_s for r in run.rounds]) for run in runs),
            "query, s": _mean((r.query_s for run in runs for r in run.rounds), 3),
            "ECE at the end": _mean((run.rounds[-1].ece for run in runs), 3),
            "evenness of picks": number(evenness([counts[c] for c in classes]), 2),
            "picks by draw": drawn(runs),
        }
        if group.wastes:
            lost = [float(sum(r.wasted for r in run.rounds)) for run in runs]
            paid = [run.rounds[-1].labels for run in runs]
            cells["labels paid for"] = _mean(map(float, paid))
            cells["none of these"] = _mean(lost)
            cells["labels learned from"] = _mean(p - n for p, n in zip(paid, lost, strict=True))
        for title, cell in cells.items():
            columns.setdefault(title, []).append(cell)
    known = {title: cells for title, cells in columns.items() if any(cells)}
    return markdown(list(known), zip(*known.values(), strict=True)) if len(known) > 1 else ""


def recall_table(group: Group) -> str:
    """Recall of every class after the last round, mean over seeds; empty where not recorded."""
    classes = list(next((run.recall for run in group.every if run.recall), {}))
    if not classes or len(classes) > MOST_CLASSES:
        return ""
    rows = []
    for name in ordered(group):
        recalls = [run.recall for run in group.curves[name].values() if run.recall]
        rows.append([name, *(_mean((r.get(c) for r in recalls), 3) for c in classes)])
    return markdown(["recall", *classes], rows)


def win_table(wins: Mapping[tuple[str, str], float], names: Sequence[str]) -> str:
    """Rows win over columns; the last row is the mean a strategy loses, small is good."""
    rows = [
        [row, *("" if row == c else f"{wins.get((row, c), 0):.2f}" for c in names)] for row in names
    ]
    others = max(len(names) - 1, 1)
    lost = [sum(wins.get((row, c), 0) for row in names if row != c) / others for c in names]
    return markdown(["wins over", *names], [*rows, ["lost, mean", *(f"{x:.2f}" for x in lost)]])


def warnings(group: Group, baseline: str) -> list[str]:
    """What a reader must know before believing the tables, one sentence each."""
    found = []
    short = [run for run in group.every if run.labels[-1] == group.span[1]]
    if longer := [run for run in group.every if run.labels[-1] > group.span[1]]:
        found.append(
            f"areas end at {group.span[1]} labels, the end of {counted(len(short), 'run')} "
            f"({short[0].strategy}, seed {short[0].seed} first), "
            f"though {counted(len(longer), 'run')} would go on"
        )
    for seed, what in sorted(group.unpaired.items()):
        found.append(
            f"seed {seed} is left out of all paired tests: runs that should share their start "
            f"differ in {what}"
        )
    for name in sorted(group.curves):
        if missing := sorted(set(group.seeds) - group.curves[name].keys()):
            found.append(f"{name} has no run of seed {', '.join(map(str, missing))}")
    counts = {name: len(runs) for name, runs in sorted(group.curves.items())}
    if few := [f"{name} ({count})" for name, count in counts.items() if count < FEW_SEEDS]:
        found.append(f"fewer than {FEW_SEEDS} seeds support no claim: {', '.join(few)}")
    if baseline not in group.curves:
        found.append(f"there are no runs of {baseline} to compare with")
    unknown = [run for run in group.every if not run.start]
    if unknown and len(unknown) < len(group.every):
        found.append(
            f"the start of {counted(len(unknown), 'run')} is not recorded; pairing is not checked"
        )
    return found


def power_note(group: Group, baseline: str) -> str:
    """Which differences so many seeds can show; empty without two pairs."""
    found = areas(group)
    pairs = [
        differences(values, found.get(baseline, {}), group.unpaired)
        for name, values in found.items()
        if name != baseline
    ]
    spreads = sorted(stdev(gains) for gains in pairs if len(gains) > 1)
    if not spreads:
        return ""
    spread, count = spreads[len(spreads) // 2], max(map(len, pairs))
    return (
        f"Differences to {baseline} vary from seed to seed with a standard deviation of "
        f"{spread:.2f} points (median over strategies): with {count} seeds, one test at "
        f"p < {LEVEL} finds a true difference of {detectable(spread, count):.2f} points four "
        "times in five; smaller ones stay hidden more often."
    )


def plus_minus(mean: float, half: float, sign: str = "") -> str:
    """A mean with its interval, where there is one."""
    return f"{mean:{sign}.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")


def number(value: float, digits: int) -> str:
    """A number, or nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def p_value(value: float) -> str:
    """A p-value with three digits, or nothing for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def ordered(group: Group) -> list[str]:
    """Strategies, the best mean area first."""
    means = {name: fmean(values.values()) for name, values in areas(group).items()}
    return sorted(means, key=lambda name: -group.sign * means[name])


def drawn(runs: Iterable[RunRecord]) -> str:
    """Share of the picks that a draw decided, among equal scores or for want of any."""
    rounds = [r for run in runs for r in run.rounds if r.drawn is not None]
    picks = sum(sum(r.picks.values()) + r.wasted for r in rounds)
    return f"{sum(r.drawn or 0 for r in rounds) / picks:.0%}" if picks else ""


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Iterable[float | None], digits: int = 1) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    half = half_width(known) if digits == 1 else math.nan
    return f"{fmean(known):.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")
