"""A report: which runs go into it, and the files it consists of."""

from __future__ import annotations

import re
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
from dal.reporting.people import people_section
from dal.reporting.records import RunError, RunRecord, counted, find_runs, read_run
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

    Raises:
        ValueError: A number is out of range.
    """

    baseline: str = "random"
    targets: tuple[float, ...] | None = None
    margin: float = 0.5
    partial: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.margin <= 100:
            raise ValueError(f"margin={self.margin:g}; give points of area above 0, at most 100")
        if wrong := [t for t in self.targets or () if not 0 < t < 1]:
            raise ValueError(f"targets have {wrong[0]:g}; give shares in (0, 1), as 0.9 for 90 %")


@dataclass(frozen=True)
class Collection:
    """Runs to be reported.

    Attributes:
        groups: Runs that may be compared, by data set, model and protocol.
        left_out: One sentence for every run that was not used.
        partial: One for every run that was used though it is not complete.
    """

    groups: Sequence[Group]
    left_out: Sequence[str]
    partial: Sequence[str] = ()

    @property
    def runs(self) -> list[RunRecord]:
        """All runs used."""
        of_groups = (runs.values() for g in self.groups for runs in g.curves.values())
        return [run for runs in of_groups for run in runs]


def collect(paths: Iterable[Path], options: Options) -> Collection:
    """Read results files and every run at or below some folders.

    Of a run that stands in a results file and in a folder the folder counts.

    Raises:
        RunError: A path does not exist, a results file is damaged, two runs of a strategy have
            the same seed, or no run is left.
    """
    paths = list(paths)
    files = [path for path in paths if path.is_file()]
    left_out, partial, found = [], [], []
    for folder in find_runs(path for path in paths if path not in files):
        try:
            run = read_run(folder)
        except RunError as error:
            left_out.append(str(error))
            continue
        if run.status != "complete":
            reason = f" ({run.reason})" if run.reason else ""
            state = f"{folder} is {run.status}{reason} after {counted(len(run.rounds), 'round')}"
            if not options.partial:
                left_out.append(state)
                continue
            partial.append(f"{state}; it is used as far as it goes, and is not in the results file")
        found.append(run)
    fresh = {(*run.group, run.strategy, run.seed) for run in found}
    stored = [run for file in files for run in read_csv(file)]
    found += [run for run in stored if (*run.group, run.strategy, run.seed) not in fresh]
    if not found:
        given = ", ".join(map(str, paths))
        reasons = "; ".join(left_out[:3]) or f"there are none below the paths given: {given}"
        raise RunError(f"no run can be reported: {reasons}")
    return Collection(make_groups(found), left_out, partial)


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
    parts = ["# Report", _summary(collection)]
    parts += [f"> {sentence}." for sentence in why_protocols_differ(groups)]
    for group, name in zip(groups, _file_names(groups), strict=True):
        _save(learning_curves(group, options.baseline), folder, name)
        if group.wastes:
            _save(foreign_curves(group, options.baseline), folder, f"{name}-none")
        parts += _section(group, name, options)
    won = wins(groups)
    names = by_losses(won)
    if len(names) > 1:
        _save(win_matrix(won, names, len(groups)), folder, "wins")
        table = tables.win_table(won, names) if len(names) <= MOST_COLUMNS else ""
        parts += ["## Wins", _about_wins(len(groups)), table, "![wins](wins.png)"]
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


_ABOUT_FOREIGN = (
    "Some answers gave no label: \u201cnone of these\u201d. They teach nothing and are paid for "
    "like any other, so the x-axis and all numbers of labels count them."
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


def _section(group: Group, figure: str, options: Options) -> list[str]:
    """What the report says of one group."""
    base, low, high = options.baseline, *group.span
    protocol = f", protocol {group.protocol}" if group.protocol else ""
    seeds = "seed" if len(group.seeds) == 1 else "seeds"
    paid = " paid for" if group.wastes else ""
    about = f"{low} to {high} labels{paid}, {seeds} {_ranges(group.seeds)}{protocol}."
    targets = targets_of(group) if options.targets is None else options.targets
    warnings = "\n".join(f"- **Mind:** {line}." for line in tables.warnings(group, base))
    recall = tables.recall_table(group)
    return [
        f"## {group.title}",
        about,
        _ABOUT_FOREIGN if group.wastes else "",
        warnings,
        f"![{group.title}]({figure}.png)",
        f"![none of these]({figure}-none.png)" if group.wastes else "",
        tables.area_table(group, base, options.margin),
        tables.power_note(group, base),
        tables.label_table(group, base, targets) if targets else "",
        tables.side_table(group),
        stop_section(group),
        people_section(group),
        f"Recall of each class after the last round:\n\n{recall}" if recall else "",
    ]


def _summary(collection: Collection) -> str:
    used, left_out = len(collection.runs), len(collection.left_out)
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


def _file_names(groups: Sequence[Group]) -> list[str]:
    """A file name for each group."""
    names = []
    for group in groups:
        parts = (group.data, group.model, group.protocol)
        name = "-".join(part for part in parts if part) or "runs"
        names.append(re.sub(r"[^\w.-]+", "_", name))
    return names


def _ranges(seeds: Sequence[int]) -> str:
    """Sorted numbers in words: ``0 to 4, 7``."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and parts[-1][-1] == seed - 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
