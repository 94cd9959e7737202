"""Made samples beside chosen ones: test accuracy over labels, by seeds.

    python -m benchmarks.synthesis            # makes the runs; given again, it goes on
    python -m benchmarks.synthesis --tables   # the tables of synthesis.md
    python -m benchmarks.synthesis --picture  # benchmarks/figures/synthesis_digits.png

A run takes seconds, so none is kept: its accuracies are appended to ``results/synthesis.csv``.
"""

from __future__ import annotations

import csv
import logging
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dal
from dal.data import Dataset, Source, digits, initial_labels, make_source, moons, two_gaussians
from dal.metrics import aubc
from dal.models import MLP
from dal.oracles import SimulatedOracle
from dal.query import Entropy, Random
from dal.runs import PoolSetting, SynthesisSetting
from dal.training.optim import adam
from dal.training.trainer import Trainer
from dal.utils.safe_files import open_text

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "synthesis.csv"
COLUMNS = ("data", "arm", "seed", "labels", "accuracy")
SEEDS = range(10)
DATA: dict[str, tuple[Callable[..., Dataset], int, int, int]] = {
    "two_gaussians": (two_gaussians, 4, 8, 32),
    "moons": (moons, 4, 8, 32),
}
"""Function, initial labels, size of a query, budget."""
ARMS: dict[str, tuple[Any, Any]] = {
    "pool, random": (PoolSetting, Random),
    "pool, entropy": (PoolSetting, Entropy),
    "features, entropy": (lambda: SynthesisSetting("features"), Entropy),
    "ascent from the pool": (SynthesisSetting, Entropy),
    "ascent from noise": (lambda: SynthesisSetting(start="noise"), Entropy),
    "between classes": (lambda: SynthesisSetting("between"), Random),
}


def trainer() -> Trainer:
    """A fit of a second or less, from fresh weights."""
    return Trainer(epochs=100, batch_size=64, optimizer=adam(lr=0.01), restart="cold")


@cache
def expert() -> Path:
    """A run on all labels of the training part of digits: its model answers about made digits."""
    folder = Path(tempfile.mkdtemp()) / "expert"
    source = make_source(digits(), seed=0)
    everything = torch.arange(len(source.train))
    settings = dal.Settings(budget=1, query_size=1, threads=1, figures=False)
    dal.run(source, MLP, Random(), initial=everything, settings=settings, run_dir=folder,
            trainer=Trainer(epochs=30, optimizer=adam(lr=0.003)))  # fmt: skip
    return folder


def curve(data: str, arm: str, seed: int) -> list[tuple[int, float]]:
    """Labels and test accuracy of each round of a run."""
    function, count, size, budget = DATA[data]
    dataset = function(seed=seed)
    source = make_source(dataset, seed=seed)
    setting, strategy = ARMS[arm]
    result = dal.run(
        source,
        MLP,
        strategy(),
        initial=initial_labels(source.train.targets, seed=seed, count=count),
        trainer=trainer(),
        oracle=_oracle(source),
        setting=setting(),
        settings=dal.Settings(seed=seed, budget=budget, query_size=size, threads=1, stop_set=0),
    )
    return [(row["labels"], row["test/accuracy"]) for row in result.rows]


def _oracle(source: Source) -> SimulatedOracle:
    return SimulatedOracle(source.train.targets, truth=None if source.truth else expert())


def rows() -> list[dict[str, str]]:
    """What was measured so far."""
    if not RESULTS.exists():
        return []
    with open_text(RESULTS, "r") as file:
        return list(csv.DictReader(file))


def measure() -> None:
    """Make the runs that are missing."""
    done = {(row["data"], row["arm"], int(row["seed"])) for row in rows()}
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n")
    for data in DATA:
        for seed in SEEDS:
            for arm in ARMS:
                if (data, arm, seed) not in done:
                    found = curve(data, arm, seed)
                    with RESULTS.open("a", newline="") as file:
                        csv.writer(file, lineterminator="\n").writerows(
                            (data, arm, seed, labels, f"{value:.4f}") for labels, value in found
                        )


def tables() -> None:
    """AUBC and last accuracy of each arm, and its difference to random picks at the same seed."""
    runs: defaultdict[tuple[str, str], dict[int, list[tuple[int, float]]]] = defaultdict(dict)
    for row in rows():
        by_seed = runs[row["data"], row["arm"]]
        point = int(row["labels"]), float(row["accuracy"])
        by_seed.setdefault(int(row["seed"]), []).append(point)
    for data in DATA:
        first = runs[data, "pool, random"]
        print(f"\n| {data} | seeds | AUBC | against random | last accuracy |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for arm in ARMS:
            own = runs[data, arm]
            areas = {seed: 100 * _area(points) for seed, points in own.items()}
            last = [100 * points[-1][1] for points in own.values()]
            gains = [areas[s] - 100 * _area(first[s]) for s in areas if s in first]
            print(f"| {arm} | {len(own)} | {_told(list(areas.values()))} | {_interval(gains)} "
                  f"| {_told(last)} |")  # fmt: skip


def _area(points: list[tuple[int, float]]) -> float:
    labels, values = zip(*points, strict=True)
    return aubc(list(labels), list(values))


def _told(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


def _interval(gains: list[float]) -> str:
    """Mean and its 95 % interval by Student's t."""
    if len(gains) < 2:
        return ""
    from scipy.stats import t

    half = t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / math.sqrt(len(gains))
    mean = statistics.mean(gains)
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def picture() -> None:
    """Digits made from real ones, from noise, and between two; and what a model calls them."""
    import matplotlib.pyplot as plt

    source = make_source(digits(), seed=0)
    kinds = {
        "from real digits": SynthesisSetting(),
        "from noise": SynthesisSetting(start="noise"),
        "between two digits": SynthesisSetting("between"),
    }
    figure, axes = plt.subplots(len(kinds), 10, figsize=(8, 3.1), layout="constrained")
    for line, (name, setting) in zip(axes, kinds.items(), strict=True):
        result = dal.run(
            source, MLP, Entropy(), setting=setting, oracle=_oracle(source), trainer=trainer(),
            initial=initial_labels(source.train.targets, seed=0, count=100),
            settings=dal.Settings(budget=10, query_size=10, threads=1),
        )  # fmt: skip
        seen = result.job.source
        asked = [e for e in result.job.pool.events() if e["origin"] == "synthetic"]
        for place, (axis, event) in enumerate(zip(line, asked, strict=True)):
            image = seen.image(event["index"])
            assert isinstance(image, Tensor)
            axis.imshow(image[0], cmap="gray_r", vmin=0)
            axis.set_title(f"“{event['target']}”", fontsize=9)
            axis.set(xticks=[], yticks=[])
            if not place:
                axis.set_ylabel(name.replace(" ", "\n", 1), rotation=0, ha="right", va="center")
    figure.savefig(HERE / "figures" / "synthesis_digits.png", dpi=120)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    {"--tables": tables, "--picture": picture}.get("".join(sys.argv[1:]), measure)()
