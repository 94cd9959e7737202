"""Columns of the stop set, against scikit-learn and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from dal.stopping.signals import Seen, changed, expected_f1, kappa, signals, uncertainties


def logits(seed: int, samples: int = 40, classes: int = 5) -> torch.Tensor:
    return torch.randn(samples, classes, generator=torch.Generator().manual_seed(seed)) * 2


def seen(seed: int = 0, before: int | None = None, exclusive: bool = True) -> Seen:
    now = Seen(logits(seed), None, exclusive)
    if before is None:
        return now
    return Seen(now.logits, Seen(logits(before), None, exclusive).predicted, exclusive)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 4, 50)
    two = np.where(rng.random(50) < 0.7, one, rng.integers(0, 6, 50))
    found = kappa(torch.from_numpy(one), torch.from_numpy(two))
    assert found == pytest.approx(cohen_kappa_score(one, two), abs=1e-14)
    assert found == kappa(torch.from_numpy(two), torch.from_numpy(one))


def test_kappa_of_label_sets_takes_every_decision_by_itself() -> None:
    one, two = logits(0) > 0, logits(1) > 0.5
    wanted = cohen_kappa_score(one.flatten().numpy(), two.flatten().numpy())
    assert kappa(one, two) == pytest.approx(wanted, abs=1e-14)


def test_kappa_by_hand() -> None:
    # 20 + 15 of 50 agree; by chance (25 * 30 + 25 * 20) / 50 ** 2 = 0.5: (0.7 - 0.5) / 0.5.
    one = torch.tensor([1] * 25 + [0] * 25)
    two = torch.tensor([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert kappa(one, two) == pytest.approx(0.4, abs=1e-15)
    assert kappa(one, one) == 1
    assert kappa(one, 1 - one) == -1


def test_models_that_tell_nothing_apart_are_not_stable() -> None:
    same = torch.zeros(10, dtype=torch.int64)
    assert kappa(same, same) == 0
    assert kappa(torch.zeros(4, 3, dtype=torch.bool), torch.zeros(4, 3, dtype=torch.bool)) == 0


def test_changed_counts_samples() -> None:
    assert changed(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, 2, 1])) == 0.5
    one = torch.tensor([[1, 0], [1, 1], [0, 0]]).bool()
    two = torch.tensor([[0, 1], [1, 1], [0, 1]]).bool()
    assert changed(one, two) == pytest.approx(2 / 3)


def entropy(probs: list[float]) -> float:
    return -sum(p * math.log(p) for p in probs if p > 0)


def test_uncertainties_are_entropies() -> None:
    one = seen()
    found, probs = uncertainties(one), one.probs.tolist()
    assert found.tolist() == pytest.approx([entropy(row) for row in probs])
    several = seen(exclusive=False)
    wanted = [[entropy([p, 1 - p]) for p in row] for row in several.probs.tolist()]
    for found_row, wanted_row in zip(uncertainties(several).tolist(), wanted, strict=True):
        assert found_row == pytest.approx(wanted_row)


def test_sure_predictions_have_no_entropy() -> None:
    sure = Seen(torch.tensor([[200.0, -200.0], [-200.0, 200.0]]), None, exclusive=False)
    assert float(uncertainties(sure).max()) < 1e-80
    assert float(uncertainties(Seen(sure.logits, None, exclusive=True)).max()) < 1e-80


def test_expected_f1_is_that_of_many_draws_of_the_labels() -> None:
    several = seen(3, exclusive=False)
    rng = torch.Generator().manual_seed(0)
    true = wrong = missed = 0
    for _ in range(2000):
        drawn = torch.rand(several.probs.shape, generator=rng) < several.probs
        true += int((drawn & several.predicted).sum())
        wrong += int((~drawn & several.predicted).sum())
        missed += int((drawn & ~several.predicted).sum())
    found = expected_f1(several.probs, several.predicted)
    assert found == pytest.approx(2 * true / (2 * true + wrong + missed), abs=2e-3)


def test_expected_f1_of_one_class_a_sample_is_the_mean_confidence() -> None:
    one = seen(4)
    assert expected_f1(one.probs, one.predicted) == pytest.approx(float(one.probs.amax(1).mean()))


def test_expected_f1_where_no_label_is_predicted_nor_expected_is_zero() -> None:
    never = Seen(torch.full((2, 2), -1e4), None, exclusive=False)
    assert expected_f1(never.probs, never.predicted) == 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_first_model_has_nothing_to_agree_with(exclusive: bool) -> None:
    first = signals(seen(exclusive=exclusive))
    assert set(first) == {"stop/entropy", "stop/entropy_max", "stop/expected_f1"}
    later = signals(seen(0, 1, exclusive))
    assert set(later) - set(first) == {"stop/kappa", "stop/changed"}
    assert {name: later[name] for name in first} == first
    assert all(type(value) is float and math.isfinite(value) for value in later.values())
