"""When stopping criteria end runs, and how they follow the accuracy: ``benchmarks/stopping.md``.

``python -m benchmarks.stopping --commands | sh`` makes the runs below ``saved/stopping``, each to
its budget; done again, it goes on where it stood. ``python -m benchmarks.stopping saved/stopping``
prints the tables.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import correlation, fmean, median, stdev
from typing import Any

from dal.reporting.compare import Group
from dal.reporting.records import RunRecord
from dal.reporting.report import Options, collect
from dal.reporting.stopping import USUAL, stop_of
from dal.reporting.tables import markdown

COMMON = "saved_dir=saved/stopping figures=false record_epochs=false"
CASES: Mapping[str, str] = {
    "wine, logistic regression": "data=wine model=logistic_regression trainer=lbfgs "
    "initial.count=6 query_size=2 budget=80",
    "breast_cancer, logistic regression": "data=breast_cancer model=logistic_regression "
    "trainer=lbfgs initial.count=6 query_size=4 budget=160",
    "digits, logistic regression": "data=digits_tabular model=logistic_regression trainer=lbfgs "
    "query_size=20 budget=600",
    "breast_cancer, SVM": "data=breast_cancer model=svm initial.count=6 query_size=4 budget=160",
    "digits, SVM": "data=digits_tabular model=svm query_size=20 budget=600",
    "digits, random forest": "data=digits_tabular model=random_forest query_size=20 budget=600",
    "breast_cancer, random forest": "data=breast_cancer model=random_forest initial.count=6 "
    "query_size=4 budget=160",
    "multi-label, MLP": "data=synthetic_multilabel model=mlp trainer.epochs=60 query_size=20 "
    "budget=400",
    "digits, LeNet-5": "data=digits model=lenet5 trainer.epochs=60 query_size=40 budget=600",
    "fashion_mnist, random forest": "data=fashion_mnist model=random_forest candidates=3000 "
    "query_size=40 budget=800",
    "mnist, LeNet-5": "data=mnist model=lenet5 candidates=2000 trainer.epochs=60 query_size=40 "
    "budget=600",
}
"""Settings of the runs, the cheapest first."""

PUBLISHED = {
    "stabilizing": (".85", ".90"),
    "classification_change": (".73", ".83"),
    "performance_convergence": (".69", ".55"),
    "overall_uncertainty": (".69", ".56"),
    "max_confidence": (".55", ".39"),
}
"""|r| of SVM and random forest: Pullar-Strecker et al., arXiv 2110.03802, from their notebooks."""


def commands(seeds: int) -> list[str]:
    """One command a case."""
    found = []
    for settings in CASES.values():
        kind = "multilabel_margin" if "multilabel" in settings else "margin"
        together = f"replicas={seeds} 'replica_strategies=[{kind},random]'"
        found.append(f"dal train {settings} {together} {COMMON}")
    return found


def curve(name: str, rows: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """What a criterion compares with its threshold, after each round; None before it has that."""
    criterion = USUAL[name]
    values = [row.get(str(criterion.metric)) for row in rows]
    if name != "stabilizing":
        return values
    window = criterion.window  # type: ignore[attr-defined]
    last = [values[max(n + 1 - window, 0) : n + 1] for n in range(len(values))]
    return [fmean(v) if len(v) == window and None not in v else None for v in last]


def follows(name: str, run: RunRecord) -> float:
    """|r| of a criterion's curve with the metric over a run's rounds; NaN where one is flat."""
    pairs = zip(curve(name, run.rows), run.values, strict=True)
    known = [(float(x), y) for x, y in pairs if x is not None]
    xs, ys = zip(*known, strict=True) if known else ((), ())
    flat = len(set(xs)) < 2 or len(set(ys)) < 2
    return math.nan if flat else abs(correlation(xs, ys))


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation; what is not defined is left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    shown = f"{fmean(known):.{digits}f}"
    return f"{shown} ± {stdev(known):.{digits}f}" if len(known) > 1 else shown


def summary(groups: Sequence[Group]) -> str:
    """One line a criterion, over all runs."""
    runs, rows = [run for group in groups for run in group.every], []
    for name, criterion in USUAL.items():
        stops = [stop for run in runs if (stop := stop_of(criterion, run)) is not None]
        of_curves = [follows(name, run) for run in runs] if criterion.metric else []
        lost = sorted(100 * stop.lost for stop in stops)
        rows.append(
            [
                name,
                spread(of_curves, 2),
                *PUBLISHED.get(name, ("", "")),
                f"{len(stops) / len(runs):.0%}",
                f"{fmean(100 * stop.saved for stop in stops):.0f}" if stops else "",
                f"{median(lost):.1f}" if stops else "",
                f"{lost[math.ceil(0.9 * len(lost)) - 1]:.1f}" if stops else "",
            ]
        )
    header = ["criterion", "&#124;r&#124;", "published: SVM", "forest", "runs ended"]
    header += ["labels saved, %", "points lost, median", "points lost, 9 in 10 at most"]
    return markdown(header, rows)


def of_curves(groups: Sequence[Group]) -> str:
    """|r| by case."""
    names = [name for name, criterion in USUAL.items() if criterion.metric]
    rows = [
        [title(group), *(spread([follows(name, run) for run in group.every], 2) for name in names)]
        for group in groups
    ]
    return markdown(["case", *names], rows)


def of_ends(groups: Sequence[Group]) -> str:
    """Runs ended, labels paid for by then and points lost, by case and strategy."""
    rows = []
    for group in groups:
        for strategy, of_seeds in group.curves.items():
            runs = list(of_seeds.values())
            cells = [title(group), strategy, f"{runs[0].labels[-1]}"]
            cells.append(spread([100 * run.values[-1] for run in runs], 1))
            for criterion in USUAL.values():
                stops = [stop for run in runs if (stop := stop_of(criterion, run)) is not None]
                labels = spread([float(stop.labels) for stop in stops], 0)
                lost = spread([100 * stop.lost for stop in stops], 1)
                cells.append(f"{len(stops)}: {labels}; {lost}" if stops else "0")
            rows.append(cells)
    return markdown(["case", "strategy", "labels", "metric at the end, %", *USUAL], rows)


def title(group: Group) -> str:
    """Data and model."""
    return f"{group.data}, {group.model}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of runs")
    parser.add_argument("--commands", action="store_true", help="print what makes the runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each case; default: 5")
    given = parser.parse_args(arguments)
    if given.commands:
        sys.stdout.write("\n".join(commands(given.seeds)) + "\n")
        return
    groups = collect(given.folders, Options()).groups
    parts = [summary(groups), of_curves(groups), of_ends(groups)]
    sys.stdout.write("\n".join(parts))


if __name__ == "__main__":
    main()
