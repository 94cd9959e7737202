"""Queries over a million samples whose float16 features lie in a memory-mapped file."""

from __future__ import annotations

import ctypes
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.setup import Setup
from benchmarks.table import Row
from dal.query import Badge, CoreSet, Entropy, Features, PoolView, Probs, TypiClust
from dal.query.base import Strategy
from dal.query.needs import Need

LABELED = 100
LIMIT = 24 * 2**30 / 1e9
"""Memory of the machine the targets were set for, in GB (10^9 bytes)."""
BLOCK = 20_000
CLUSTERS = 50


def large_pool(setup: Setup) -> list[Row]:
    """Seconds and peak extra memory of a query; the mapped file itself is not counted."""
    size, width, picks = setup.sizes.large, setup.sizes.width, setup.sizes.picks
    strategies: list[tuple[str, Strategy]] = [
        ("entropy", Entropy()),
        ("coreset", CoreSet()),
        ("badge", Badge()),
        ("typiclust", TypiClust()),
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        view = _view(Path(folder) / "features", size, width, setup.sizes.classes)
        for name, strategy in strategies:
            with extra_memory() as peak:
                start = time.perf_counter()
                strategy.select(view, picks, torch.Generator().manual_seed(0))
                seconds = time.perf_counter() - start
            measured = f"{seconds:.1f} s (n = {size:,}, d = {width}, float16, b = {picks})"
            rows.append(Row(f"{name}, peak extra memory", measured, "the features are mapped",
                            *3 * (max(peak[0], 1) / 1e9,), LIMIT, unit=" GB"))  # fmt: skip
        del view
    return rows


@contextmanager
def extra_memory() -> Iterator[list[int]]:
    """Peak of the process's own memory in a block beyond what it had before, in bytes.

    Mapped files do not count. The memory is looked at every two milliseconds.
    """
    ctypes.CDLL(None).malloc_trim(0)  # or memory freed before would be taken again unseen
    peak, before, stop = [0], _anonymous(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], _anonymous() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def _view(path: Path, size: int, width: int, classes: int) -> PoolView:
    """Made-up features around some centers, written and mapped; probabilities in memory."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((CLUSTERS, width), np.float32)
    written = np.memmap(path, np.float16, "w+", shape=(size, width))
    for start in range(0, size, BLOCK):
        rows = min(BLOCK, size - start)
        noise = rng.standard_normal((rows, width), np.float32)
        written[start : start + rows] = centers[rng.integers(CLUSTERS, size=rows)] + noise
    written.flush()
    mapped = torch.from_numpy(np.memmap(path, np.float16, "c", shape=(size, width)))
    generator = torch.Generator().manual_seed(0)
    results: dict[Need, torch.Tensor] = {
        Probs(): (2 * torch.randn(size, classes, generator=generator)).softmax(1),
        Features(): mapped,
        Features("labeled"): mapped[:LABELED].clone(),
    }
    return PoolView(torch.arange(size), results, num_total=size, num_classes=classes)
