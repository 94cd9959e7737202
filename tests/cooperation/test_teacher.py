"""What labels that spread say of the candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dal.cooperation import FixedThreshold, ModelItself, Propagation
from dal.query import Features, PoolView, Probs
from dal.train_set import TrainSet

PLACES = torch.tensor([7, 0, 3])  # of the labeled ones, in the order of their answers
CLASSES = torch.tensor([2, 0, 2])


def points(count: int = 14) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(1))


def view_of(rows: Tensor, places: Tensor = PLACES) -> PoolView:
    """All points but those at places are candidates."""
    left = torch.arange(len(rows))[~torch.isin(torch.arange(len(rows)), places)]
    results = {Features(): rows[left], Features("labeled"): rows[places]}
    return PoolView(left, results, num_total=len(rows), num_classes=3)


def answers(places: Tensor = PLACES, classes: Tensor = CLASSES) -> TrainSet:
    return TrainSet(places, classes, torch.ones(len(places)))


def by_definition(rows: np.ndarray, k: int, alpha: float) -> np.ndarray:
    """(I - alpha S) F = Y, solved; each class spreads as much as any other."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    one_way = np.zeros_like(distances)
    for i, row in enumerate(distances):
        near = np.argsort(row)[:k]
        one_way[i, near] = np.exp(-((row[near] / row[near[-1]]) ** 2))
    both = (one_way + one_way.T) / 2
    degrees = both.sum(1)
    similar = both / np.sqrt(np.outer(degrees, degrees))
    labels = np.zeros((len(rows), 3))
    for place, one in zip(PLACES.tolist(), CLASSES.tolist(), strict=True):
        labels[place, one] = 1 / (one == CLASSES).sum()
    reached = np.linalg.solve(np.eye(len(rows)) - alpha * similar, labels)
    return np.asarray(reached / reached.sum(1, keepdims=True))


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.95), (13, 0.5)])
def test_probabilities_solve_the_equation(k: int, alpha: float) -> None:
    rows, view = points(), view_of(points())
    teacher = Propagation(k, alpha, "euclidean")
    found = teacher.probs(view, answers(), lambda: None)
    expected = by_definition(rows.double().numpy(), k, alpha)[view.indices.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_model_itself_is_what_it_predicts() -> None:
    probs = torch.rand(5, 3)
    view = PoolView(torch.arange(5), {Probs(): probs}, num_total=9, num_classes=3)
    assert ModelItself().probs(view, answers(), lambda: None) is probs


def test_answers_of_one_class_tell_nothing() -> None:
    found = Propagation(4).probs(view_of(points()), answers(classes=0 * CLASSES), lambda: None)
    torch.testing.assert_close(found, torch.full((11, 3), 1 / 3))


def test_nothing_is_guessed_where_no_label_comes() -> None:
    rows = torch.cat([points(), points(6) + 1000])
    found = Propagation(4, distance="euclidean").probs(view_of(rows), answers(), lambda: None)
    torch.testing.assert_close(found[11:], torch.tensor([[0.5, 0.0, 0.5]]).expand(6, 3))
    guesses = FixedThreshold(0.51, per_answer=None).choose(found, None, torch.ones(3).long())
    assert len(guesses.places) > 0
    assert int(guesses.places.max()) < 11


def test_signals_are_looked_for_between_blocks() -> None:
    looks: list[int] = []
    Propagation(4).probs(view_of(points()), answers(), lambda: looks.append(1))
    assert len(looks) > 2


def test_features_that_are_not_finite_are_named() -> None:
    for bad in (3, 5):  # labeled, and a candidate
        rows = points()
        rows[bad, 1] = torch.nan
        with pytest.raises(ValueError, match=f"Propagation was given features.*sample {bad};"):
            Propagation(4).probs(view_of(rows), answers(), lambda: None)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"neighbors": 0}, "cooperative.teacher.neighbors=0"),
        ({"alpha": 1.0}, "cooperative.teacher.alpha=1"),
        ({"distance": "far"}, "choose euclidean, cosine, pearson"),
    ],
)
def test_settings_out_of_range(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Propagation(**options)  # type: ignore[arg-type]
