"""Scores and selections equal those of other libraries, of functions known to be right.

Each library's tests are skipped where it cannot be imported; most come with the extra ``bench``.
Left out are functions of theirs that compute something else: scikit-activeml's BADGE up to 1.0.1
keeps the origin as a center, modAL's variation ratio and mean entropy of passes are other scores.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dal.query import (
    BALD,
    BatchBALD,
    ConsensusEntropy,
    CoreSet,
    Entropy,
    Features,
    LeastConfidence,
    Margin,
    Members,
    PoolView,
    Probs,
    ScoreStrategy,
    bald,
    consensus_entropy,
    entropy,
    least_confidence,
    margin,
    max_disagreement,
    mean_std,
    variation_ratio,
    vote_entropy,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own are not ours to mend

SIZE, MEMBERS, CLASSES = 2000, 20, 10


def committee(
    size: int = SIZE, members: int = MEMBERS, classes: int = CLASSES, seed: int = 0
) -> Tensor:
    """Members that agree on some samples and not on others: float64, (K, N, C), all positive."""
    rng = torch.Generator().manual_seed(seed)
    common = 2 * torch.randn(size, classes, generator=rng, dtype=torch.float64)
    spread = 2 * torch.rand(size, 1, generator=rng, dtype=torch.float64)
    own = torch.randn(members, size, classes, generator=rng, dtype=torch.float64)
    return (common + spread * own).softmax(-1)


def probabilities() -> Tensor:
    """Float64, (N, C), among them certain samples and undecided ones."""
    probs_NC = committee()[0]
    probs_NC[:10] = torch.eye(CLASSES, dtype=torch.float64)
    probs_NC[10:20] = 1 / CLASSES
    return probs_NC


def samples_first(members_KNC: Tensor) -> np.ndarray:
    return members_KNC.transpose(0, 1).contiguous().numpy()


def members_last(members_KNC: Tensor) -> np.ndarray:
    return members_KNC.permute(1, 2, 0).contiguous().numpy()


def assert_equal(ours: Tensor, theirs: Any, atol: float = 1e-12) -> None:
    theirs = torch.as_tensor(np.asarray(theirs, dtype=np.float64))
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=atol)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def skactiveml() -> ModuleType:
    return pytest.importorskip("skactiveml.pool")


@pytest.fixture
def redux() -> ModuleType:
    return pytest.importorskip("batchbald_redux.batchbald")


@pytest.fixture
def baal() -> ModuleType:
    return pytest.importorskip("baal.active.heuristics")


@pytest.fixture
def alipy() -> ModuleType:
    return pytest.importorskip("alipy.query_strategy")


def test_uncertainty_equals_scikit_activeml(skactiveml: ModuleType) -> None:
    probs_NC = probabilities()

    def theirs(method: str) -> np.ndarray:
        return skactiveml.uncertainty_scores(probs_NC.numpy(), method=method)

    assert_equal(least_confidence(probs_NC), theirs("least_confident"))
    assert_equal(1 + margin(probs_NC), theirs("margin_sampling"))
    assert_equal(entropy(probs_NC), theirs("entropy"))


def test_votes_equal_scikit_activeml(skactiveml: ModuleType) -> None:
    members_KNC = committee()
    votes_NK = members_KNC.argmax(-1).T.numpy()
    theirs = skactiveml.vote_entropy(votes_NK, np.arange(CLASSES))
    assert_equal(vote_entropy(members_KNC), theirs)
    assert_equal(variation_ratio(members_KNC), skactiveml.variation_ratios(votes_NK))


def test_mean_divergence_equals_scikit_activeml(skactiveml: ModuleType) -> None:
    """Theirs raises probabilities to 1e-7 first."""
    members_KNC = committee()
    theirs = skactiveml.average_kl_divergence(members_KNC.numpy().copy())  # overwrites its input
    assert_equal(max_disagreement(members_KNC), theirs, atol=1e-6)


def test_bald_equals_scikit_activeml(skactiveml: ModuleType) -> None:
    """Theirs raises probabilities to 1e-7 first."""
    members_KNC = committee()
    theirs = skactiveml.batch_bald(members_KNC.numpy().copy(), 1)[0]
    assert_equal(bald(members_KNC), theirs, atol=1e-6)


@pytest.mark.parametrize("labeled", [1, 20])
def test_core_set_sequence_equals_scikit_activeml(skactiveml: ModuleType, labeled: int) -> None:
    rows = torch.randn(SIZE + labeled, 32, generator=rng())
    results = {Features(): rows[:SIZE], Features("labeled"): rows[SIZE:]}
    view = PoolView(torch.arange(SIZE), results, num_total=SIZE + labeled, num_classes=CLASSES)
    y = np.full(SIZE + labeled, np.nan)
    y[SIZE:] = 0
    X = rows.double().numpy()
    theirs = skactiveml.CoreSet(random_state=0).query(X, y, batch_size=100)
    assert CoreSet().select(view, 100, rng()).indices.tolist() == theirs.tolist()


def test_bald_equals_batchbald_redux(redux: ModuleType) -> None:
    members_KNC = committee()
    logs_NKC = torch.from_numpy(samples_first(members_KNC)).log()
    theirs = redux.compute_entropy(logs_NKC) - redux.compute_conditional_entropy(logs_NKC)
    assert_equal(bald(members_KNC), theirs)
    view = PoolView(
        torch.arange(SIZE), {Members(): members_KNC}, num_total=SIZE, num_classes=CLASSES
    )
    batch = redux.get_bald_batch(logs_NKC, 50)
    assert BALD().select(view, 50, rng()).indices.tolist() == batch.indices


def joint_information(members_KNC: Tensor, batch: list[int]) -> float:
    """Mutual information of the batch's labels and the member, over all outcomes, in nats."""
    outcomes_KM = torch.ones(len(members_KNC), 1, dtype=torch.float64)
    for position in batch:
        outcomes_KM = (outcomes_KM[:, :, None] * members_KNC[:, None, position]).flatten(1)
    noise = torch.special.entr(members_KNC[:, batch]).sum() / len(members_KNC)
    return float(torch.special.entr(outcomes_KM.mean(0)).sum() - noise)


def select_jointly(members_KNC: Tensor, size: int, samples: int) -> tuple[list[int], Tensor, int]:
    count, classes = members_KNC.shape[1:]
    view = PoolView(
        torch.arange(count), {Members(): members_KNC}, num_total=count, num_classes=classes
    )
    query = BatchBALD(samples).select(view, size, rng())
    return query.indices.tolist(), query.scores, query.info["exact"]


@pytest.mark.parametrize("seed", range(2))
def test_batchbald_equals_batchbald_redux_where_both_are_exact(
    redux: ModuleType, seed: int
) -> None:
    members_KNC = committee(60, 10, 4, seed)
    picks, gains, exact = select_jointly(members_KNC, 5, 10_000)
    assert exact == 5
    logs_NKC = members_KNC.transpose(0, 1).log()
    theirs = redux.get_batchbald_batch(logs_NKC, 5, 10_000, dtype=torch.double)
    assert picks == theirs.indices
    assert_equal(gains.cumsum(0), theirs.scores, atol=1e-7)  # ours leaves out shares below 1e-9


def test_batchbald_equals_batchbald_redux_within_sampling_error(redux: ModuleType) -> None:
    """The information of our batch by their samples; that of their batch beside ours."""
    members_KNC, size, samples = committee(60, 10, 4, seed=3), 8, 1000
    picks, gains, exact = select_jointly(members_KNC, size, samples)
    assert exact < size, "outcomes of the last picks are drawn"
    noise = torch.special.entr(members_KNC[:, picks]).sum() / len(members_KNC)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sample = redux.joint_entropy.SampledJointEntropy.sample
        probs_NKC = members_KNC[:, picks].transpose(0, 1)
        drawn = torch.stack([sample(probs_NKC, samples).compute() - noise for _ in range(100)])
        logs_NKC = members_KNC.transpose(0, 1).log()
        theirs = redux.get_batchbald_batch(logs_NKC, size, samples, dtype=torch.double)
    once = float(drawn.std())  # standard error of one estimate of theirs
    ours, other = (joint_information(members_KNC, batch) for batch in (picks, theirs.indices))
    assert float(gains.sum()) == pytest.approx(ours, abs=0.01)
    assert float(drawn.mean()) == pytest.approx(float(gains.sum()), abs=3 * once / 10)
    assert theirs.scores[-1] == pytest.approx(float(gains.sum()), abs=3 * once)
    assert picks[:exact] == theirs.indices[:exact]
    assert ours >= other - 0.01, "what their batch tells"


def test_bald_and_consensus_entropy_equal_baal(baal: ModuleType) -> None:
    members_KNC = committee()
    members_KNC[:, :10] = torch.eye(CLASSES, dtype=torch.float64)
    stacked = members_last(members_KNC)
    assert_equal(bald(members_KNC), baal.BALD().compute_score(stacked))
    assert_equal(consensus_entropy(members_KNC), baal.Entropy().compute_score(stacked))


@pytest.mark.parametrize(
    ("strategy", "name"),
    [(Entropy(), "Entropy"), (Margin(), "Margin"), (LeastConfidence(), "Certainty")],
)
def test_selection_by_uncertainty_equals_baal(
    baal: ModuleType, strategy: ScoreStrategy, name: str
) -> None:
    probs_NC = committee()[0]
    view = PoolView(torch.arange(SIZE), {Probs(): probs_NC}, num_total=SIZE, num_classes=CLASSES)
    theirs = getattr(baal, name)()(probs_NC.numpy())[:100]
    assert strategy.select(view, 100, rng()).indices.tolist() == theirs.tolist()


@pytest.mark.parametrize(("strategy", "name"), [(BALD(), "BALD"), (ConsensusEntropy(), "Entropy")])
def test_selection_by_committee_equals_baal(
    baal: ModuleType, strategy: ScoreStrategy, name: str
) -> None:
    members_KNC = committee()
    view = PoolView(
        torch.arange(SIZE), {Members(): members_KNC}, num_total=SIZE, num_classes=CLASSES
    )
    theirs = getattr(baal, name)()(members_last(members_KNC))[:100]
    assert strategy.select(view, 100, rng()).indices.tolist() == theirs.tolist()


class Given:
    """A fitted classifier that looks up its probabilities by number of sample."""

    def __init__(self, probs_NC: np.ndarray) -> None:
        self.probs_NC = probs_NC
        self.classes_ = np.arange(probs_NC.shape[1])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.probs_NC[X[:, 0]]

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.predict_proba(X).argmax(1)


def test_consensus_and_vote_entropy_equal_modal() -> None:
    models = pytest.importorskip("modAL.models")
    disagreement = pytest.importorskip("modAL.disagreement")
    members_KNC = committee()
    members_KNC[:, :10] = torch.eye(CLASSES, dtype=torch.float64)
    learners = [models.ActiveLearner(estimator=Given(member.numpy())) for member in members_KNC]
    theirs = models.Committee(learner_list=learners)
    X = np.arange(SIZE)[:, None]
    assert_equal(consensus_entropy(members_KNC), disagreement.consensus_entropy(theirs, X))
    assert_equal(vote_entropy(members_KNC), disagreement.vote_entropy(theirs, X))


def test_bald_and_mean_std_equal_modal() -> None:
    dropout = pytest.importorskip("modAL.dropout")  # needs skorch
    members_KNC = committee()
    members_KNC[:, :10] = torch.eye(CLASSES, dtype=torch.float64)
    passes = [member.numpy() for member in members_KNC]
    assert_equal(bald(members_KNC), dropout._bald_divergence(passes))
    assert_equal(mean_std(members_KNC), dropout._mean_standard_deviation(passes))


def test_committee_scores_equal_alipy(alipy: ModuleType) -> None:
    """Theirs adds 1e-9 to what it takes the logarithm of, and does not divide by K."""
    members_KNC = committee(200)
    qbc = alipy.QueryInstanceQBC
    divergence = qbc.calc_avg_KL_divergence([member.numpy() for member in members_KNC])
    assert_equal(max_disagreement(members_KNC), np.array(divergence) / MEMBERS, atol=2e-8)
    votes = [votes_N.numpy() for votes_N in members_KNC.argmax(-1)]
    assert_equal(vote_entropy(members_KNC), qbc.calc_vote_entropy(votes), atol=2e-8)


def test_entropy_equals_alipy(alipy: ModuleType) -> None:
    """Theirs adds 1e-9 to what it takes the logarithm of."""
    probs_NC = probabilities()
    theirs = alipy.QueryInstanceUncertainty.calc_entropy(probs_NC.numpy())
    assert_equal(entropy(probs_NC), theirs, atol=2e-8)
