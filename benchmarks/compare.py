"""Compare the strategies of finished runs: areas, labels needed, paired differences to random.

``python -m benchmarks.compare saved/mnist-lenet5-* --csv results.csv`` reads run directories,
writes what was read, and prints a Markdown table; ``python -m benchmarks.compare results.csv``
prints it again from the file. Files and directories together are joined, the directories counting
where a run is in both.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from dal.metrics import aubc

CONF = Path(__file__).resolve().parent.parent / "conf" / "strategy"
FREE = ("seed", "strategy", "data_dir", "saved_dir", "threads", "profile", "keep_history")
"""Settings that may differ between runs that are compared."""
FIELDS = ("strategy", "seed", "labels", "accuracy", "query_s")


@dataclass
class Curve:
    """One run: test accuracy in [0, 1] over labels; mean seconds of a query, pass and choice."""

    labels: list[int]
    accuracy: list[float]
    query_s: float

    @property
    def area(self) -> float:
        """See `dal.metrics.aubc`."""
        return aubc(self.labels, self.accuracy)

    def needed(self, accuracy: float) -> float:
        """Labels at which an accuracy is first reached; infinite where it never is."""
        reached = (n for n, a in zip(self.labels, self.accuracy, strict=True) if a >= accuracy)
        return next(reached, float("inf"))


Curves = dict[str, dict[int, Curve]]
"""Strategy, then seed."""


def read_runs(folders: Iterable[Path]) -> Curves:
    """Read complete runs; those that are not are named on stderr and left out.

    Raises:
        ValueError: The runs differ in more than strategy and seed, or one occurs twice.
    """
    curves: Curves = defaultdict(dict)
    first: tuple[Path, dict[str, Any]] | None = None
    for folder in sorted(folders):
        status = json.loads((folder / "status.json").read_text())
        if status["status"] != "complete":
            sys.stderr.write(f"left out: {folder} is {status['status']}\n")
            continue
        config = yaml.safe_load((folder / "config.yaml").read_text())
        shared = {key: value for key, value in config.items() if key not in FREE}
        shared["data"] = {key: value for key, value in shared["data"].items() if key != "root"}
        first = first or (folder, shared)
        keys = sorted(shared.keys() | first[1].keys())
        different = [key for key in keys if shared.get(key) != first[1].get(key)]
        if different:
            raise ValueError(f"{folder} and {first[0]} differ in {', '.join(different)}")
        name, seed = strategy_name(folder, config["strategy"]), int(config["seed"])
        if seed in curves[name]:
            raise ValueError(f"two runs of {name}, seed {seed}; {folder} is the second")
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        curves[name][seed] = Curve(
            [row["labels"] for row in rows],
            [row["test/accuracy"] for row in rows],
            float(np.mean([row["scan_s"] + row["select_s"] for row in rows if "select_s" in row])),
        )
    return dict(curves)


def strategy_name(folder: Path, settings: Mapping[str, Any]) -> str:
    """The option of a run, with the settings in which it differs from the option's file."""
    option = folder.name.split("-")[2]
    usual = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    changed = [f"{k}={v}" for k, v in settings.items() if k in usual and usual[k] != v]
    return f"{option} ({', '.join(changed)})" if changed else option


def write_csv(curves: Curves, path: Path) -> None:
    """Write one line a round."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for name in sorted(curves):
            for seed, curve in sorted(curves[name].items()):
                for labels, accuracy in zip(curve.labels, curve.accuracy, strict=True):
                    writer.writerow([name, seed, labels, f"{accuracy:.4f}", f"{curve.query_s:.3f}"])


def read_csv(path: Path) -> Curves:
    """Read what `write_csv` wrote."""
    curves: Curves = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            seeds = curves[row["strategy"]]
            empty = Curve([], [], float(row["query_s"]))
            curve = seeds.setdefault(int(row["seed"]), empty)
            curve.labels.append(int(row["labels"]))
            curve.accuracy.append(float(row["accuracy"]))
    return dict(curves)


def join(parts: Iterable[Curves]) -> Curves:
    """All runs of some parts; of a run in several, the last."""
    joined: Curves = defaultdict(dict)
    for part in parts:
        for name, seeds in part.items():
            joined[name] |= seeds
    return dict(joined)


def interval(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of Student's confidence interval of the mean; NaN for one value."""
    if len(values) < 2:
        return float("nan")
    return float(stats.sem(values) * stats.t.ppf((1 + level) / 2, len(values) - 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for so many tests.

    Reference:
        S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of
        Statistics 6(2), 1979.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def table(curves: Curves, targets: Sequence[float], baseline: str = "random") -> str:
    """A Markdown table, the largest mean area first.

    Differences to the baseline are paired by seed, over the seeds that both have.

    Raises:
        ValueError: The baseline was not run.
    """
    if baseline not in curves:
        raise ValueError(f"there are no runs of {baseline} to compare with")
    areas = {name: {s: 100 * c.area for s, c in seeds.items()} for name, seeds in curves.items()}
    gains = {
        name: [values[s] - areas[baseline][s] for s in values if s in areas[baseline]]
        for name, values in areas.items()
        if name != baseline
    }
    tested = {n: float(stats.ttest_1samp(g, 0).pvalue) for n, g in gains.items() if len(g) > 1}
    corrected = holm(tested)
    columns = "".join(f" labels to {100 * t:g} % |" for t in targets)
    lines = [
        f"| strategy | seeds | area, % | against {baseline} | p | p (Holm) |{columns} query, s |",
        "|---|" + "---:|" * (6 + len(targets)),
    ]
    for name in sorted(areas, key=lambda name: -np.mean(list(areas[name].values()))):
        values = list(areas[name].values())
        cells = [name, f"{len(values)}", _with_interval(values)]
        if name == baseline:
            cells += ["", "", ""]
        else:
            gain = gains[name]
            cells.append(_with_interval(gain, "+") if gain else "no seed shared")
            cells += [_p(p[name]) if name in p else "" for p in (tested, corrected)]
        cells += [_needed(list(curves[name].values()), target) for target in targets]
        cells.append(f"{np.mean([curve.query_s for curve in curves[name].values()]):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _with_interval(values: Sequence[float], sign: str = "") -> str:
    half = f" ± {interval(values):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.2f}{half}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def _needed(curves: Sequence[Curve], accuracy: float) -> str:
    """Median over seeds, and how many seeds got there where it was not all."""
    found = [curve.needed(accuracy) for curve in curves]
    reached = sum(np.isfinite(found))
    median = float(np.median(found))
    middle = f"{median:g}" if np.isfinite(median) else "not reached"
    return middle if reached == len(found) else f"{middle} ({reached} of {len(found)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="run directories, CSV files")
    parser.add_argument("--csv", type=Path, help="write what was read")
    parser.add_argument("--targets", nargs="*", type=float, default=[0.9, 0.95])
    options = parser.parse_args(arguments)
    files = [path for path in options.paths if path.is_file()]
    folders = [path for path in options.paths if path.is_dir()]
    curves = join([*map(read_csv, files), read_runs(folders)])
    if options.csv:
        write_csv(curves, options.csv)
    print(table(curves, options.targets), end="")


if __name__ == "__main__":
    main()
