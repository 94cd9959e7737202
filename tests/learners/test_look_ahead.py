from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from dal.data import iris, make_source, two_gaussians
from dal.learners import EstimatorLearner, RoundContext, TorchLearner, look_ahead
from dal.learners.look_ahead import (
    label_pulls,
    last_layer_risk,
    reference_positions,
    retrained_risk,
)
from dal.models import MLP, estimators
from dal.models import LogisticRegression as LogisticNetwork
from dal.query import Features, LookAhead, Probs
from dal.task import Multiclass, Multilabel
from dal.train_set import TrainSet
from dal.training.trainer import Trainer

IRIS = make_source(iris(), seed=0)
MIXED = torch.randperm(len(IRIS.train), generator=torch.Generator().manual_seed(0))
INPUTS = IRIS.train.take(MIXED).double()
TARGETS = IRIS.train.targets[MIXED]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_reference_is_seeded_and_does_not_depend_on_the_order() -> None:
    indices = torch.arange(0, 90, 3)
    first = indices[reference_positions(indices, 12, 90, rng())]
    assert len(first.unique()) == 12
    assert torch.equal(first, first.sort().values)
    order = torch.randperm(len(indices), generator=rng(1))
    again = indices[order][reference_positions(indices[order], 12, 90, rng())]
    assert torch.equal(again, first)
    assert not torch.equal(indices[reference_positions(indices, 12, 90, rng(1))], first)
    assert reference_positions(indices, 500, 90, rng()).tolist() == list(range(30))


def test_reference_that_remains_stays_when_others_leave_the_pool() -> None:
    indices = torch.arange(60)
    before = reference_positions(indices, 20, 60, rng())
    left = indices[~torch.isin(indices, before[:3])]
    after = left[reference_positions(left, 20, 60, rng())]
    assert set(before[3:].tolist()) < set(after.tolist())


def test_retrained_risk_is_that_of_one_fit_after_the_other() -> None:
    inputs, targets = INPUTS.numpy(), TARGETS.numpy()
    pool = np.arange(30, 40)
    weights = np.linspace(0.5, 2, 30)
    risk = retrained_risk(
        LogisticRegression(max_iter=500),
        inputs[:30],
        targets[:30],
        weights,
        inputs[pool],
        inputs[40:60],
        3,
        seed=0,
    )
    for row, label in [(0, 0), (3, 2), (9, 1)]:
        model = LogisticRegression(max_iter=500).fit(
            np.vstack([inputs[:30], inputs[pool[row]]]),
            [*targets[:30], label],
            [*weights, 1.0],
        )
        expected = np.mean([scipy_entropy(p) for p in model.predict_proba(inputs[40:60])])
        assert float(risk[row, label]) == pytest.approx(expected, rel=1e-5)


def test_retrained_risk_leaves_arrays_and_estimator_alone() -> None:
    arrays = [INPUTS[:9].numpy().copy(), INPUTS[9:15].numpy().copy(), INPUTS[15:20].numpy().copy()]
    for array in arrays:
        array.setflags(write=False)
    template = KNeighborsClassifier(1)
    checks: list[int] = []
    targets = TARGETS[:9].numpy().copy()
    risk = retrained_risk(
        template,
        arrays[0],
        targets,
        None,
        arrays[1],
        arrays[2],
        3,
        seed=0,
        check=lambda: checks.append(1),
    )
    assert risk.shape == (6, 3)
    assert not hasattr(template, "classes_")
    assert np.array_equal(targets, TARGETS[:9])
    assert len(checks) == 6


def test_too_many_fits_are_refused_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ahead, "MOST_FITS", 30)
    monkeypatch.setattr(look_ahead, "fit_estimator", None)
    inputs = INPUTS.numpy()
    with pytest.raises(ValueError, match=r"33 times \(11 candidates x 3 labels.*candidates=10"):
        retrained_risk(None, inputs[:9], TARGETS[:9].numpy(), None, inputs[:11], inputs, 3, seed=0)


def test_long_look_ahead_tells_its_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inputs, targets = INPUTS.numpy(), TARGETS.numpy()
    rest = (KNeighborsClassifier(1), inputs[:9], targets[:9], None, inputs[9:15], inputs[15:20], 3)
    with caplog.at_level("INFO"):
        retrained_risk(*rest, seed=0)
        assert not caplog.messages
        monkeypatch.setattr(look_ahead, "TOLD_FROM", 0.0)
        retrained_risk(*rest, seed=0)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "looking ahead fits 18 times"
    ]


def test_learner_draws_the_reference_from_its_seed() -> None:
    known = TrainSet(MIXED[:12], TARGETS[:12], torch.ones(12))
    risks = []
    for seed in (0, 0, 1):
        learner = EstimatorLearner(estimators.naive_bayes, IRIS, Multiclass(3), seed=seed)
        learner.fit(known, RoundContext())
        need = LookAhead(reference=5)
        view = learner.scan(MIXED[20:32], frozenset({need}), RoundContext(), known)
        risks.append(view[need])
    assert torch.equal(risks[0], risks[1])
    assert not torch.equal(risks[0], risks[2])


def make_logistic() -> LogisticRegression:
    return LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10_000)


def with_one(inputs: Tensor) -> Any:
    return np.hstack([inputs.numpy(), np.ones((len(inputs), 1))])


@pytest.mark.parametrize("bias", [True, False])
def test_last_layer_moves_to_the_minimum_of_its_objective(bias: bool) -> None:
    """The definition by brute force: a Hessian by autograd, a minimum over all weights."""
    g = rng(3)
    labeled, pool = torch.randn(7, 2, generator=g), torch.randn(5, 2, generator=g)
    labeled, pool = labeled.double(), pool.double()
    weights = torch.rand(7, generator=g).double()
    head = nn.Linear(2, 3, bias=bias).double()
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, 2, generator=g))
    start = torch.cat([p.detach().flatten() for p in head.parameters()])
    targets = torch.randint(0, 3, (7,), generator=g)

    def logits(flat: Tensor, inputs: Tensor) -> Tensor:
        out = inputs @ flat[:6].view(3, 2).T
        return out + flat[6:] if bias else out

    def loss(flat: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits(flat, labeled), targets, reduction="none")
        return (weights * losses).sum()

    hessian: Tensor = torch.autograd.functional.hessian(loss, start)  # type: ignore[no-untyped-call]
    metric = hessian + 0.7 * torch.eye(len(start), dtype=torch.float64)
    reference = torch.tensor([0, 2, 4])
    got = last_layer_risk(head, pool, reference, labeled, weights, damping=0.7)
    for row in range(5):
        for label in range(3):
            flat = start.clone().requires_grad_()
            optimizer = torch.optim.LBFGS(
                [flat], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
            )

            def closure(
                flat: Tensor = flat, row: int = row, label: int = label, opt: Any = optimizer
            ) -> Tensor:
                opt.zero_grad()
                move = flat - start
                own = nn.functional.cross_entropy(
                    logits(flat, pool[row : row + 1]), torch.tensor([label])
                )
                value = move @ metric @ move / 2 + own
                value.backward()  # type: ignore[no-untyped-call]
                return value

            optimizer.step(closure)  # type: ignore[arg-type]
            probs = logits(flat.detach(), pool[reference]).softmax(1).numpy()
            expected = np.mean([scipy_entropy(p) for p in probs])
            assert float(got[row, label]) == pytest.approx(expected, abs=1e-5)


def layer_objective(
    start: Tensor, metric: Tensor, sample: Tensor, label: int
) -> Callable[[Any], tuple[Any, Any, Any]]:
    """What the last layer minimizes: value, gradient and Hessian at weights and biases (C, D)."""
    classes = len(start)

    def at(flat: Any) -> tuple[Any, Any, Any]:
        weights = flat.reshape(classes, -1)
        move = flat - start.flatten().numpy()
        logits = weights @ sample.numpy()
        probs = scipy_softmax(logits)
        pull = probs - np.eye(classes)[label]
        value = move @ metric.numpy() @ move / 2 - scipy_log_softmax(logits)[label]
        gradient = metric.numpy() @ move + np.outer(pull, sample.numpy()).ravel()
        bend = np.kron(np.diag(probs) - np.outer(probs, probs), np.outer(sample, sample))
        return value, gradient, metric.numpy() + bend

    return at


@pytest.mark.parametrize("norm", [3.0, 80.0, 800.0])
def test_last_layer_moves_to_the_minimum_at_the_norms_of_trained_features(norm: float) -> None:
    """Trained LeNet-5 has features of length 80: plain Newton steps cycle there."""
    g = rng(5)
    features = torch.randn(60, 12, generator=g).double().relu()
    features = features / features.norm(dim=1).mean() * norm
    head = nn.Linear(12, 4).double()
    with torch.no_grad():
        head.weight.copy_(torch.randn(4, 12, generator=g) * 8 / norm)
        head.bias.zero_()
    labeled, pool = features[:10], features[10:]
    reference = torch.arange(0, 50, 2)
    got = last_layer_risk(head, pool, reference, labeled, torch.ones(10).double())
    single = last_layer_risk(
        copy.deepcopy(head).float(), pool.float(), reference, labeled.float(), torch.ones(10)
    )
    torch.testing.assert_close(single.double(), got, atol=2e-4, rtol=0)
    ones = torch.ones(50, 1).double()
    rows, known = torch.cat([pool, ones], 1), torch.cat([labeled, ones[:10]], 1)
    start = torch.cat([head.weight, head.bias.unsqueeze(1)], 1).detach()
    probs = (known @ start.T).softmax(1)
    bends = probs.diag_embed() - probs.unsqueeze(2) * probs.unsqueeze(1)
    metric = torch.einsum("mck,md,me->cdke", bends, known, known).reshape(52, 52)
    metric = metric + torch.eye(52).double()
    for row in range(0, 50, 10):
        for label in range(4):
            at = layer_objective(start, metric, rows[row], label)
            least = scipy_minimize(
                lambda flat, at=at: at(flat)[0],
                start.flatten().numpy(),
                jac=lambda flat, at=at: at(flat)[1],
                hess=lambda flat, at=at: at(flat)[2],
                method="trust-exact",
                options={"gtol": 1e-9, "maxiter": 5000},
            )
            logits = rows[reference].numpy() @ least.x.reshape(4, 13).T
            expected = scipy_entropy(scipy_softmax(logits, axis=1), axis=1).mean()
            assert float(got[row, label]) == pytest.approx(expected, abs=1e-6)


def test_moves_toward_a_label_converge_from_anywhere() -> None:
    """The condition of the minimum, for logits and covariances far beyond those of networks."""
    g = rng(6)
    logits = torch.randn(40, 6, generator=g).double() * torch.logspace(-1, 3, 40).unsqueeze(1)
    root = torch.randn(40, 6, 6, generator=g).double()
    covariance = root @ root.mT * torch.logspace(-3, 6, 40).flip(0).view(-1, 1, 1)
    pulls = label_pulls(logits, covariance)
    probs = (logits.unsqueeze(1) + pulls @ covariance).softmax(-1)
    torch.testing.assert_close(pulls, torch.eye(6).double() - probs, atol=1e-6, rtol=0)


def test_moves_that_do_not_converge_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(look_ahead, "ITERATIONS", 1)
    label_pulls(
        torch.tensor([[9.0, -9.0], [0.0, 0.0]]).double(),
        (torch.eye(2) * 50).double().expand(2, 2, 2),
    )
    assert "have not converged" in caplog.text


@pytest.mark.parametrize("count", [15, 40])
def test_last_layer_risk_is_close_to_fitting_again(count: int) -> None:
    """Exact for the candidate's loss, a quadratic for the others: close where W is the optimum."""
    ranks = []
    for seed in range(2):
        order = torch.randperm(len(INPUTS), generator=rng(seed))
        labeled, pool = order[:count], order[count : count + 40]
        model = make_logistic().fit(with_one(INPUTS[labeled]), TARGETS[labeled].numpy())
        head = nn.Linear(4, 3).double()
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(model.coef_[:, :-1]))
            head.bias.copy_(torch.from_numpy(model.coef_[:, -1]))
        exact = retrained_risk(
            make_logistic(),
            with_one(INPUTS[labeled]),
            TARGETS[labeled].numpy(),
            None,
            with_one(INPUTS[pool]),
            with_one(INPUTS[pool]),
            3,
            seed=0,
        ).numpy()
        ours = last_layer_risk(
            head, INPUTS[pool], torch.arange(40), INPUTS[labeled], torch.ones(count)
        ).numpy()
        assert spearmanr(ours.flatten(), exact.flatten()).statistic > 0.95
        assert np.abs(ours - exact).mean() < 0.03
        # Weighed by the model's belief the likely labels count, and there it is better still.
        belief = model.predict_proba(with_one(INPUTS[pool]))
        expected, got = (belief * exact).sum(1), (belief * ours).sum(1)
        assert np.abs(got - expected).max() < 0.01
        assert np.argmin(got) in np.argsort(expected)[:10]
        ranks.append(spearmanr(got, expected).statistic)
    assert np.mean(ranks) > 0.7


def test_last_layer_risk_by_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    head = nn.Linear(6, 4)
    features, labeled = torch.randn(50, 6, generator=rng()), torch.randn(9, 6, generator=rng(1))
    run = partial(last_layer_risk, head, features, torch.arange(0, 50, 2), labeled, torch.ones(9))
    checks: list[int] = []
    whole = run(check=lambda: checks.append(1))
    assert len(checks) == 1
    monkeypatch.setattr(look_ahead, "BLOCK_NUMBERS", 4 * 4 * 25 * 3)
    torch.testing.assert_close(run(check=lambda: checks.append(1)), whole)
    assert len(checks) == 1 + 17
    assert whole.dtype == torch.float32
    assert bool(((whole >= 0) & (whole <= np.log(4) + 1e-6)).all())


def test_last_layer_risk_is_finite_for_extreme_features() -> None:
    head = nn.Linear(3, 4)
    features = torch.tensor([[1e4, 0, 0], [0, 0, 0], [-1e4, 1e4, 1]])
    risk = last_layer_risk(head, features, torch.arange(3), features, torch.ones(3))
    assert bool(torch.isfinite(risk).all())


@pytest.mark.parametrize("make", [partial(MLP, hidden=[8]), LogisticNetwork])
def test_networks_look_ahead_whatever_the_order_and_stay_as_they_are(make: Any) -> None:
    learner = TorchLearner(
        make, Trainer(epochs=5), IRIS, Multiclass(3), seed=0, device=torch.device("cpu")
    )
    known = TrainSet(MIXED[:15], TARGETS[:15], torch.ones(15))
    learner.fit(known, RoundContext())
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    need = LookAhead(reference=10)
    indices = MIXED[20:60].sort().values
    needs = frozenset({need, Probs()})
    want = learner.scan(indices, needs, RoundContext(), known)
    order = torch.randperm(40, generator=rng())
    got = learner.scan(indices[order], needs, RoundContext(), known)
    assert torch.equal(got[need], want[need][order])
    after = learner.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    with pytest.raises(KeyError, match="Features"):
        want[Features()]
    other = learner.scan(indices, needs, RoundContext(1), known)
    assert not torch.equal(other[need], want[need])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(MLP, hidden=[3000]), "has 6002 weights in its last layer, and more than 6000"),
        (lambda shape, classes: nn.Linear(shape[0], classes), "no last linear layer named head"),
    ],
)
def test_networks_that_cannot_look_ahead_are_refused_with_the_reason(
    make: Any, reason: str
) -> None:
    source = make_source(two_gaussians(30), seed=0)
    learner = TorchLearner(
        make, Trainer(), source, Multiclass(2), seed=0, device=torch.device("cpu")
    )
    with pytest.raises(TypeError, match=rf"Wanted looks ahead .* {reason}"):
        learner.check_needs(frozenset({LookAhead()}), "Wanted")


def test_several_labels_a_sample_have_no_look_ahead() -> None:
    learner = TorchLearner(MLP, Trainer(), IRIS, Multilabel(3), seed=0, device=torch.device("cpu"))
    assert LookAhead not in learner.capabilities
