"""The report at the end of a run against scikit-learn's."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import classification_report as reference

from dal import metrics
from dal.cli.config import compose
from dal.metrics import classification_report, multilabel_report
from dal.runs.from_config import execute
from dal.runs.summary import shortened, todo

CONF = Path(__file__).parents[2] / "conf"


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


@pytest.mark.parametrize(
    ("ticket", "wanted"),
    [
        ({"file": "round_0002.csv"}, "fill in run/queries/round_0002.csv and run the same command"),
        ({"where": "http://a.org/7"}, "give them at http://a.org/7 and run the same command"),
        ({"id": 7}, ": run the same command again when they are given"),
    ],
)
def test_who_waits_for_labels_is_told_what_to_do(ticket: dict[str, Any], wanted: str) -> None:
    state = SimpleNamespace(pending={"ticket": ticket})
    result: Any = SimpleNamespace(status="waiting", job=SimpleNamespace(state=state))
    assert wanted in todo(result, Path("run"))


def test_all_files_with_missing_answers_are_named() -> None:
    tickets = [
        {"open": {3: 1} if number != 1 else {}, "ticket": {"file": f"round_000{number}.csv"}}
        for number in range(4)
    ]
    state = SimpleNamespace(pending=None, tickets=tickets)
    result: Any = SimpleNamespace(status="waiting", job=SimpleNamespace(state=state))
    wanted = "fill in run/queries/round_0000.csv (and round_0002.csv, round_0003.csv beside it) and"
    assert wanted in todo(result, Path("run"))
