"""Thresholds of labels against all cuts, tried one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_recall_curve
from torch import Tensor

from dal.task.thresholds import best_thresholds, fitted_thresholds


def samples(count: int, labels: int, seed: int, digits: int = 6) -> tuple[Tensor, Tensor]:
    """Probabilities, with ties where they have few digits, and labels that go along with them."""
    rng = torch.Generator().manual_seed(seed)
    probs = torch.rand(count, labels, generator=rng, dtype=torch.float64).round(decimals=digits)
    return probs, (torch.rand(count, labels, generator=rng) < probs * 0.5).long()


def f1_at(probs: Tensor, targets: Tensor, threshold: float) -> float:
    return float(f1_score(targets, probs > threshold, zero_division=0))


@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_no_other_cut_has_a_larger_f1(count: int, digits: int) -> None:
    probs, targets = samples(count, 7, seed=count, digits=digits)
    found = best_thresholds(probs, targets)
    for label in range(7):
        own, true = probs[:, label], targets[:, label]
        cuts = [-1.0, *own.tolist()]
        best = max(f1_at(own, true, cut) for cut in cuts)
        if true.any():
            assert f1_at(own, true, float(found[label])) == pytest.approx(best)
        else:
            assert float(found[label]) == 0.5


def test_the_largest_f1_is_that_of_sklearns_curve() -> None:
    probs, targets = samples(300, 4, seed=0)
    found = best_thresholds(probs, targets)
    for label in range(4):
        own, true = probs[:, label], targets[:, label]
        precision, recall, _ = precision_recall_curve(true, own)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert f1_at(own, true, float(found[label])) == pytest.approx(f1.max())


def test_a_threshold_is_the_middle_between_two_samples() -> None:
    probs = torch.tensor([[0.9], [0.6], [0.2]])
    assert float(best_thresholds(probs, torch.tensor([[1], [1], [0]]))) == pytest.approx(0.4)
    assert float(best_thresholds(probs, torch.tensor([[1], [1], [1]]))) == pytest.approx(0.1)


def test_of_equal_cuts_that_which_predicts_the_fewest_is_taken() -> None:
    probs = torch.tensor([[0.8], [0.6], [0.4], [0.2]])  # F1 of 2/3 with one and with four
    found = best_thresholds(probs, torch.tensor([[1], [0], [0], [1]]))
    assert float(found) == pytest.approx(0.7)


def test_neighbors_among_floats_are_told_apart() -> None:
    high = torch.tensor(0.3, dtype=torch.float64)
    low = torch.nextafter(high, torch.zeros_like(high))
    probs = torch.stack([high, low]).unsqueeze(1)
    found = best_thresholds(probs, torch.tensor([[1], [0]]))
    assert (probs > found).tolist() == [[True], [False]]


def test_labels_that_never_occur_and_no_samples_keep_one_half() -> None:
    probs, targets = samples(20, 3, seed=1)
    targets[:, 1] = 0
    assert float(best_thresholds(probs, targets)[1]) == 0.5
    assert best_thresholds(probs[:0], targets[:0]).tolist() == [0.5] * 3


def test_a_probability_that_is_none_decides_nothing() -> None:
    probs = torch.tensor([[0.9], [torch.nan], [0.2]])
    assert 0.2 < float(best_thresholds(probs, torch.tensor([[1], [0], [0]]))) < 0.9


def test_few_positive_samples_are_drawn_to_the_cut_of_all_labels() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.3], [0.2, 0.2], [0.1, 0.7]])
    targets = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0]])
    # alone 0.5 (two samples) and 0.15 (one); together 0.75, above which are two of three
    found = fitted_thresholds(probs, targets)
    assert found.tolist() == pytest.approx([(2 * 0.5 + 0.75) / 3, (0.15 + 0.75) / 2])


def test_a_label_without_a_positive_sample_has_the_cut_of_all_labels() -> None:
    probs, targets = samples(50, 3, seed=2)
    targets[:, 1] = 0
    together = float(best_thresholds(probs.reshape(-1, 1), targets.reshape(-1, 1)))
    assert float(fitted_thresholds(probs, targets)[1]) == pytest.approx(together)
    assert fitted_thresholds(probs, torch.zeros_like(targets)).tolist() == [0.5] * 3
    assert fitted_thresholds(probs[:0], targets[:0]).tolist() == [0.5] * 3
