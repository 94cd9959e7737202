"""What "none of these" saves where it is used: ``python -m benchmarks.rejects RESULTS.csv``.

Runs on pools with junk, each strategy alone and within `Pure`. Results are appended to the file run
by run; done again, the command goes on where it stood. The tables are printed at the end.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import torch
from scipy.stats import t as student

import dal
from dal.data import fashion_mnist, initial_labels, make_source, mnist
from dal.data.foreign import Ood
from dal.data.hard_pools import harden
from dal.data.source import Source
from dal.models import MLP
from dal.oracles import SimulatedOracle
from dal.query import Entropy, Margin, Pure, Random, Strategy
from dal.training.early_stopping import EarlyStopping
from dal.training.trainer import Trainer

DATA = os.environ.get("DAL_DATA_DIR", "~/.cache/dal")
STOP = EarlyStopping("train/loss", patience=10, min_delta=0.01, min_epochs=20)
SEEDS, BUDGET, QUERY = range(5), 200, 20
BASES: dict[str, Callable[[], Strategy]] = {"margin": Margin, "entropy": Entropy, "random": Random}
POOLS = {
    "Fashion-MNIST, 1 : 2": ("fashion", 0.5),
    "Fashion-MNIST, 1 : 1": ("fashion", 1.0),
    "digits 5 to 9, 1 : 2": ("digits", 0.5),
    "digits 5 to 9, 1 : 1": ("digits", 0.96),  # as many as there are,
}
FIELDS = ("pool", "base", "seed", "pure", "wasted", "area", "last")


@lru_cache(maxsize=1)
def source_of(pool: str, seed: int) -> Source:
    """MNIST with junk in its training part."""
    kind, ratio = POOLS[pool]
    if kind == "fashion":
        junk = Ood(fashion_mnist(DATA), ratio=ratio)
    else:
        junk = Ood(classes=["5", "6", "7", "8", "9"], ratio=ratio)
    return harden(make_source(mnist(DATA), seed=seed), [junk], seed=seed)


def measure(pool: str, base: str, seed: int, pure: bool) -> dict[str, object]:
    """One run: the share of wasted answers, the area under its curve, the last accuracy."""
    source = source_of(pool, seed)
    strategy = BASES[base]()
    result = dal.run(
        source,
        MLP,
        Pure(strategy) if pure else strategy,
        initial=initial_labels(source.train.targets, seed=seed, per_class=2),
        trainer=Trainer(epochs=100, early_stopping=STOP),
        oracle=SimulatedOracle(source.train.targets, source.foreign, "reject"),
        settings=dal.Settings(
            seed=seed, budget=BUDGET, query_size=QUERY, candidates=6000, threads=1, figures=False
        ),
    )
    wasted = len(result.job.pool.rejected_idx) / BUDGET
    last = result.rows[-1]["test/accuracy"]
    row = pool, base, seed, int(pure), f"{wasted:.4f}", f"{result.aubc:.5f}", f"{last:.5f}"
    return dict(zip(FIELDS, row, strict=True))


def missing(path: Path) -> Iterator[tuple[str, str, int, bool]]:
    """The runs that the file lacks, strategy by strategy."""
    done = {(r["pool"], r["base"], r["seed"], r["pure"]) for r in read(path)}
    for base, seed, pool, pure in product(BASES, SEEDS, POOLS, (False, True)):
        if (pool, base, str(seed), str(int(pure))) not in done:
            yield pool, base, seed, pure


def read(path: Path) -> list[dict[str, str]]:
    """What the file has."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: Mapping[str, object]) -> None:
    """Put a run behind those that the file has; its columns are those of the first."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def spread(values: list[float]) -> str:
    """Mean, and half of Student's 95 % interval, in points."""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{100 * fmean(values):.1f} ± {100 * half:.1f}"


def table(rows: list[dict[str, str]], field: str) -> Iterator[str]:
    """Lines of a table of ignoring, of using, and of their paired difference."""
    yield "| pool | strategy | n | ignored | used | used − ignored |"
    yield "|---|---|---|---|---|---|"
    for pool, base in product(POOLS, BASES):
        found = [
            {int(r["seed"]): float(r[field]) for r in rows if key(r) == (pool, base, pure)}
            for pure in ("0", "1")
        ]
        seeds = sorted(found[0].keys() & found[1].keys())
        if len(seeds) > 1:
            ignored, used = ([each[seed] for seed in seeds] for each in found)
            pairs = [b - a for a, b in zip(ignored, used, strict=True)]
            cells = map(spread, (ignored, used, pairs))
            yield f"| {pool} | `{base}` | {len(seeds)} | {' | '.join(cells)} |"


def key(row: dict[str, str]) -> tuple[str, str, str]:
    """What a run of any seed is."""
    return row["pool"], row["base"], row["pure"]


def main(path: Path) -> None:
    """Make the runs, print the tables."""
    torch.set_num_threads(1)
    for run in missing(path):
        append(path, measure(*run))
    rows = read(path)
    for title, field in (("Wasted", "wasted"), ("Area", "area"), ("Accuracy at the end", "last")):
        print(f"## {title}\n", *table(rows, field), "", sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
