from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.svm import SVC, LinearSVC

from dal.data.source import Source, Split
from dal.learners import EstimatorLearner, RoundContext
from dal.models import estimators
from dal.models.base import MakeModel
from dal.models.estimators.fitted import behind_winner
from dal.query import Decision, Hyperplane, PoolView, hyperplane
from dal.task import Multiclass
from dal.train_set import TrainSet


def test_two_classes_score_minus_the_distance_whatever_its_sign() -> None:
    values = torch.tensor([[2.0], [-0.5], [0.0], [-3.0]])
    assert hyperplane(values).tolist() == [-2.0, -0.5, 0.0, -3.0]


def test_more_classes_score_minus_the_difference_of_the_two_highest() -> None:
    values = torch.tensor([[3.0, 1.0, -9.0], [-4.0, -1.5, -1.0], [0.0, 2.0, 2.0]])
    assert hyperplane(values).tolist() == [-2.0, -0.5, 0.0]


def source(inputs: torch.Tensor, targets: torch.Tensor, classes: int) -> Source:
    split = Split.of(inputs, targets)
    return Source("points", split, split, None, tuple("abcd"[:classes]))


def test_points_by_hand_are_queried_by_their_distance_to_the_line() -> None:
    # Support vectors at x = -1 and x = 1: the boundary of the linear machine is x = 0.
    inputs = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.3, 5.0], [-0.2, -7.0], [2.5, 0.1]])
    learner = EstimatorLearner(
        lambda shape, classes: SVC(kernel="linear", C=1e6),
        source(inputs, torch.tensor([0, 1, 1, 0, 1]), 2),
        Multiclass(2),
        seed=0,
    )
    learner.fit(TrainSet(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.ones(2)), RoundContext())
    strategy = Hyperplane()
    view = learner.scan(torch.tensor([4, 2, 3]), strategy.needs, RoundContext())
    query = strategy.select(view, 3, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == [3, 2, 4]
    torch.testing.assert_close(query.scores, torch.tensor([-0.2, -0.3, -2.5]))
    assert bool((view[Decision()][:, 0] > 0).equal(torch.tensor([True, True, False])))


TARGETS = torch.arange(90) % 4
INPUTS = (
    torch.randn(90, 3, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(4, 3)[TARGETS]
)


def fitted(
    make: MakeModel, classes: int = 4, extra: torch.Tensor | None = None
) -> EstimatorLearner:
    """Fitted on the first 40 points that have one of the classes; ``extra`` inputs come last."""
    inputs = INPUTS if extra is None else torch.cat([INPUTS, extra])
    targets = torch.cat([TARGETS, torch.zeros(len(inputs) - len(TARGETS), dtype=torch.int64)])
    learner = EstimatorLearner(make, source(inputs, targets, 4), Multiclass(4), seed=0)
    labeled = (TARGETS[:40] < classes).nonzero().squeeze(1)
    learner.fit(TrainSet(labeled, targets[labeled], torch.ones(len(labeled))), RoundContext())
    return learner


def scores(learner: EstimatorLearner, indices: torch.Tensor) -> torch.Tensor:
    return Hyperplane().score(learner.scan(indices, frozenset({Decision()}), RoundContext()))


def test_score_is_that_of_scikit_learns_decision_function() -> None:
    got = scores(fitted(estimators.linear_svm), torch.arange(40, 90))
    machine = LinearSVC(C=1.0, max_iter=10000, random_state=0).fit(INPUTS[:40], TARGETS[:40])
    values = machine.decision_function(INPUTS[40:].double().numpy())
    expected = [sorted(row)[-2] - sorted(row)[-1] for row in values]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


SVM = partial(estimators.svm, gamma=0.5)
POLYNOMIAL = partial(estimators.polynomial_svm, gamma=0.5, degree=2)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize(
    ("make", "pair"),
    [
        (SVM, partial(SVC, kernel="rbf", gamma=0.5)),
        (POLYNOMIAL, partial(SVC, kernel="poly", gamma=0.5, degree=2, coef0=1.0)),
    ],
)
def test_machines_of_pairs_score_by_the_nearest_boundary_of_the_predicted_class(
    make: MakeModel, pair: Callable[[], SVC], classes: int
) -> None:
    """A machine of two classes, fitted by itself, for every pair; they vote."""
    labeled, labels = INPUTS[:40].double().numpy(), TARGETS[:40].numpy()
    others = INPUTS[40:].double().numpy()
    votes = np.zeros((50, classes))
    distances = np.full((50, classes, classes), np.inf)
    for i, j in itertools.combinations(range(classes), 2):
        rows = (labels == i) | (labels == j)
        machine = pair().fit(labeled[rows], labels[rows])
        distances[:, i, j] = distances[:, j, i] = np.abs(machine.decision_function(others))
        votes += np.eye(classes)[machine.predict(others)]
    expected = -distances[np.arange(50), votes.argmax(1)].min(1)
    got = scores(fitted(make, classes), torch.arange(40, 90))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [SVM, POLYNOMIAL])
@pytest.mark.parametrize("ends", list(itertools.combinations(range(4), 2)))
def test_a_sample_on_a_boundary_is_queried_first(make: MakeModel, ends: tuple[int, int]) -> None:
    start, end = (INPUTS[:40][TARGETS[:40] == end].double().mean(0) for end in ends)
    places = torch.linspace(0, 1, 20001, dtype=torch.float64).unsqueeze(1)
    line = (start + places * (end - start)).float()
    predicted = fitted(make).predict(
        Split.of(line, torch.zeros(len(line), dtype=torch.int64)), RoundContext()
    )
    changes = predicted.argmax(1).diff().nonzero().squeeze(1)
    assert len(changes) > 0
    learner = fitted(make, extra=line[changes[:1]])
    view = learner.scan(torch.arange(40, 91), Hyperplane().needs, RoundContext())
    query = Hyperplane().select(view, 1, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == [90]
    assert float(query.scores) == pytest.approx(0, abs=1e-3)


def test_who_wins_most_pairs_has_the_value_zero() -> None:
    # Pairs 01, 02, 12: class 0 beats both; then each beats one, and the first of them wins.
    values = behind_winner(np.array([[2.0, 0.5, -0.1], [1.0, -3.0, 0.2]]), 3)
    assert values.tolist() == [[0.0, -2.0, -0.5], [0.0, -1.0, -3.0]]


def test_labels_of_one_class_make_a_random_query(caplog: pytest.LogCaptureFixture) -> None:
    inputs = torch.arange(12.0).unsqueeze(1)
    data = source(inputs, torch.arange(12) % 2, 2)
    learner = EstimatorLearner(estimators.svm, data, Multiclass(2), seed=0)
    learner.fit(TrainSet(torch.tensor([0]), torch.tensor([1]), torch.ones(1)), RoundContext())
    view = learner.scan(torch.arange(1, 12), Hyperplane().needs, RoundContext())
    with caplog.at_level(logging.WARNING):
        query = Hyperplane().select(view, 2, torch.Generator().manual_seed(0))
    assert "the query is random" in caplog.text
    assert query.info["tied"] == 11


def test_needs_decision_values() -> None:
    view = PoolView(torch.arange(3), {}, num_total=3, num_classes=2)
    with pytest.raises(KeyError, match="Decision"):
        Hyperplane().score(view)
    assert Hyperplane.lower_bound == -float("inf")
