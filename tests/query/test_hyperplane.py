from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from dal.data.source import Source, Split
from dal.learners import EstimatorLearner, RoundContext
from dal.models import estimators
from dal.pool import TrainSet
from dal.query import Decision, Hyperplane, PoolView, hyperplane
from dal.task import Multiclass


def test_two_classes_score_minus_the_distance_whatever_its_sign() -> None:
    values = torch.tensor([[2.0], [-0.5], [0.0], [-3.0]])
    assert hyperplane(values).tolist() == [-2.0, -0.5, 0.0, -3.0]


def test_more_classes_score_minus_the_difference_of_the_two_highest() -> None:
    values = torch.tensor([[3.0, 1.0, -9.0], [-4.0, -1.5, -1.0], [0.0, 2.0, 2.0]])
    assert hyperplane(values).tolist() == [-2.0, -0.5, 0.0]


def source(inputs: torch.Tensor, targets: torch.Tensor, classes: int) -> Source:
    split = Split(inputs, targets)
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


@pytest.mark.parametrize("make", [estimators.svm, estimators.linear_svm])
def test_score_is_that_of_scikit_learns_decision_function(make: object) -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.arange(90) % 4
    inputs = torch.randn(90, 3, generator=rng) + 2 * torch.eye(4, 3)[targets]
    learner = EstimatorLearner(make, source(inputs, targets, 4), Multiclass(4), seed=0)  # type: ignore[arg-type]
    learner.fit(TrainSet(torch.arange(40), targets[:40], torch.ones(40)), RoundContext())
    view = learner.scan(torch.arange(40, 90), frozenset({Decision()}), RoundContext())
    values = learner._model.estimator.decision_function(inputs[40:].double().numpy())
    expected = [sorted(row)[-2] - sorted(row)[-1] for row in values]
    np.testing.assert_allclose(Hyperplane().score(view), expected, rtol=1e-4, atol=1e-6)


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
