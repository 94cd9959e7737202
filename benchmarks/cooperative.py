"""What learning from confident guesses brings, and harms: ``benchmarks/cooperative.md``.

``python -m benchmarks.cooperative --commands | sh`` makes the runs below ``saved/cooperative``;
given again, it goes on where it stood. ``python -m benchmarks.cooperative --keep RESULTS.csv.gz
saved/cooperative`` puts what they came to into a file, and ``python -m benchmarks.cooperative
RESULTS.csv.gz`` prints the tables.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from scipy.stats import t as student

COMMON = "saved_dir=saved/cooperative figures=false record_epochs=false threads=1"
CASES: Mapping[str, str] = {
    "breast_cancer, logistic regression": "data=breast_cancer model=logistic_regression "
    "trainer=lbfgs initial.count=6 query_size=4 budget=40",
    "digits (table), logistic regression": "data=digits_tabular model=logistic_regression "
    "trainer=lbfgs query_size=20 budget=100",
    "digits (table), perceptron": "data=digits_tabular model=mlp trainer.epochs=60 query_size=20 "
    "budget=100",
    "digits, LeNet-5": "data=digits model=lenet5 trainer.epochs=40 query_size=20 budget=100",
    "mnist, LeNet-5": "data=mnist model=lenet5 candidates=2000 trainer.epochs=40 query_size=40 "
    "budget=120",
    "digits, LeNet-5, augmented": "data=digits model=lenet5 trainer.epochs=40 "
    "trainer.early_stopping=null query_size=20 budget=40",
}
"""Settings of the runs, the cheapest first."""

RULES: Mapping[str, str] = {
    name: f"cooperative={name}" for name in ("none", "fixed", "agreement", "flexible", "quantile")
}
TRAINERS: Mapping[str, str] = {
    "light": "trainer/augment=light trainer.samples_per_epoch=320",
    "fixmatch": "trainer=fixmatch",
}
"""The first of each is what the others are compared with."""

IMAGES = "digits, LeNet-5, augmented"
"""The case in which trainers are compared, not rules."""

FEWER = {IMAGES: 5}
"""Seeds of cases that take long."""

FIELDS = ("case", "strategy", "rule", "seed", "labels", "accuracy", "used", "wrong")


def commands(seeds: int) -> list[str]:
    """One command a case and rule."""
    found = []
    for case, settings in CASES.items():
        strategies = "random,margin" if case == IMAGES else "random,margin,instability"
        together = f"replicas={min(seeds, FEWER.get(case, seeds))} "
        together += f"'replica_strategies=[{strategies}]'"
        for override in rules_of(case).values():
            found.append(f"dal train {settings} {override} {together} {COMMON}")
    return found


def rules_of(case: str) -> Mapping[str, str]:
    """What is compared in a case."""
    return TRAINERS if case == IMAGES else RULES


def kept(folder: Path) -> Iterator[tuple[Any, ...]]:
    """A row for each round of the runs in a folder that have ended."""
    for path in sorted(folder.glob("*/metrics.jsonl")):
        status = json.loads((path.parent / "status.json").read_text())
        if status["status"] != "complete":
            continue
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        options = config["choices"]["options"]
        given = f"data={options['data']} model={options['model']} "
        trainer = "fixmatch" if options.get("trainer") == "fixmatch" else ""
        trainer = trainer or options.get("trainer/augment", "")
        titles = [c for c, s in CASES.items() if given in s and (c == IMAGES) == bool(trainer)]
        if len(titles) != 1:
            continue
        rule = trainer or options.get("cooperative", "none")
        run = titles[0], options["strategy"], rule, config["seed"]
        for line in path.read_text().splitlines():
            row = json.loads(line)
            accuracy, wrong = f"{row['test/accuracy']:.4f}", row.get("cooperative/wrong")
            used = row.get("cooperative/used", 0)
            told = "" if wrong is None else f"{wrong:.4f}"
            yield *run, row["labels"], accuracy, used, told


def read(path: Path) -> dict[tuple[str, str, str], dict[int, list[dict[str, float]]]]:
    """The rounds of each seed, by case, strategy and rule."""
    found: dict[tuple[str, str, str], dict[int, list[dict[str, float]]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = row["case"], row["strategy"], row["rule"]
            numbers = {name: float(row[name] or "nan") for name in FIELDS[4:]}
            found.setdefault(key, {}).setdefault(int(row["seed"]), []).append(numbers)
    return found


def area(rounds: Sequence[Mapping[str, float]]) -> float:
    """Area under the curve of accuracy over labels, divided by their range."""
    pairs = [(r["labels"], r["accuracy"]) for r in rounds]
    whole = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(pairs))
    return whole / (pairs[-1][0] - pairs[0][0])


def spread(values: Sequence[float]) -> str:
    """Mean, and half of Student's 95 % interval, in points."""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{100 * fmean(values):+.1f} ± {100 * half:.1f}"


def tables(path: Path) -> Iterator[str]:
    """Lines of a table for each case."""
    found = read(path)
    for case in CASES:
        if not any(key[0] == case for key in found):
            continue
        yield f"### {case}\n"
        yield "| strategy | rule | n | area | last | used at last | first wrong | wrong at last |"
        yield "|---|---|---:|---:|---:|---:|---:|---:|"
        for strategy in ("random", "margin", "instability"):
            alone = found.get((case, strategy, next(iter(rules_of(case)))), {})
            for rule in rules_of(case):
                runs = found.get((case, strategy, rule), {})
                seeds = sorted(alone.keys() & runs.keys())
                if len(seeds) < 2:
                    continue
                yield _row(strategy, rule, [(alone[s], runs[s]) for s in seeds])
        yield ""


def _row(strategy: str, rule: str, pairs: Sequence[tuple[Any, Any]]) -> str:
    """A line of a table: of answers alone what they come to, of a rule what it changes."""
    areas = [[area(rounds) for rounds in each] for each in zip(*pairs, strict=True)]
    lasts = [[rounds[-1]["accuracy"] for rounds in each] for each in zip(*pairs, strict=True)]
    if rule in ("none", "light"):
        cells = [f"{100 * fmean(areas[0]):.1f}", f"{100 * fmean(lasts[0]):.1f}", "", "", ""]
    else:
        runs = [rounds for _, rounds in pairs]
        cells = [
            spread([b - a for a, b in zip(*areas, strict=True)]),
            spread([b - a for a, b in zip(*lasts, strict=True)]),
            f"{fmean(rounds[-1]['used'] for rounds in runs):.0f}",
            _share([next((r for r in rounds if r["used"]), rounds[0]) for rounds in runs]),
            _share([rounds[-1] for rounds in runs]),
        ]
    return f"| `{strategy}` | `{rule}` | {len(pairs)} | {' | '.join(cells)} |"


def _share(rounds: Sequence[Mapping[str, float]]) -> str:
    """The mean share that is wrong, of the runs that used any."""
    known = [r["wrong"] for r in rounds if r["used"]]
    return f"{100 * fmean(known):.1f} %" if known else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, keep the results, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, help="a file of results; or a folder of runs")
    parser.add_argument("--commands", action="store_true", help="print what makes the runs")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of each case; default: 10")
    parser.add_argument("--keep", type=Path, help="write what the runs in the folder came to")
    given = parser.parse_args(arguments)
    if given.commands:
        sys.stdout.write("\n".join(commands(given.seeds)) + "\n")
    elif given.keep is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([FIELDS, *kept(given.path)])
        given.keep.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    else:
        sys.stdout.write("\n".join(tables(given.path)) + "\n")


if __name__ == "__main__":
    main()
