"""The experiment with dal, a run directory with all its files included."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.systems.experiment import PARTS, Experiment, Outcome
from dal.models import LeNet5
from dal.query import Entropy
from dal.runs.loop import run
from dal.settings import Settings
from dal.training.optim import constant, sgd
from dal.training.trainer import Trainer

SECONDS = dict(zip(PARTS, ("fit_s", "scan_s", "select_s", "test_s"), strict=True))


def experiment(spec: Experiment) -> Outcome:
    """Run it; images are prepared from uint8 batch by batch, within the clock."""
    source, _ = spec.load()
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, outcome.whole():
        result = run(
            source,
            LeNet5,
            Entropy(),
            initial=spec.first(source),
            trainer=Trainer(
                spec.epochs,
                spec.batch_size,
                sgd(lr=spec.lr, momentum=spec.momentum),
                constant(),
                restart="cold",
            ),
            settings=Settings(
                seed=spec.seed,
                query_size=spec.query_size,
                budget=spec.query_size * spec.rounds,
                device=spec.device,
                threads=spec.threads,
                batch_size=spec.predict_batch_size,
            ),
            run_dir=Path(folder) / "run",
        )
    for row in result.rows:
        outcome.labels.append(row["labels"])
        outcome.accuracy.append(row["test/accuracy"])
        outcome.steps += row["fit/steps"]
        for part, name in SECONDS.items():
            outcome.parts[part] += row.get(name, 0.0)
    return outcome
