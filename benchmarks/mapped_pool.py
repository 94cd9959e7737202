"""Memory and time of `margin` over a pool whose samples stay in a file.

    python -m benchmarks.mapped_pool --candidates 20000000

makes the files in a temporary folder, and lets processes of their own do the work: `run` is
`dal.run` with two queries, from the data function to the end, `score` is `dal.score`. What is
measured begins after the imports. `memory` is the peak of all resident memory, the pages of files
included; `own` is that of the process's own pages, looked at every two milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dal
from benchmarks.heading import hardware
from benchmarks.large_pool import extra_memory
from dal.data import initial_labels, make_source, npz
from dal.models import LogisticRegression
from dal.query import Margin
from dal.training.trainer import Trainer

WIDTH, CLASSES, BLOCK = 8, 3, 1_000_000


def write(folder: Path, samples: int, dtype: str) -> None:
    """Features around the centers of three classes, and their labels."""
    rng = np.random.default_rng(0)
    centers = rng.integers(60, 200, (CLASSES, WIDTH))
    layout: dict[str, Any] = {"mode": "w+", "dtype": dtype, "shape": (samples, WIDTH)}
    inputs = np.lib.format.open_memmap(folder / "inputs.npy", **layout)
    labels = rng.integers(CLASSES, size=samples, dtype=np.uint8)
    np.save(folder / "labels.npy", labels)
    for start in range(0, samples, BLOCK):
        own = labels[start : start + BLOCK]
        noise = rng.integers(-60, 56, (len(own), WIDTH), dtype=np.int16)
        inputs[start : start + BLOCK] = centers[own] + noise
    inputs.flush()


def run(folder: Path) -> dict[str, float]:
    """A run with two queries; a tenth of the samples is its test part."""
    files = {"path": str(folder / "inputs.npy"), "targets": str(folder / "labels.npy")}
    source = make_source(npz(**files), seed=0, test_fraction=0.1)
    run_dir = folder / f"run-{time.time_ns()}"
    initial = initial_labels(source.train.targets, seed=0, count=30)
    result = dal.run(
        source,
        LogisticRegression,
        Margin(),
        initial=initial,
        trainer=Trainer(epochs=5),
        settings=dal.Settings(budget=20, query_size=10, device="cpu"),
        run_dir=run_dir,
    )
    files_of_run = [path for path in run_dir.rglob("*") if path.is_file()]
    rows = result.rows
    return {
        "candidates": len(source.train) - len(initial),
        "pass": rows[0]["scan_s"],
        "select": rows[0]["select_s"],
        "largest file of the run, MB": max(path.stat().st_size for path in files_of_run) / 1e6,
    }


def score(folder: Path) -> dict[str, float]:
    """Scores of the same samples by a module."""
    inputs = np.load(folder / "inputs.npy", mmap_mode="r")

    class Scaled(LogisticRegression):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x.float() / 255)

    torch.manual_seed(0)
    found = dal.score(Scaled((WIDTH,), CLASSES), inputs, "margin", device="cpu")
    return {"candidates": len(found)}


def resident(what: str) -> int:
    """Bytes of ``VmRSS`` or ``VmHWM``, the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(what)))


def measure(what: str, folder: Path) -> dict[str, float]:
    """Peaks beyond the memory after the imports, in GB, and seconds."""
    with tempfile.TemporaryDirectory() as name:  # a run imports more than what stands above
        write(Path(name), 1000, "uint8")
        run(Path(name))
    before, start = resident("VmRSS"), time.perf_counter()
    with extra_memory() as peak:
        found = {"run": run, "score": score}[what](folder)
    seconds = time.perf_counter() - start
    memory = (resident("VmHWM") - before) / 1e9
    return {"memory, GB": memory, "own, GB": peak[0] / 1e9, "seconds": seconds, **found}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=20_000_000)
    parser.add_argument("--dtype", choices=("uint8", "float32"), default="uint8")
    parser.add_argument("--measure", choices=("run", "score"), help="do it, in this process")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.folder)))
        return
    machine = f"{hardware(torch.device('cpu'))}; torch {torch.__version__}"
    print(f"{machine}; {given.candidates:,} candidates, {WIDTH} features of {given.dtype}")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), math.ceil((given.candidates + 30) / 0.9), given.dtype)
        for what in ("run", "run", "score"):
            own = ["--measure", what, "--folder", name]
            command = [sys.executable, "-m", "benchmarks.mapped_pool", *own]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"{what}: {json.loads(lines.splitlines()[-1])}")


if __name__ == "__main__":
    main()
