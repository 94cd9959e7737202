"""A run's strategy beside random labels: what is learned from, what is said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from scipy import stats

from dal.cli import audit, status
from dal.cli.config import compose
from dal.learners.network import TorchLearner
from dal.runs.from_config import execute
from dal.runs.shadow import Shadow, shadow
from dal.runs.summary import headline, summary
from dal.train_set import TrainSet

ROOT = Path(__file__).parents[2]
SMALL = ("data=iris", "model=logistic_regression", "strategy=margin", "split.kind=none")
SMALL += ("query_size=10", "budget=40", "trainer.epochs=5", "threads=1", "figures=false")
SMALL += ("initial.count=9",)
PAID = (15.0, 15.0)


def made(folder: Path, *overrides: str) -> Any:
    """A finished run and its result."""
    HydraConfig.instance().cfg = None
    settings = compose(ROOT / "conf", [*SMALL, *overrides])
    config: Any = OmegaConf.to_container(settings, resolve=True)
    return execute(config, folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, made(folder, "audit=0.5")


def said(
    main: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: object,
) -> str:
    monkeypatch.setattr(sys, "argv", ["dal", *map(str, arguments)])
    capsys.readouterr()
    try:
        main()
    except SystemExit as end:
        return f"{capsys.readouterr().out}{end.code or ''}"
    return capsys.readouterr().out


def test_models_learn_from_equally_many_labels_and_from_none_they_are_asked_about(
    finished: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished
    learned: list[set[int]] = []
    fit = TorchLearner.fit

    def watched(self: TorchLearner, train_set: TrainSet, context: Any) -> Any:
        learned.append(set(train_set.indices.tolist()))
        return fit(self, train_set, context)

    monkeypatch.setattr(TorchLearner, "fit", watched)
    found = shadow(folder, folds=4)
    events = result.job.pool.events()
    of = {name: {e["index"] for e in events if e["origin"] == name} for name in ("audit", "oracle")}
    initial = {e["index"] for e in events if e["origin"] == "initial"}
    assert (found.initial, found.beside) == (9, (15, 15))
    assert len(found.strategy) == len(found.random) == 20
    assert found.paid == PAID
    first = [e["index"] for e in events if e["origin"] == "oracle"][:15]
    for strategy, random in zip(learned[::2], learned[1::2], strict=True):
        assert strategy == initial | set(first)
        assert random - initial < of["audit"]
        assert len(random) == len(strategy) == 24
    held = [of["audit"] - random for random in learned[1::2]]
    assert set.union(*held) == of["audit"]
    assert sum(map(len, held)) == 20


def test_answers_without_a_label_are_paid_for_too(tmp_path: Path) -> None:
    abstaining = ("oracle=abstaining", "oracle.share=0.4", "audit=0.5", "trainer.epochs=1")
    result = made(tmp_path / "run", *abstaining)
    found = shadow(tmp_path / "run", folds=2)
    asked: dict[str, list[bool]] = {"oracle": [], "audit": []}
    for event in result.job.pool.events(9):
        asked[event["origin"]].append(not event["abstained"])
    most = found.beside[1]
    until = next(n for n in range(21) if sum(asked["oracle"][:n]) == most)
    assert found.paid == pytest.approx((until, 20 * most / sum(asked["audit"])))
    assert until > most


def test_models_decide_by_thresholds_of_their_own(tmp_path: Path) -> None:
    labels = ("data=synthetic_multilabel", "data.n_samples=400", "strategy=multilabel_margin")
    labels += ("trainer=lbfgs", "audit=0.5")
    found = {}
    for kind in ("half", "fitted"):
        made(tmp_path / kind, *labels, f"thresholds={kind}")
        found[kind] = shadow(tmp_path / kind, folds=2)
    assert found["half"].beside == found["fitted"].beside  # the same fits
    assert not torch.equal(found["half"].strategy, found["fitted"].strategy)


def test_difference_is_paired_and_not_overstated() -> None:
    yes, no = torch.ones(40, dtype=torch.bool), torch.zeros(40, dtype=torch.bool)
    found = Shadow(9, (15, 16), yes, no, (30.0, 17.5))
    assert found.difference[0] == 1
    assert "strategy's labels taught more" in found.in_words()
    assert "30 for the strategy's, 17.5 for as many of the audit" in found.in_words()
    assert "random labels taught more" in Shadow(9, (15, 15), no, yes, PAID).in_words()
    half = torch.arange(40) % 2 == 0
    same = Shadow(9, (15, 15), half, half, PAID)
    assert same.difference[0] == 0
    assert "do not tell which taught more" in same.in_words()
    # Where all pairs differ, it is the interval of a share of pairs.
    ends = stats.binomtest(30, 40).proportion_ci(0.95, "exact")
    mixed = torch.arange(40) < 30
    found = Shadow(9, (15, 15), mixed, ~mixed, PAID)
    assert found.difference == pytest.approx((0.5, 2 * ends.low - 1, 2 * ends.high - 1), abs=1e-6)


def test_command_says_what_the_audit_says(
    finished: tuple[Path, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, result = finished
    row = result.rows[-1]
    lines = said(audit.main, capsys, monkeypatch, folder).splitlines()
    assert [line.split()[0] for line in lines] == ["round", "1", "2", "3", "4"]
    ends = [f"{row[f'audit/{name}']:.4f}" for name in ("accuracy", "low", "high", "loss")]
    assert lines[-1].split() == ["4", "49", "20", *ends]
    text = said(audit.main, capsys, monkeypatch, folder, "--shadow", "--folds", "2")
    assert "9 initial labels, and 10 more, by 20 audit labels" in text
    shown = f"audit accuracy {row['audit/accuracy']:.4f}"
    assert shown in said(status.main, capsys, monkeypatch, folder)
    assert shown in headline(result)
    text = summary(result, folder)
    assert "audit accuracy" in text
    assert f"right about {row['audit/low']:.1%} to {row['audit/high']:.1%}" in text


def test_runs_that_do_not_tell_are_named(
    finished: tuple[Path, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = said(audit.main, capsys, monkeypatch, tmp_path)
    assert text.endswith("has no labels to measure by; make a run with audit=0.1 or so")
    text = said(audit.main, capsys, monkeypatch, finished[0], "--shadow", "--folds", "1")
    assert "20 labels to measure by, for 1 parts" in text
    made(tmp_path / "loss", "audit=0.2", "audit_by=loss")
    text = said(audit.main, capsys, monkeypatch, tmp_path / "loss", "--shadow")
    assert "labels are no random ones" in text
