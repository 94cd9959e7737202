"""The comparison of whole experiments; what others need is skipped where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from benchmarks.systems.experiment import PARTS, Experiment
from benchmarks.whole_experiment import check, main, parse, settings, table

TINY = Experiment(
    None, pool=140, initial=20, query_size=3, rounds=2, epochs=2, batch_size=8, threads=1
)


@pytest.mark.parametrize(
    ("name", "needs"),
    [("dal", []), ("baal", ["baal.modelwrapper"]), ("skactiveml", ["skactiveml.classifier"])],
)
@pytest.mark.filterwarnings("default")  # those of other libraries
def test_system_tiny_experiment_same_labels_and_steps(name: str, needs: list[str]) -> None:
    for package in needs:
        pytest.importorskip(package)
    if name == "skactiveml":
        pytest.importorskip("skorch")
    before = torch.get_num_threads()
    outcome = importlib.import_module(f"benchmarks.systems.with_{name}").experiment(TINY)
    torch.set_num_threads(before)
    assert outcome.labels == [20, 23, 26]
    assert outcome.steps == 2 * (3 + 3 + 4)
    assert len(outcome.accuracy) == 3
    assert set(outcome.parts) == set(PARTS)
    assert min(outcome.parts.values()) > 0
    assert 0 <= outcome.rest < outcome.total


def run_of(**changes: Any) -> dict[str, Any]:
    parts = dict.fromkeys(PARTS, 1.0)
    usual = {"total": 5.0, "cpu": 6.0, "parts": parts, "rest": 1.0, "mean_accuracy": 0.9}
    return usual | {"accuracy": [0.8, 0.95], "labels": [20, 23], "steps": 12} | changes


def test_table_two_repetitions_ratios_within_each() -> None:
    ours = [run_of(total=2.0), run_of(total=4.0)]
    lines = table({"dal": ours, "baal": [run_of(total=6.0), run_of(total=8.0)]})
    assert lines[2].startswith("| dal | 3.00 | 1.00 (1.00 to 1.00) |")
    assert lines[3].startswith("| baal | 7.00 | 2.50 (2.00 to 3.00) | 6.00 | 1.00 |")
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [20, 24]}, "labels differ"),
        ({"steps": 13}, "steps differ"),
        ({"mean_accuracy": 0.87}, "accuracies differ"),
    ],
)
def test_check_unequal_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        check({"dal": [run_of()], "baal": [run_of(**changes)]})


def test_check_equal_work_passes() -> None:
    check({"dal": [run_of()], "baal": [run_of(mean_accuracy=0.889)]})


def test_settings_options_reach_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAL_DATA_DIR", raising=False)
    spec = settings(parse(["--rounds", "3", "--lr", "0.1", "--threads", "1"]))
    assert spec == Experiment(None, rounds=3, lr=0.1, threads=1)


@pytest.mark.parametrize("arguments", [["--repeat", "0"], ["--systems", "modal"], ["--rounds=x"]])
def test_main_bad_option_ends_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
