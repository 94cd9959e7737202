"""A report: which runs go into it, and the files it consists of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dal.reporting import tables
from dal.reporting.board import write_board
from dal.reporting.compare import (
    Group,
    by_losses,
    make_groups,
    targets_of,
    why_protocols_differ,
    wins,
)
from dal.reporting.figures import FORMATS, foreign_curves, learning_curves, save, win_matrix
from dal.reporting.measures import column, measured, short
from dal.reporting.people import people_section
from dal.reporting.records import MetricError, RunError, RunRecord, counted, find_runs, read_run
from dal.reporting.results_file import read_csv, write_csv
from dal.reporting.stopping import stop_section
from dal.utils.safe_files import make_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 12
"""With more strategies than this, wins are shown as a figure only."""


@dataclass(frozen=True)
class Options:
    """What a report shows.

    Attributes:
        baseline: The strategy that others are compared with.
        targets: Values of the metric in (0, 1) for which the labels needed are shown; None to
            choose them from the curves.
        margin: Points of area within which strategies count as equivalent.
        partial: Use runs that are not complete, all cut to the labels that every run has reached.
        metrics: What curves and tables show, such as ``macro_f1`` or ``val/loss``, each in sections
            of its own; empty for the headline of each run.

    Raises:
        ValueError: A number is out of range.
    """

    baseline: str = "random"
    targets: tuple[float, ...] | None = None
    margin: float = 0.5
    partial: bool = False
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(map(short, self.metrics))))
        if not 0 < self.margin <= 100:
            raise ValueError(f"margin={self.margin:g}; give points of area above 0, at most 100")
        if wrong := [t for t in self.targets or () if not 0 < t < 1]:
            raise ValueError(f"targets have {wrong[0]:g}; give shares in (0, 1), as 0.9 for 90 %")


@dataclass(frozen=True)
class Collection:
    """Runs to be reported.

    Attributes:
        groups: Runs that may be compared, by metric, data set, model and protocol.
        left_out: One sentence for every run that was not used.
        partial: One for every run that was used though it is not complete.
    """

    groups: Sequence[Group]
    left_out: Sequence[str]
    partial: Sequence[str] = ()

    @property
    def runs(self) -> list[RunRecord]:
        """All runs used, once for each metric."""
        of_groups = (runs.values() for g in self.groups for runs in g.curves.values())
        return [run for runs in of_groups for run in runs]


def collect(paths: Iterable[Path], options: Options) -> Collection:
    """Read results files and every run at or below some folders.

    Of a run that stands in a results file and in a folder the folder counts. Of a run that stands
    in a results file with several metrics the first counts, where none is asked for.

    Raises:
        RunError: A path does not exist, a results file is damaged, two runs of a strategy have
            the same seed, runs to be compared have chosen different headlines, no run has a
            metric, or none is left.
    """
    paths = list(paths)
    files = [path for path in paths if path.is_file()]
    folders = list(find_runs(path for path in paths if path not in files))
    stored = [run for file in files for run in read_csv(file)]
    groups, left_out, partial = [], [], []
    for metric in options.metrics or (None,):
        read = _Read()
        for folder in folders:
            read.add(folder, metric, options.partial)
        runs = read.found + read.others(stored, metric)
        if read.lacking and not runs:
            raise RunError(f"no run shows {column(metric or '')}: {read.lacking[0]}")
        groups += make_groups(runs)
        left_out += read.left_out + read.lacking
        partial += read.partial
    if not groups:
        given = ", ".join(map(str, paths))
        reasons = "; ".join(left_out[:3]) or f"there are none below the paths given: {given}"
        raise RunError(f"no run can be reported: {reasons}")
    return Collection(groups, list(dict.fromkeys(left_out)), list(dict.fromkeys(partial)))


class _Read:
    """Runs that are read for one metric, and why others are not."""

    def __init__(self) -> None:
        self.found: list[RunRecord] = []
        self.left_out: list[str] = []
        self.lacking: list[str] = []
        self.partial: list[str] = []

    def add(self, folder: Path, metric: str | None, partial: bool) -> None:
        """Read a run directory; see `read_run`."""
        try:
            run = read_run(folder, metric)
        except RunError as error:
            reasons = self.lacking if isinstance(error, MetricError) else self.left_out
            reasons.append(str(error))
            return
        if run.status != "complete":
            reason = f" ({run.reason})" if run.reason else ""
            state = f"{folder} is {run.status}{reason} after {counted(len(run.rounds), 'round')}"
            if not partial:
                self.left_out.append(state)
                return
            words = "it is used as far as it goes, and is not in the results file"
            self.partial.append(f"{state}; {words}")
        self.found.append(run)

    def others(self, stored: Iterable[RunRecord], metric: str | None) -> list[RunRecord]:
        """The runs of results files that were not found in folders, each with one metric."""
        fresh, there = {_identity(run) for run in self.found}, defaultdict(list)
        for run in stored:
            if _identity(run) not in fresh:
                there[_identity(run)].append(run)
        chosen = []
        for runs in there.values():
            of_metric = [run for run in runs if metric in (None, run.metric)]
            chosen += of_metric[:1]
            if not of_metric:
                names = ", ".join(column(run.metric) for run in runs)
                self.lacking.append(
                    f"{runs[0].where} has no {column(metric or '')} of {runs[0].strategy}, seed "
                    f"{runs[0].seed}; there are {names}"
                )
        return chosen


def _identity(run: RunRecord) -> tuple[str, str, str, str, int]:
    return (*run.group, run.strategy, run.seed)


def write(
    collection: Collection,
    folder: Path,
    options: Options,
    board: bool = False,
    results: str = "results.csv",
) -> Path:
    """Write ``report.md``, ``results.csv`` and the figures; files of those names are replaced.

    Args:
        collection: The runs.
        folder: Where to; created if missing.
        options: What is shown.
        board: Write mean curves for TensorBoard as well, into ``tb/``.
        results: Name of the results file; compressed if it ends in ``.gz``.

    Returns:
        The path of ``report.md``.

    Raises:
        OSError: A file cannot be written.
    """
    make_folder(folder)
    groups = collection.groups
    by_metric: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_metric[group.metric if options.metrics else ""].append(group)
    first = next(iter(by_metric.values()))
    parts = ["# Report", _summary(collection)]
    parts += [f"> {sentence}." for sentence in why_protocols_differ(first)]
    for group, name in zip(groups, _file_names(groups, first), strict=True):
        _save(learning_curves(group, options.baseline), folder, name)
        if group.wastes and group in first:
            _save(foreign_curves(group, options.baseline), folder, f"{name}-none")
        parts += _section(group, name, options, group in first)
    for compared in by_metric.values():
        parts += _wins(compared, folder, compared is first)
    if collection.left_out:
        parts += ["## Left out", "\n".join(f"- {line}" for line in collection.left_out)]
    if collection.partial:
        parts += ["## Not complete", "\n".join(f"- {line}" for line in collection.partial)]
    if board:
        write_board(groups, folder / "tb")
    write_csv([run for run in collection.runs if run.status == "complete"], folder / results)
    path = folder / "report.md"
    path.write_text("\n\n".join(part.strip() for part in parts if part) + "\n")
    return path


def _wins(groups: Sequence[Group], folder: Path, first: bool) -> list[str]:
    """Who beats whom in the sections of one metric; empty for a single strategy."""
    won = wins(groups)
    names = by_losses(won)
    if len(names) < 2:
        return []
    metric = groups[0].metric
    title, file = (
        ("Wins", "wins") if first else (f"Wins: {measured(metric)}", _file("wins", metric))
    )
    _save(win_matrix(won, names, len(groups)), folder, file)
    table = tables.win_table(won, names) if len(names) <= MOST_COLUMNS else ""
    return [f"## {title}", _about_wins(len(groups)), table, f"![wins]({file}.png)"]


_ABOUT_FOREIGN = (
    "Some answers gave no label: \u201cnone of these\u201d, or \u201ccannot tell\u201d. They teach "
    "nothing and are paid for like any other, so the x-axis and all numbers of labels count them."
)


def _save(figure: Figure, folder: Path, name: str) -> None:
    """A figure in every format."""
    for kind in FORMATS:
        save(figure, folder / f"{name}.{kind}")


def _about_wins(groups: int) -> str:
    where, summed = (
        ("The", "") if groups == 1 else ("Of each section the", ", summed over sections")
    )
    return (
        f"{where} share of the numbers of labels at which a paired t-test at 0.05 says that the "
        f"row is better than the column{summed} (Ash et al. 2020). No correction for so many "
        "tests: read it as a map, not as a proof."
    )


def _section(group: Group, figure: str, options: Options, whole: bool) -> list[str]:
    """What the report says of one group; what its metric does not tell only where it is whole."""
    base, low, high = options.baseline, *group.span
    protocol = f", protocol {group.protocol}" if group.protocol else ""
    seeds = "seed" if len(group.seeds) == 1 else "seeds"
    paid = " paid for" if group.wastes else ""
    about = f"{low} to {high} labels{paid}, {seeds} {_ranges(group.seeds)}{protocol}."
    targets = targets_of(group) if options.targets is None else options.targets
    warnings = "\n".join(f"- **Mind:** {line}." for line in tables.warnings(group, base))
    recall = tables.recall_table(group)
    what = f"{measured(group.metric)}{', the lower the better' if group.sign < 0 else ''}"
    parts = [
        f"## {group.title}" if whole else f"## {group.title}: {measured(group.metric)}",
        f"{what}. {about}" if options.metrics else about,
        _ABOUT_FOREIGN if group.wastes else "",
        warnings,
        f"![{group.title}]({figure}.png)",
        f"![none of these]({figure}-none.png)" if group.wastes and whole else "",
        tables.area_table(group, base, options.margin),
        tables.power_note(group, base),
        tables.label_table(group, base, targets) if targets else "",
    ]
    if not whole:
        return parts
    return [
        *parts,
        tables.side_table(group),
        stop_section(group),
        people_section(group),
        f"Recall of each class after the last round:\n\n{recall}" if recall else "",
    ]


def _summary(collection: Collection) -> str:
    used = len({_identity(run) for run in collection.runs})
    left_out = len(collection.left_out)
    without = (
        f" {left_out} more {'was' if left_out == 1 else 'were'} left out, named at the end."
        if left_out
        else ""
    )
    return (
        f"{counted(used, 'run')}.{without} "
        "Area: the metric on the test part over labels, trapezoids, "
        "divided by the label range, in percent; ± is Student's 95 % interval over seeds. "
        "Differences are paired by seed; p is the two-sided paired t-test, Holm's correction "
        "covers the tests of one table, d_z is the mean difference by its standard deviation. "
        "Labels needed are medians over seeds. Every figure is there as PDF and SVG as well."
    )


def _file_names(groups: Sequence[Group], first: Sequence[Group]) -> list[str]:
    """A file name for each group; the metric is part of those of all but the first metric."""
    names = []
    for group in groups:
        parts = (group.data, group.model, group.protocol)
        name = "-".join(part for part in parts if part) or "runs"
        names.append(_file(name, "" if group in first else group.metric))
    return names


def _file(name: str, metric: str) -> str:
    """A name, and a metric behind it, without what a file's name cannot hold."""
    return re.sub(r"[^\w.-]+", "_", f"{name}-{metric}" if metric else name)


def _ranges(seeds: Sequence[int]) -> str:
    """Sorted numbers in words: ``0 to 4, 7``."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and parts[-1][-1] == seed - 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
