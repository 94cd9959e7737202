"""Small runs on samples that arrive; imported by the processes of test_arrivals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import resume_job
import torch

import dal
from dal.data import make_source, two_gaussians
from dal.data.synthetic import nearer_center
from dal.models import MLP
from dal.query import Margin
from dal.runs import StreamSetting
from dal.streams import Quantile
from dal.training.optim import adam
from dal.training.trainer import Trainer

DATA = make_source(two_gaussians(150, distance=2.0), seed=0)
assert isinstance(DATA.train.inputs, torch.Tensor)
SOURCE = replace(DATA, train=DATA.train.with_targets(nearer_center(DATA.train.inputs)))
COUNT = 6
INITIAL = torch.cat([(SOURCE.train.targets == k).nonzero()[: COUNT // 2, 0] for k in (0, 1)])
OTHERS = SOURCE.train.raw(
    torch.tensor([n for n in range(len(SOURCE.train)) if n not in set(INITIAL.tolist())])
)
assert isinstance(OTHERS, torch.Tensor)
SAMPLES = list(OTHERS)
"""Those of the training part without labels, once more from outside."""


def run(
    run_dir: Path | None,
    arrivals: str | Path | Iterable[Any] | None = SAMPLES,
    budget: int = 60,
    **options: Any,
) -> dal.Result:
    """Some rounds of four samples that are asked about."""
    given = {"manager": Quantile(0.3), "order": "own", "chunk": 8, **options.pop("given", {})}
    settings = {"query_size": 4, "threads": 1, "batch_size": 64, "figures": False}
    settings |= {"save_every": 2, **options.pop("settings", {})}
    usual: dict[str, Any] = {
        "strategy": Margin(),
        "trainer": Trainer(epochs=6, batch_size=4, optimizer=adam(lr=0.05)),
        "initial": INITIAL,
    }
    return dal.run(
        options.pop("source", SOURCE),
        lambda shape, classes: MLP(shape, classes, [8]),
        setting=StreamSetting(arrivals=arrivals, **given),
        settings=dal.Settings(budget=budget, **settings),
        run_dir=run_dir,
        **(usual | options),
    )


def run_and_die(run_dir: Path, seed: int) -> None:
    """Run until a random event kills the process: a batch, a step, a file synced or renamed."""
    resume_job.die_within(seed, 100)
    run(run_dir, budget=16)
