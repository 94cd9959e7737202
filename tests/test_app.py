"""The report at the end of a run against scikit-learn's; runs from settings to their end."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import classification_report as reference

from dal import metrics
from dal.cli.config import compose
from dal.recording.run_directory import RunDirectory, read_status
from dal.runs.from_config import (
    classification_report,
    execute,
    interruptible,
    multilabel_report,
    shortened,
)
from dal.utils.signals import PreemptedError

CONF = Path(__file__).parents[1] / "conf"


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_report_equals_sklearn(classes: int) -> None:
    rng = torch.Generator().manual_seed(classes)
    true, predicted = torch.randint(classes, (2, 200), generator=rng)
    names = tuple(f"class {c}" for c in range(classes))
    counts = metrics.confusion(predicted, true, classes)
    want = reference(true, predicted, target_names=names, digits=4)
    assert classification_report(counts, names) == want


@pytest.mark.parametrize("labels", [2, 5])
def test_multilabel_report_equals_sklearn_but_for_averages_over_samples(labels: int) -> None:
    rng = torch.Generator().manual_seed(labels)
    true, predicted = (torch.rand(2, 200, labels, generator=rng) < 0.3).long()
    true[:, 1] = 0
    names = tuple(f"label {c}" for c in range(labels))
    want = reference(true, predicted, target_names=names, digits=4, zero_division=0.0)
    got = multilabel_report(metrics.label_outcomes(predicted, true), names)
    lines = want.splitlines()
    assert lines[-1].strip().startswith("samples avg")
    assert got.splitlines() == lines[:-1]


def test_report_of_many_classes_is_short_and_whole_in_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes, path = 500, tmp_path / "many.npz"
    labels = np.arange(4 * classes) % classes
    inputs = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    np.savez(path, x=inputs, y=labels)
    overrides = [
        "data=npz",
        f"data.path={path}",
        "model=logistic_regression",
        "strategy=random",
        "trainer.epochs=1",
        "budget=10",
        "threads=1",
    ]
    config = compose(CONF, overrides)
    run_dir = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        result = execute(OmegaConf.to_container(config, resolve=True), run_dir)  # type: ignore[arg-type]
    shown = caplog.records[-1].getMessage()
    assert len(shown) < 3000
    assert f"all of them: {run_dir / 'report.txt'}" in shown
    confusion = result.job.state.confusion
    assert confusion is not None
    whole = (run_dir / "report.txt").read_text()
    assert whole == classification_report(confusion, result.job.source.class_names)
    assert len(whole.splitlines()) == classes + 6
    assert "macro avg" in shown


def test_short_report_shows_the_worst_classes() -> None:
    counts = torch.eye(60, dtype=torch.int64) * 3
    counts[7, 7], counts[7, 8], counts[50, 3] = 0, 5, 9
    text = shortened(
        classification_report(counts, tuple(f"c{i}" for i in range(60))), 60, Path("x")
    )
    shown = [line.split()[0] for line in text.splitlines()[2:12]]
    assert shown[:4] == ["c7", "c3", "c50", "c8"]
    assert text.splitlines()[0].split() == ["precision", "recall", "f1-score", "support"]
    assert "the 10 of 60 classes with the lowest F1; all of them: x" in text


def archive(path: Path, seed: int) -> str:
    """Images of one's own in two classes, told apart by their brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    images = rng.integers(0, 100, (60, 8, 8), dtype=np.uint8) + 100 * labels[:, None, None]
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def settings(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    """A run on frozen features with foreign samples and wrong labels in its pool."""
    from torchvision.models import resnet18

    weights = tmp_path / "weights.pt"
    if not weights.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(resnet18(weights=None).state_dict(), weights)
    config = compose(
        CONF,
        [
            "data=npz",
            f"data.path={archive(tmp_path / 'own.npz', 0)}",
            "features=torchvision",
            f"features.weights={weights}",
            f"features.cache_dir={tmp_path / 'cache'}",
            "features.size=32",
            "difficulty=[noisy,ood]",
            "data@difficulty.ood.data=npz",
            f"difficulty.ood.data.path={archive(tmp_path / 'foreign.npz', 1)}",
            "model=logistic_regression",
            "trainer=lbfgs",
            "strategy=margin",
            "initial.count=6",
            "query_size=5",
            f"data_dir={tmp_path}",
            f"saved_dir={tmp_path}",
            *overrides,
        ],
    )
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def test_frozen_features_and_hard_pool_from_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for run, budgets in (("whole", (20,)), ("parts", (10, 20))):
        for budget in budgets:
            result = execute(settings(tmp_path, f"budget={budget}"), tmp_path / run)
    assert sum("once over" in message for message in caplog.messages) == 2  # own and foreign
    source = result.job.source
    assert source.input_shape == (512,)
    assert len(source.train) == 42 + 60
    assert int(source.is_foreign.sum()) == 60
    assert result.job.pool.num_queried == 20
    whole, parts = (tmp_path / run / "queries.csv" for run in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    answers = [line.split(",") for line in whole.read_text().split()[1:]]
    foreign = [int(sample) >= 60 for *_, sample in answers]
    assert [label == "?" for *_, label, _ in answers] == foreign
    assert 0 < sum(foreign) < 20
    rows = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["labels"] == 6 + 20
    assert rows[-1]["trained_on"] == 6 + 20 - sum(foreign)


def interrupted(directory: RunDirectory) -> None:
    with interruptible(directory) as check:
        check()
        os.kill(os.getpid(), signal.SIGUSR1)
        check()


def test_signal_while_features_are_computed_leaves_a_preempted_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory, pytest.raises(PreemptedError):
        interrupted(directory)
    assert read_status(tmp_path / "run")["status"] == "preempted"
