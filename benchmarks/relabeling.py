"""Whether asking again pays where people err: ``python -m benchmarks.relabeling RESULTS.csv``.

Five simulated people label digits, one answer at a time; every answer costs the same. Results are
appended to the file run by run; done again, the command goes on where it stood. The tables are
printed at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

import dal
from benchmarks.rejects import append, read, spread
from dal.data import digits, initial_labels, make_source
from dal.models.estimators import sklearn_logistic_regression
from dal.oracles import Noisy, Several, SimulatedOracle
from dal.query import ActiveLab, Margin, PoolView, Query, Strategy
from dal.query.needs import AnswersSoFar

SEEDS, BUDGET, QUERY = range(5), 800, 50
CROWDS = {
    "right 40 to 90 % of the time": (0.4, 0.5, 0.7, 0.8, 0.9),
    "right 90 %": (0.9, 0.9, 0.9, 0.9, 0.9),
}
FIELDS = ("crowd", "method", "seed", "again", "right", "area", "last")


class HalfAgain(Margin):
    """Margin for half of each query; the other half are labeled samples at random, once more."""

    needs = Margin.needs | {AnswersSoFar()}

    def select(self, view: PoolView, query_size: int, rng: torch.Generator) -> Query:
        """See the class."""
        query = super().select(view, query_size - query_size // 2, rng)
        labeled = torch.unique(view[AnswersSoFar()][:, 1])
        drawn = torch.randperm(len(labeled), generator=rng)[: query_size // 2]
        if len(drawn) < query_size // 2:  # fewer are labeled
            query = super().select(view, query_size - len(drawn), rng)
        return replace(query, again=labeled[drawn])


METHODS: dict[str, tuple[Callable[[], Strategy], str]] = {
    "margin, one label each": (Margin, "majority"),
    "margin, half of it random labels again": (HalfAgain, "majority"),
    "ActiveLab": (ActiveLab, "majority"),
    "ActiveLab, Dawid-Skene": (ActiveLab, "dawid_skene"),
    "ActiveLab, the model's own predictions": (lambda: ActiveLab(folds=0), "majority"),
}


def measure(crowd: str, method: str, seed: int) -> dict[str, object]:
    """One run: how many answers went to labeled samples, how many labels are right, accuracies."""
    source = make_source(digits(), seed=seed)
    truth = source.train.targets
    people = {
        f"person {number}": Noisy(
            SimulatedOracle(truth), source.class_names, seed=seed * 100 + number, accuracy=accuracy
        )
        for number, accuracy in enumerate(CROWDS[crowd])
    }
    make, rule = METHODS[method]
    result = dal.run(
        source,
        sklearn_logistic_regression,
        make(),
        initial=initial_labels(truth, seed=seed, per_class=2),
        oracle=Several(people, seed=seed),
        settings=dal.Settings(
            seed=seed, budget=BUDGET, query_size=QUERY, consensus=rule, threads=1, figures=False
        ),
    )
    labels, last = result.job.pool.train_set(), result.rows[-1]["test/accuracy"]
    again = sum(row.get("query/again", 0) for row in result.rows)
    right = float((labels.targets == truth[labels.indices]).double().mean())
    row = crowd, method, seed, again, f"{right:.4f}", f"{result.aubc:.5f}", f"{last:.5f}"
    return dict(zip(FIELDS, row, strict=True))


def missing(path: Path) -> Iterator[tuple[str, str, int]]:
    """The runs that the file lacks, crowd by crowd."""
    done = {(r["crowd"], r["method"], r["seed"]) for r in read(path)}
    for crowd, seed, method in product(CROWDS, SEEDS, METHODS):
        if (crowd, method, str(seed)) not in done:
            yield crowd, method, seed


def table(rows: list[dict[str, str]], crowd: str) -> Iterator[str]:
    """Lines of a table of the methods, and of their paired difference from margin."""
    yield (
        "| method | n | answers to labeled samples | labels right at the end | area | last "
        "accuracy | area − margin's | last − margin's |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    found = {
        method: {r["seed"]: r for r in rows if (r["crowd"], r["method"]) == (crowd, method)}
        for method in METHODS
    }
    margin = found["margin, one label each"]
    for method, own in found.items():
        seeds = sorted(own.keys() & margin.keys())
        if len(seeds) < 2:
            continue
        cells = [f"{sum(int(own[s]['again']) for s in seeds) / len(seeds):.0f}"]
        for field in ("right", "area", "last"):
            cells.append(spread([float(own[s][field]) for s in seeds]))
        for field in ("area", "last"):
            pairs = [float(own[s][field]) - float(margin[s][field]) for s in seeds]
            cells.append("" if own is margin else spread(pairs))
        yield f"| {method} | {len(seeds)} | {' | '.join(cells)} |"


def main(path: Path) -> None:
    """Make the runs, print the tables."""
    for run in missing(path):
        append(path, measure(*run))
    rows = read(path)
    for crowd in CROWDS:
        print(f"## {crowd}\n", *table(rows, crowd), "", sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
