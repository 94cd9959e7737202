"""Small runs that make their samples; imported by the processes of test_synthesizing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import resume_job

import dal
from dal.data import initial_labels, make_source, two_gaussians
from dal.models import MLP
from dal.oracles import FilesOracle
from dal.query import Entropy
from dal.runs import SynthesisSetting
from dal.training.optim import adam
from dal.training.trainer import Trainer

SOURCE = make_source(two_gaussians(120, distance=6.0), seed=0)


def run(
    run_dir: Path | None,
    how: str = "ascent",
    budget: int = 12,
    count: int = 6,
    setting: Any = None,
    **options: Any,
) -> dal.Result:
    """Three rounds of four made samples."""
    source = options.pop("source", SOURCE)
    usual: dict[str, Any] = {
        "model": lambda shape, classes: MLP(shape, classes, [8]),
        "strategy": Entropy(),
        "trainer": Trainer(epochs=6, batch_size=4, optimizer=adam(lr=0.05)),
        "initial": initial_labels(source.train.targets, seed=0, count=count),
    }
    settings: dict[str, Any] = {
        "query_size": 4,
        "threads": 1,
        "batch_size": 64,
        "figures": False,
        "save_every": 2,
    }
    settings |= options.pop("settings", {})
    return dal.run(
        source,
        setting=setting or SynthesisSetting(how, steps=40),
        settings=dal.Settings(budget=budget, **settings),
        run_dir=run_dir,
        **(usual | options),
    )


def run_and_die(run_dir: Path, seed: int, how: str) -> None:
    """Run until a random event kills the process: a batch, a step, a file synced or renamed."""
    resume_job.die_within(seed, 100)
    run(run_dir, how)


def run_by_files(run_dir: Path, how: str = "ascent", **options: Any) -> dal.Result:
    """The same, asking people in files."""
    oracle = FilesOracle(run_dir / "queries", SOURCE.class_names, SOURCE.train.positions)
    return run(run_dir, how, oracle=oracle, **options)
