"""A round's fit and test end at a signal, saved, and go on from there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import resume_job
import torch
from torch import Tensor, nn

import dal
from dal import checkpoint
from dal.data import initial_labels, make_multilabel_classification, make_source
from dal.data.source import Source
from dal.models import MLP
from dal.query import Margin, MultilabelMargin
from dal.training.early_stopping import EarlyStopping
from dal.training.trainer import Trainer
from dal.utils.signals import PreemptedError

SOURCE = make_source(resume_job.dataset(), seed=0, validation=30)
SEVERAL = make_multilabel_classification(300, n_features=10, n_classes=4)
LABELS = make_source(SEVERAL, seed=0, validation=30)
INITIAL = initial_labels(SOURCE.train.targets, seed=0, count=9)


class Listening(MLP):
    """A network that calls a function at each of its forward passes."""

    heard: Callable[[bool, int], None] = staticmethod(lambda training, count: None)

    def forward(self, x: Tensor) -> Any:
        Listening.heard(self.training, len(x))
        return super().forward(x)


def run(
    run_dir: Path | None,
    model: Callable[..., nn.Module] = Listening,
    source: Source = SOURCE,
    **settings: Any,
) -> dal.Result:
    return dal.run(
        source,
        model,
        Margin() if source.task.exclusive else MultilabelMargin(),
        initial=INITIAL,
        trainer=Trainer(3, 4, early_stopping=EarlyStopping("val/loss", patience=2)),
        settings=dal.Settings(
            query_size=6, budget=6, threads=1, batch_size=20, figures=False, **settings
        ),
        run_dir=run_dir,
    )


def weights(result: dal.Result) -> Tensor:
    state = result.job.learner.state_dict()["model"]
    return torch.cat([value.flatten() for value in state.values()])


def ended(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, at: int, **options: Any
) -> list[tuple[bool, int]]:
    """A run to which a signal comes in a forward pass; all of those until its end."""
    passes: list[tuple[bool, int]] = []

    def hear(training: bool, count: int) -> None:
        passes.append((training, count))
        if len(passes) == at:
            os.kill(os.getpid(), signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, lambda signum, frame: None)
    monkeypatch.setattr(Listening, "heard", staticmethod(hear))
    try:
        with pytest.raises(PreemptedError):
            run(run_dir, **options)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return passes


def counted(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[dal.Result, int]:
    """A run to its end, and its steps."""
    steps = 0

    def hear(training: bool, count: int) -> None:
        nonlocal steps
        steps += training

    monkeypatch.setattr(Listening, "heard", staticmethod(hear))
    return run(run_dir, **options), steps


def rows(result: dal.Result) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in result.rows]


# One pass looks at what the network returns. An epoch is 2 steps and 2 batches of validation, so
# the first fit is 12 passes; then comes the test part.
@pytest.mark.parametrize("at", [1, 2, 4, 8, 13, 14, 17])
def test_signal_ends_a_run_at_the_next_batch_and_no_step_is_done_twice(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, steps = counted(tmp_path / "whole", monkeypatch)
    passes = ended(tmp_path / "run", monkeypatch, at)
    assert len(passes) == at
    found, rest = counted(tmp_path / "run", monkeypatch)
    assert sum(training for training, _ in passes) + rest == steps
    assert rows(found) == rows(expected)
    assert torch.equal(weights(found), weights(expected))


def test_signal_while_the_test_part_is_predicted_keeps_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = ended(tmp_path, monkeypatch, 14)
    assert passes[-1] == (False, 20)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    state = checkpoint.load(newest)["state"]
    assert (state["next"], state["fit"]["done"]["epoch"]) == ("fit", 3)
    _, steps = counted(tmp_path, monkeypatch)
    (again,) = {row["fit/steps"] for row in run(tmp_path).rows[1:]}
    assert steps == again  # those of the second round alone


# After the 13 passes of look and fit: 2 of validation that thresholds are fitted on, then the test.
@pytest.mark.parametrize("at", [14, 15, 16, 17])
def test_signal_between_a_fit_and_its_test_changes_no_threshold(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"source": LABELS, "thresholds": "fitted"}
    expected, steps = counted(tmp_path / "whole", monkeypatch, **options)
    passes = ended(tmp_path / "run", monkeypatch, at, **options)
    newest = max((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert checkpoint.load(newest)["state"]["fit"]["done"]["epoch"] == 3
    found, rest = counted(tmp_path / "run", monkeypatch, **options)
    assert sum(training for training, _ in passes) + rest == steps
    assert rows(found) == rows(expected)
    assert all(len(row["thresholds"]) == 4 for row in rows(found))
    assert found.job.task == expected.job.task
