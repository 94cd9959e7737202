from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import dal
from dal.data import initial_labels, iris, make_source
from dal.learners import EstimatorLearner, RoundContext
from dal.models import LogisticRegression as LogisticNetwork
from dal.models import estimators
from dal.query import ExpectedErrorReduction, LookAhead, PoolView, Probs, expected_error_reduction
from dal.task import Multiclass
from dal.train_set import TrainSet
from dal.training.trainer import Trainer

IRIS = make_source(iris(), seed=0)
INPUTS = IRIS.train.take(torch.arange(len(IRIS.train))).double().numpy()
TARGETS = IRIS.train.targets.numpy()
LABELED = np.array([3, 10, 20, 31, 44, 57, 60, 72])
POOL = np.array([i for i in range(0, 105, 7) if i not in LABELED])


def brute_force(make: object, labeled: np.ndarray, num_classes: int = 3) -> list[float]:
    """Roy and McCallum's sum over labels of the pool's mean entropy, one fit at a time."""
    now = make().fit(INPUTS[labeled], TARGETS[labeled])  # type: ignore[operator]
    scores = []
    for x in POOL:
        belief = dict(zip(now.classes_, now.predict_proba(INPUTS[x : x + 1])[0], strict=True))
        expected = 0.0
        for y in range(num_classes):
            rows = [*labeled, x]
            then = make().fit(INPUTS[rows], [*TARGETS[labeled], y])  # type: ignore[operator]
            risk = np.mean([scipy_entropy(p) for p in then.predict_proba(INPUTS[POOL])])
            expected += belief.get(y, 0.0) * float(risk)
        scores.append(-expected)
    return scores


@pytest.mark.parametrize("labeled", [LABELED, LABELED[TARGETS[LABELED] != 1]])
@pytest.mark.parametrize(
    ("model", "make"),
    [
        (estimators.sklearn_logistic_regression, partial(LogisticRegression, max_iter=1000)),
        (
            partial(estimators.naive_bayes, var_smoothing=0.1),
            partial(GaussianNB, var_smoothing=0.1),
        ),
    ],
)
def test_score_is_the_expected_entropy_of_the_pool_by_brute_force(
    model: object, make: object, labeled: np.ndarray
) -> None:
    learner = EstimatorLearner(model, IRIS, Multiclass(3), seed=0)  # type: ignore[arg-type]
    indices = torch.from_numpy(labeled)
    known = TrainSet(indices, IRIS.train.targets[indices], torch.ones(len(indices)))
    learner.fit(known, RoundContext())
    strategy = ExpectedErrorReduction()
    view = learner.scan(torch.from_numpy(POOL), strategy.needs, RoundContext(), known)
    query = strategy.select(view, 1, torch.Generator().manual_seed(0))
    expected = brute_force(make, labeled)
    assert query.pool_scores is not None
    np.testing.assert_allclose(query.pool_scores.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert int(query.indices) == POOL[np.argmax(expected)]


def test_known_answer() -> None:
    probs = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    risk = torch.tensor([[0.2, 0.6], [0.3, 0.0]])
    torch.testing.assert_close(expected_error_reduction(probs, risk), torch.tensor([-0.4, -0.27]))


def test_lowest_expected_risk_is_queried_first() -> None:
    risk = torch.full((5, 3), math.log(3))
    risk[2] = 0.1
    strategy = ExpectedErrorReduction(reference=7)
    results = {Probs(): torch.full((5, 3), 1 / 3), LookAhead(7): risk}
    view = PoolView(torch.arange(5), results, num_total=5, num_classes=3)
    query = strategy.select(view, 1, torch.Generator().manual_seed(0))
    assert query.indices.tolist() == [2]
    assert float(query.pool_scores.min()) >= -math.log(3) - 1e-6  # type: ignore[union-attr]


def test_reference_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"strategy\.reference=0; give at least 1"):
        ExpectedErrorReduction(reference=0)


@pytest.mark.parametrize("model", [LogisticNetwork, estimators.sklearn_logistic_regression])
def test_run_looks_ahead_every_round(model: object) -> None:
    result = dal.run(
        IRIS,
        model,  # type: ignore[arg-type]
        ExpectedErrorReduction(reference=30),
        initial=initial_labels(IRIS.train.targets, seed=0, count=6),
        trainer=Trainer(epochs=20),
        settings=dal.Settings(query_size=2, budget=4, seed=0, candidates=20),
    )
    assert len(result.rows) == 3
    assert all("query/tied" in row for row in result.rows[:-1])
