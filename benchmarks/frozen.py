"""Whole rounds on frozen features: fit of a linear head, pass, selection, commits."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.main_job import MarkingOracle
from benchmarks.setup import Setup
from benchmarks.table import Row
from dal import Settings, run
from dal.data import Dataset, Source, initial_labels, make_source
from dal.models import LogisticRegression
from dal.query import Badge, CoreSet, ExpectedGradientLength, Instability, Margin
from dal.query.base import Strategy
from dal.training.full_batch import FullBatch

L2 = 10.0


def frozen_features(setup: Setup) -> list[Row]:
    """Seconds of a round, from one collection of answers to the next, everything included."""
    source = _features(setup)
    strategies: list[tuple[str, Strategy]] = [
        ("margin", Margin()),
        ("instability", Instability(window=3)),
        ("gradient length, last layer", ExpectedGradientLength(scope="last")),
        ("badge", Badge()),
        ("coreset", CoreSet()),
    ]
    return [_rounds(setup, source, name, strategy) for name, strategy in strategies]


def _features(setup: Setup) -> Source:
    """Float16 features in classes that overlap, a tenth of them for the test part."""
    sizes = setup.sizes
    count, rng = sizes.frozen + sizes.frozen // 10, torch.Generator().manual_seed(0)
    targets = torch.arange(count) % sizes.classes
    centers = torch.randn(sizes.classes, sizes.width, generator=rng)
    inputs = (centers[targets] / 4 + torch.randn(count, sizes.width, generator=rng)).half()
    names = tuple(map(str, range(sizes.classes)))
    parts = (inputs[: sizes.frozen], targets[: sizes.frozen])
    tests = (inputs[sizes.frozen :], targets[sizes.frozen :])
    return make_source(Dataset("made up", *parts, names, *tests, standardize=True), seed=0)


def _rounds(setup: Setup, source: Source, name: str, strategy: Strategy) -> Row:
    oracle = MarkingOracle(source.train.targets)
    picks = setup.sizes.picks
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            source,
            LogisticRegression,
            strategy,
            initial=initial_labels(source.train.targets, seed=0, count=picks),
            trainer=FullBatch(l2=L2),
            oracle=oracle,
            settings=Settings(
                budget=picks * setup.rounds, query_size=picks, device=str(setup.device)
            ),
            run_dir=Path(folder) / "run",
        )
    seconds = sorted(b - a for a, b in itertools.pairwise(oracle.marks))
    rows = result.rows[1 : len(oracle.marks)]
    parts = ", ".join(
        f"{part} {1e3 * sorted(row[f'{part}_s'] for row in rows)[len(rows) // 2]:.0f}"
        for part in ("fit", "test", "scan", "history", "select", "save", "record")
        if f"{part}_s" in rows[0]
    )
    sizes = f"n = {len(source.train):,}, d = {setup.sizes.width}, b = {picks}"
    return Row(
        f"round on frozen features, {name}",
        f"{1e3 * seconds[len(seconds) // 2]:.0f} ms ({parts} ms)",
        f"{sizes}, {rows[0]['labels']} to {rows[-1]['labels']} labels, {len(seconds)} rounds",
        seconds[len(seconds) // 2],
        seconds[0],
        seconds[-1],
        target=1.0,
        unit=" s",
    )
