"""What the unlabeled pool teaches, with 10 to 500 labels: ``benchmarks/label_efficiency.md``.

``python -m benchmarks.label_efficiency --commands | sh`` makes the runs below
``saved/label_efficiency``; given again, it goes on where it stood. ``python -m
benchmarks.label_efficiency --keep RESULTS.csv.gz saved/label_efficiency`` adds what they came to
to a file, and ``python -m benchmarks.label_efficiency RESULTS.csv.gz`` prints the tables;
``--figure FILE`` draws MNIST's curves.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import yaml

from dal.metrics import aubc
from dal.reporting.figures import COLORS, DPI, MARKERS, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path("saved/label_efficiency")
COMMON = "figures=false record_epochs=false threads=1"

LEARNED = "features=self_supervised"
SPREAD = "model=label_propagation"
LINEAR = "model=logistic_regression trainer=lbfgs trainer.l2=10"
TYPICAL = "initial=typiclust"

FULL = f"{LEARNED} {SPREAD} {TYPICAL} strategy=uherding"
PARTS: Mapping[str, str] = {
    "all": FULL,
    "pixels instead of features": f"{SPREAD} {TYPICAL} strategy=uherding",
    "random start": f"{LEARNED} {SPREAD} strategy=uherding",
    "linear head instead of propagation": f"{LEARNED} {LINEAR} {TYPICAL} strategy=uherding",
    "random after the start": f"{LEARNED} {SPREAD} {TYPICAL} strategy=random",
    "random, propagation": f"{LEARNED} {SPREAD} strategy=random",
    "random, linear head": f"{LEARNED} {LINEAR} strategy=random",
    "random, linear head, pixels": f"{LINEAR} strategy=random",
}
"""The whole, and what is left of it when parts are replaced by what is common."""

STRATEGIES = {
    f"then {name}": f"{LEARNED} {SPREAD} {TYPICAL} strategy={name}"
    for name in ("margin", "typical_margin", "cluster_margin", "typiclust", "probcover")
}
SCRATCH = {
    "LeNet-5, augmented, random": "model=lenet5 trainer/augment=light strategy=random",
    "LeNet-5, augmented, uherding": "model=lenet5 trainer/augment=light strategy=uherding",
}
TABLES: Mapping[str, str] = {
    "all": f"{SPREAD} {TYPICAL} strategy=uherding",
    "linear head instead of propagation": f"{LINEAR} {TYPICAL} strategy=uherding",
    "typical start, linear head, margin": f"{LINEAR} {TYPICAL} strategy=margin",
    "random, propagation": f"{SPREAD} strategy=random",
    "random, linear head": f"{LINEAR} strategy=random",
    "random start, linear head, margin": f"{LINEAR} strategy=margin",
}
COVERAGE = {
    name: f"{LEARNED} {LINEAR} strategy={name}"
    for name in (
        "random",
        "margin",
        "badge",
        "uherding",
        "maxherding",
        "typiclust",
        "probcover",
        "coreset",
        "kmeans",
        "cluster_margin",
    )
}
STEPS = {
    f"{steps:,} steps": f"{FULL} features.steps={steps}" for steps in (75, 150, 300, 600, 1200)
}


@dataclass(frozen=True)
class Case:
    """Runs that share data and labels.

    Attributes:
        settings: What all have.
        ways: Settings of each way to learn and choose, by name; the first is compared with.
        seeds: How many of each.
        shown: Numbers of labels in the table.
        other: Seeds of ways that have more or fewer.
    """

    settings: str
    ways: Mapping[str, str]
    seeds: int
    shown: tuple[int, ...]
    other: Mapping[str, int] | None = None

    def seeds_of(self, way: str) -> int:
        """How many seeds a way has."""
        return (self.other or {}).get(way, self.seeds)


FEW = "initial.count=10 query_size=5 budget=40"
COVERED = "mnist, coverage"
"""The case whose protocol is that of ``strategies_mnist.md``."""
CASES: Mapping[str, Case] = {
    "mnist": Case(f"data=mnist {FEW}", PARTS, 3, (10, 20, 30, 50), {"all": 10}),
    "digits": Case(f"data=digits {FEW}", PARTS | STRATEGIES, 10, (10, 20, 30, 50)),
    **{
        name: Case(f"data={name} {FEW}", TABLES, 10, (10, 20, 30, 50))
        for name in ("iris", "wine", "new_thyroid", "clean1", "breast_cancer", "digits_tabular")
    },
    "mnist, strategies": Case(f"data=mnist {FEW}", STRATEGIES, 3, (10, 20, 30, 50)),
    "mnist, steps of the encoder": Case(f"data=mnist {FEW}", STEPS, 3, (10, 20, 30, 50)),
    "mnist, from scratch": Case(
        "data=mnist initial.count=10 query_size=10 budget=40 candidates=10000",
        SCRATCH,
        3,
        (10, 20, 30, 50),
    ),
    "fashion_mnist": Case(
        "data=fashion_mnist initial.count=10 query_size=10 budget=90",
        {name: PARTS[name] for name in PARTS if name != "random start"},
        3,
        (10, 30, 50, 100),
    ),
    "fashion_mnist, steps of the encoder": Case(
        "data=fashion_mnist initial.count=10 query_size=10 budget=90",
        {"4,800 steps": f"{FULL} features.steps=4800"},
        2,
        (10, 30, 50, 100),
    ),
    "cifar10_15k": Case(
        "data=npz data.path=$DAL_DATA_DIR/CIFAR10_subset/cifar10_15k.npz "
        "features.views=natural initial.count=10 query_size=10 budget=490",
        {name: PARTS[name] for name in ("all", "random, propagation", "random, linear head")},
        3,
        (10, 50, 100, 200, 500),
    ),
    COVERED: Case(
        "data=mnist features.seed=0 candidates=10000 initial=per_class initial.per_class=2 "
        "query_size=10 budget=200",
        COVERAGE,
        5,
        (20, 50, 100, 220),
    ),
}
"""What is run, in this order."""

FIELDS = ("case", "way", "seed", "labels", "accuracy")


def commands() -> Iterator[str]:
    """One command a case and way: a sweep over seeds."""
    for name, case in CASES.items():
        for way, settings in case.ways.items():
            folder = ROOT / folder_of(name) / folder_of(way)
            yield (
                f"dal train -m {case.settings} {settings} 'seed=range({case.seeds_of(way)})' "
                f"saved_dir={folder} {COMMON}"
            )


def folder_of(name: str) -> str:
    """A name without signs that shells know."""
    return name.replace(",", "").replace(" ", "_")


def kept(root: Path) -> Iterator[tuple[Any, ...]]:
    """A row for each round of the runs that have ended."""
    for name, case in CASES.items():
        for way in case.ways:
            for path in sorted((root / folder_of(name) / folder_of(way)).glob("*/metrics.jsonl")):
                if json.loads((path.parent / "status.json").read_text())["status"] != "complete":
                    continue
                seed = yaml.safe_load((path.parent / "config.yaml").read_text())["seed"]
                for line in path.read_text().splitlines():
                    row = json.loads(line)
                    yield name, way, seed, row["labels"], f"{row['test/accuracy']:.4f}"


def merged(root: Path, earlier: Path) -> list[tuple[Any, ...]]:
    """What the runs in a folder came to, and what an earlier file says of runs that are not there.

    So that a machine adds what it measured to what others did.
    """
    rows = list(kept(root))
    again = {row[:3] for row in rows}
    found = read(earlier) if earlier.exists() else {}
    for (name, way), runs in found.items():
        for seed, accuracies in runs.items():
            if (name, way, seed) not in again:
                rows += [(name, way, seed, n, f"{value:.4f}") for n, value in accuracies.items()]
    places = {
        key: n for n, key in enumerate((c, w) for c, case in CASES.items() for w in case.ways)
    }
    known = [row for row in rows if row[:2] in places]
    return sorted(known, key=lambda row: (places[row[0], row[1]], row[2], row[3]))


def read(path: Path) -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """Accuracy by labels, by seed, of each case and way."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            runs = found.setdefault((row["case"], row["way"]), {})
            runs.setdefault(int(row["seed"]), {})[int(row["labels"])] = float(row["accuracy"])
    return found


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation, and the lowest, in per cent."""
    if not values:
        return ""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread} ({100 * min(values):.1f})"


def tables(path: Path) -> Iterator[str]:
    """Lines of a table for each case."""
    found = read(path)
    for name, case in CASES.items():
        if not any(key[0] == name for key in found):
            continue
        yield f"### {name}\n"
        yield f"| | seeds | {' | '.join(f'{n} labels' for n in case.shown)} |"
        yield f"|---|---:|{'---:|' * len(case.shown)}"
        for way in case.ways:
            runs = found.get((name, way), {}).values()
            if not runs:
                continue
            cells = [cell([run[n] for run in runs if n in run]) for n in case.shown]
            yield f"| {way} | {len(runs)} | {' | '.join(cells)} |"
        yield ""


def beside(path: Path, earlier: Path) -> Iterator[str]:
    """Lines of a table: coverage strategies here, and those of an earlier results file."""
    here = {way: list(runs.values()) for (case, way), runs in read(path).items() if case == COVERED}
    there: dict[str, dict[str, dict[int, float]]] = {}
    with earlier.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "accuracy" and row["strategy"] in here:
                run = there.setdefault(row["strategy"], {}).setdefault(row["seed"], {})
                run[int(row["labels"])] = float(row["value"])
    yield "| | these features, linear head | against random | LeNet-5 | against random |"
    yield "|---|---:|---:|---:|---:|"
    for way in CASES[COVERED].ways:
        cells = []
        for runs, base in (
            (here[way], here["random"]),
            (list(there[way].values()), list(there["random"].values())),
        ):
            areas = [100 * aubc(list(run), list(run.values())) for run in runs]
            none = fmean(100 * aubc(list(run), list(run.values())) for run in base)
            cells += [f"{fmean(areas):.1f}", f"{fmean(areas) - none:+.1f}"]
        yield f"| {way} | {' | '.join(cells)} |"
    yield ""


DRAWN = {
    ("mnist", "all"): "all of it",
    ("mnist", "linear head instead of propagation"): "a linear head instead of propagation",
    ("mnist", "random, propagation"): "random picks, propagation",
    ("mnist", "random, linear head"): "random picks, a linear head",
    ("mnist", "random, linear head, pixels"): "random picks, a linear head on pixels",
}
"""What the figure shows, in words."""


def figure(path: Path, most: int = 50) -> Figure:
    """MNIST's curves up to ``most`` labels: the mean, and from the lowest run to the highest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = read(path)
    drawn = Figure(figsize=(7, 4.2), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    for number, (key, title) in enumerate(DRAWN.items()):
        runs = list(found[key].values())
        labels = sorted(set.intersection(*(set(run) for run in runs)))
        labels = [n for n in labels if n <= most]
        values = [[100 * run[n] for run in runs] for n in labels]
        color = COLORS[number]
        axes.fill_between(
            labels, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.15
        )
        axes.plot(
            labels,
            [fmean(v) for v in values],
            color=color,
            marker=MARKERS[number],
            markersize=4,
            linewidth=1.4,
            label=f"{title} ({len(runs)} seeds)",
        )
    axes.set(xlabel="Labels", ylabel="Test accuracy, %", ylim=(None, 100))
    axes.grid(color="#E0E0E0", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, keep the results, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, help="a file of results; or a folder of runs")
    parser.add_argument("--commands", action="store_true", help="print what makes the runs")
    parser.add_argument("--keep", type=Path, help="file to add what the runs came to")
    parser.add_argument("--beside", type=Path, help="results.csv of the same protocol")
    parser.add_argument("--figure", type=Path, help="PNG of MNIST's curves")
    given = parser.parse_args(arguments)
    if given.commands:
        sys.stdout.write("\n".join(commands()) + "\n")
        return
    if given.path is None:
        parser.error("give a file of results, or --commands")
    if given.keep is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([FIELDS, *merged(given.path, given.keep)])
        given.keep.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        return
    sys.stdout.write("\n".join(tables(given.path)) + "\n")
    if given.beside is not None:
        sys.stdout.write("\n".join(beside(given.path, given.beside)) + "\n")
    if given.figure is not None:
        save(figure(given.path), given.figure)


if __name__ == "__main__":
    main()
