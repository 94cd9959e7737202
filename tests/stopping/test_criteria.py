"""What each criterion says of rows of metrics."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from waiting import completed

from dal.stopping import (
    ClassificationChange,
    Criterion,
    MaxConfidence,
    OverallUncertainty,
    PerformanceConvergence,
    Plateau,
    StabilizingPredictions,
    Target,
)
from dal.stopping.base import check_metric, values_of

METRIC = "test/accuracy"


def rows(name: str, values: list[float | None]) -> list[dict[str, Any]]:
    """Rows with a column; a row of None lacks it."""
    return [{"round": n} | ({} if v is None else {name: v}) for n, v in enumerate(values)]


def ends(criterion: Criterion, values: list[float | None], metric: str = METRIC) -> list[int]:
    """The rounds after which a criterion says stop."""
    read = criterion.metric or metric
    every = rows(read, values)
    return [n for n in range(len(values)) if criterion.reason(every[: n + 1], read)]


def test_target_from_below_and_from_above() -> None:
    assert ends(Target(0.9), [0.5, 0.9, 0.89, 0.95]) == [1, 3]
    assert ends(Target(0.3), [0.5, 0.3, 0.31, 0.2], "val/loss") == [1, 3]
    assert ends(Target(0.9, "audit/low"), [None, None, 0.91]) == [2]
    assert ends(Target(20.0, "cost"), [10.0, 20.0, 30.0]) == [1, 2]


def test_plateau_against_a_plain_loop() -> None:
    values = np.random.default_rng(0).random(60).cumsum() / 60 % 0.7
    criterion, wanted = Plateau(window=4, delta=0.02), []
    for n in range(len(values)):
        if n >= 4 and not any(v > max(values[: n - 3]) + 0.02 for v in values[n - 3 : n + 1]):
            wanted.append(n)
    assert wanted
    assert ends(criterion, values.tolist()) == wanted


def test_plateau_of_a_loss_looks_down() -> None:
    falling, flat = [1.0, 0.8, 0.6, 0.4], [1.0, 0.8, 0.9, 0.85]
    criterion = Plateau(window=2, delta=0.0)
    assert ends(criterion, falling, "test/loss") == []
    assert ends(criterion, flat, "test/loss") == [3]
    assert ends(criterion, flat, "test/accuracy") == [2, 3]


def test_stabilizing_is_the_mean_of_three() -> None:
    values = [None, 0.99, 0.98, 0.995, 1.0, 1.0, 0.9]
    wanted = [n for n in range(3, 7) if np.mean(values[n - 2 : n + 1]) >= 0.99]  # type: ignore[arg-type]
    assert wanted == [4, 5]
    assert ends(StabilizingPredictions(), values) == wanted
    assert ends(StabilizingPredictions(window=1, kappa=0.98), values) == [1, 2, 3, 4, 5]


def test_classification_change_needs_every_round_of_its_window() -> None:
    values = [None, 0.1, 0.0, 0.0, 0.02]
    assert ends(ClassificationChange(), values) == [2, 3]
    assert ends(ClassificationChange(window=2), values) == [3]
    assert ends(ClassificationChange(share=0.02, window=2), values) == [3, 4]


@pytest.mark.parametrize("kind", [OverallUncertainty, MaxConfidence])
def test_uncertainty_below_a_threshold(kind: Any) -> None:
    assert ends(kind(), [0.5, 0.01, 0.0099, 0.2]) == [2]
    assert ends(kind(0.3), [0.5, 0.01, 0.0099, 0.2]) == [1, 2, 3]


def test_performance_convergence_against_windows_of_means() -> None:
    values = (1 - 0.5 * np.exp(-np.arange(80) / 6)).tolist()
    criterion = PerformanceConvergence(window=10, gradient=1e-4)
    wanted = []
    for n in range(10, 80):
        rise = np.mean(values[n - 9 : n + 1]) - np.mean(values[n - 10 : n])
        if 0 <= rise <= 1e-4:
            wanted.append(n)
    assert wanted[0] > 20
    assert ends(criterion, values) == wanted
    assert ends(criterion, [*values, 0.5]) == wanted  # no longer at its highest


def test_words_tell_the_number_that_decided() -> None:
    said = StabilizingPredictions().reason(rows("stop/kappa", [0.995] * 3), "stop/kappa")
    assert said == "mean kappa of 3 0.9950, 0.99 asked"
    assert "\n" not in said


def test_values_of_a_column_that_some_rows_lack() -> None:
    every = rows("a", [1.0, None, 2.0, 3.0])
    assert values_of(every, "a") == [1.0, 2.0, 3.0]
    assert values_of(every, "a", 2) == [2.0, 3.0]
    assert values_of(every, "b", 2) == []


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("", "neither a test nor a validation part"),
        ("stop/kappa", "set stop_set=1000"),
        ("test/acuracy", "did you mean test/accuracy?"),
        ("zzz", "choose one of cost, test/accuracy"),
    ],
)
def test_column_that_no_row_will_have_is_refused(metric: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")) as refusal:
        check_metric("target", metric, ["test/accuracy", "cost"])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target(-1),
        lambda: Target(float("nan")),
        lambda: Plateau(window=0),
        lambda: Plateau(delta=-0.1),
        lambda: StabilizingPredictions(kappa=1.1),
        lambda: ClassificationChange(share=2),
        lambda: OverallUncertainty(float("inf")),
        lambda: PerformanceConvergence(gradient=-1),
    ],
)
def test_numbers_out_of_range(make: Any) -> None:
    with pytest.raises(ValueError, match="give a number from"):
        make()


def test_torch_is_not_imported() -> None:
    code = "import sys, dal.stopping; assert 'torch' not in sys.modules"
    completed([sys.executable, "-c", code], check=True)
