"""What a round of one label costs late in a run: ``python -m benchmarks.rounds``.

Bytes are all that the process hands to the system for writing, files of every kind (Linux only).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import dal
from dal.data import initial_labels, make_source
from dal.data.dataset import Dataset
from dal.models import LogisticRegression
from dal.oracles import Answers, SimulatedOracle
from dal.query import Entropy, Instability
from dal.training.trainer import Trainer

AROUND = 20
"""A round stands for so many before and behind it."""


class Clock(SimulatedOracle):
    """Notes time and bytes written whenever it is asked."""

    def __init__(self, targets: torch.Tensor) -> None:
        super().__init__(targets)
        self.marks: list[tuple[float, int]] = []

    def collect(self, ticket: dict[str, Any]) -> Answers:
        """Answer, and note where the process stands."""
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        self.marks.append((time.perf_counter(), int(fields["wchar"])))
        return super().collect(ticket)


def measure(rounds: Sequence[int], instability: bool, keep_history: bool, run_dir: Path) -> Clock:
    """A run of one label a round, with a model whose fit costs next to nothing."""
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(4000) % 3
    inputs = torch.randn(4000, 8, generator=rng) + torch.eye(8)[targets]
    source = make_source(Dataset("gaussians", inputs, targets, ("a", "b", "c")), seed=0)
    clock = Clock(source.train.targets)
    dal.run(
        source,
        LogisticRegression,
        Instability() if instability else Entropy(),
        initial=initial_labels(source.train.targets, seed=0, count=10),
        trainer=Trainer(epochs=1, batch_size=8192),
        oracle=clock,
        settings=dal.Settings(
            query_size=1,
            budget=max(rounds) + AROUND + 2,
            threads=1,
            batch_size=4096,
            keep_history=keep_history,
            record_epochs=False,
        ),
        run_dir=run_dir,
    )
    return clock


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--instability", action="store_true", help="with predictions of rounds")
    parser.add_argument("--keep-history", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clock = measure(
            options.rounds, options.instability, options.keep_history, Path(folder) / "run"
        )
    print("| round | KB written | milliseconds |\n|---:|---:|---:|")
    for number in options.rounds:
        near = clock.marks[max(number - AROUND, 0) : number + AROUND + 1]
        steps = list(pairwise(near))
        seconds = statistics.median(b[0] - a[0] for a, b in steps)
        written = statistics.median(b[1] - a[1] for a, b in steps)
        print(f"| {number} | {written / 1000:.1f} | {1000 * seconds:.1f} |")


if __name__ == "__main__":
    main()
