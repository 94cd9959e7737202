"""A whole run on MNIST: what its rounds cost beyond their work, and its memory.

``python -m benchmarks.main_job`` is the process whose memory is measured.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.setup import Setup, load_source
from benchmarks.table import Row
from dal.models import LeNet5
from dal.oracles import Answers, SimulatedOracle
from dal.query import Instability
from dal.runs.loop import Result, run
from dal.settings import Settings
from dal.task import Task
from dal.training.context import FitContext, FitState, Samples
from dal.training.trainer import Trainer
from dal.utils.numerics import pick_device

WORK = ("fit_s", "scan_s", "test_s")


class MarkingOracle(SimulatedOracle):
    """Notes when each round's answers are collected."""

    def __init__(self, targets: Tensor) -> None:
        super().__init__(targets)
        self.marks: list[float] = []

    def collect(self, ticket: dict[str, Any]) -> Answers:
        """Note the time, and answer."""
        self.marks.append(time.perf_counter())
        return super().collect(ticket)


class MarkingTrainer(Trainer):
    """Notes the seconds each fit spends in the loop's callback: curves and checks, no training."""

    seconds: list[float]

    def fit(self, model: nn.Module, samples: Samples, task: Task, context: FitContext) -> FitState:
        """Fit with a clock around the callback."""
        vars(self).setdefault("seconds", []).append(0.0)

        def on_epoch(state: FitState, save: Any) -> None:
            start = time.perf_counter()
            context.on_epoch(state, save)
            self.seconds[-1] += time.perf_counter() - start

        return super().fit(model, samples, task, replace(context, on_epoch=on_epoch))


@dataclass
class Job:
    """A run in a temporary folder, and what it noted.

    Attributes:
        setup: Data and sizes.
        result: What the run gave.
        oracle: With the times of the rounds.
        trainer: With the seconds of the callbacks.
    """

    setup: Setup
    result: Result = field(init=False)
    oracle: MarkingOracle = field(init=False)
    trainer: MarkingTrainer = field(init=False)

    def run(self) -> None:
        """The paper's setting for MNIST: 0.5 % initial labels, ten a round, LeNet-5."""
        setup = self.setup
        self.oracle = MarkingOracle(setup.source.train.targets)
        usual = setup.trainer()
        self.trainer = MarkingTrainer(
            usual.epochs, usual.batch_size, usual.optimizer, usual.scheduler
        )
        with tempfile.TemporaryDirectory() as folder:
            self.result = run(
                setup.source,
                LeNet5,
                Instability(window=3),
                initial=setup.initial(),
                trainer=self.trainer,
                oracle=self.oracle,
                settings=Settings(budget=500, max_rounds=setup.rounds, device=str(setup.device)),
                run_dir=Path(folder) / "run",
            )


def round_overhead(setup: Setup) -> list[Row]:
    """Share of a round that is neither training, pool pass nor test evaluation.

    A round lasts from one collection of answers to the next. The callback after each epoch lies
    within the library's ``fit_s`` but counts as overhead here.
    """
    Job(replace(setup, epochs=1, rounds=2)).run()  # imports TensorBoard and matplotlib
    job = Job(setup)
    job.run()
    marks = job.oracle.marks
    totals = [b - a for a, b in itertools.pairwise(marks)]
    rows, callbacks = job.result.rows[1 : len(marks)], job.trainer.seconds[1 : len(marks)]
    beyond = [
        total - sum(row[name] for name in WORK) + callback
        for total, row, callback in zip(totals, rows, callbacks, strict=True)
    ]
    shares = [part / total for part, total in zip(beyond, totals, strict=True)]
    parts = {
        name.removesuffix("_s"): statistics.median(row[name] for row in rows)
        for name in ("save_s", "record_s", "history_s", "select_s")
    }
    parts["epoch callback"] = statistics.median(callbacks)
    listed = ", ".join(f"{name} {1e3 * value:.0f}" for name, value in parts.items())
    work = ", ".join(
        f"{name.removesuffix('_s')} {statistics.median(row[name] for row in rows):.2f}"
        for name in WORK
    )
    return [
        Row(
            "overhead of a round / round",
            f"{1e3 * statistics.median(beyond):.0f} ms ({listed})",
            f"{statistics.median(totals):.2f} s ({work}; {len(totals)} rounds, "
            f"{setup.epochs} epochs, {rows[0]['labels']} to {rows[-1]['labels']} labels)",
            statistics.median(shares),
            min(shares),
            max(shares),
            target=0.05,
            unit="%",
        )
    ]


def memory(setup: Setup, data_dir: str | None) -> list[Row]:
    """Peak memory of a run in a fresh process, beyond what the imports take."""
    values = {
        "data_dir": data_dir,
        "pool": len(setup.source.train),
        "device": str(setup.device),
        "threads": torch.get_num_threads(),
        "epochs": min(setup.epochs, 5),
        "rounds": min(setup.rounds, 4),
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.main_job", json.dumps(values)],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process whose memory is measured failed:\n{done.stderr}")
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return [
        Row(
            "peak memory over imports",
            f"{peak:.2f} GB peak (run of {values['rounds']} rounds, reading the data included)",
            f"{before:.2f} GB after imports",
            *3 * (peak - before,),
            target=0.7,
            unit=" GB",
        )
    ]


def _memory_job(values: dict[str, Any]) -> tuple[float, float]:
    """Run, and give the memory after imports and at its peak, in GB (10^9 bytes)."""
    torch.set_num_threads(values["threads"])
    before = _resident("VmRSS")
    source, data = load_source(values["data_dir"], values["pool"])
    device = pick_device(values["device"])
    Job(Setup(source, data, device, epochs=values["epochs"], rounds=values["rounds"])).run()
    return before, _resident("VmHWM")


def _resident(what: str) -> float:
    # Not getrusage: a child's ru_maxrss starts at the peak of the process that forked it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what))) * 1024 / 1e9


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_memory_job(json.loads(sys.argv[1]))) + "\n")
