"""BADGE against gradients by autograd and against the exact distribution of k-means++."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor, nn

from dal.query import Badge, Features, PoolView, Probs, Query
from dal.query.badge import gradient_distances, label_errors, output_errors


def view_of(
    probs: Tensor, features: Tensor, total: int | None = None, multilabel: bool = False
) -> PoolView:
    count = len(probs)
    return PoolView(
        torch.arange(count),
        {Probs(): probs, Features(): features},
        num_total=total or count,
        num_classes=probs.shape[1],
        multilabel=multilabel,
    )


def pick(probs: Tensor, features: Tensor, size: int, seed: int = 0) -> Query:
    return Badge().select(view_of(probs, features), size, torch.Generator().manual_seed(seed))


def gradients_by_autograd(features: Tensor, layer: nn.Linear) -> Tensor:
    """Flat gradients of the loss of the predicted class with respect to the last weights."""
    rows = []
    for feature in features:
        logits = layer(feature)
        loss = nn.functional.cross_entropy(logits, logits.argmax())
        rows.append(torch.autograd.grad(loss, layer.weight)[0].flatten())
    return torch.stack(rows)


@pytest.fixture(params=[(2, 0.3), (5, 1.0), (5, 8.0)], ids=["two", "mild", "sure"])
def network(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, features, gradients by autograd, in float64."""
    classes, scale = request.param
    rng = torch.Generator().manual_seed(classes)
    layer = nn.Linear(7, classes, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 7, generator=rng) * scale)
        layer.bias.copy_(torch.randn(classes, generator=rng))
    features = torch.randn(20, 7, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        probs = layer(features).softmax(1)
    return probs, features, gradients_by_autograd(features, layer)


def test_factorised_distances_equal_those_of_gradients(
    network: tuple[Tensor, Tensor, Tensor],
) -> None:
    probs, features, gradients = network
    squares, nearest = gradient_distances(output_errors(probs), features)
    torch.testing.assert_close(squares, gradients.square().sum(1), rtol=1e-9, atol=1e-24)
    want = (gradients.unsqueeze(0) - gradients.unsqueeze(1)).square().sum(-1)
    got = torch.stack([nearest(torch.tensor([position]), None) for position in range(20)])
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-13 * squares.max().item())
    assert bool((got.diagonal() == 0).all())
    several, among = torch.tensor([3, 9, 4]), torch.tensor([1, 9, 15])
    torch.testing.assert_close(nearest(several, None), got[several].amin(0))
    torch.testing.assert_close(nearest(several, among), got[several].amin(0)[among])


def test_first_pick_has_the_longest_gradient(network: tuple[Tensor, Tensor, Tensor]) -> None:
    probs, features, gradients = network
    query = pick(probs, features, 5)
    assert query.indices[0] == gradients.norm(dim=1).argmax()
    torch.testing.assert_close(query.scores, gradients.norm(dim=1)[query.indices])


def test_errors_keep_the_term_of_the_predicted_class() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    want = torch.tensor([[-0.3, 0.2, 0.1], [0.1, 0.3, -0.4]])
    torch.testing.assert_close(output_errors(probs), want)


def test_errors_of_a_confident_network_keep_their_digits() -> None:
    tiny = torch.tensor([1e-12, 3e-25, 1e-30])
    probs = torch.stack([torch.ones(3), tiny, 2 * tiny], 1)
    errors = output_errors(probs)
    torch.testing.assert_close(
        errors, torch.stack([-3 * tiny, tiny, 2 * tiny], 1), atol=0, rtol=1e-6
    )
    features = torch.eye(3)
    query = pick(probs[1:], features[1:], 1)
    assert query.indices.tolist() == [0]
    assert query.scores.item() == pytest.approx(3e-25 * 14**0.5, rel=1e-5)


SMALL_PROBS = torch.tensor(
    [[0.5, 0.3, 0.2], [0.4, 0.5, 0.1], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6], [0.34, 0.33, 0.33]]
)
SMALL_FEATURES = torch.tensor([[1.0, 0.5], [0.3, 1.0], [2.0, 1.0], [-1.0, 0.4], [-1.5, -1.4]])


def exact_pairs(gradients: Tensor, ghost: bool) -> dict[tuple[int, int], float]:
    """Probability of the second and third pick of k-means++ after the longest gradient."""
    squares = gradients.square().sum(1)
    distances = (gradients.unsqueeze(0) - gradients.unsqueeze(1)).square().sum(-1)
    first = int(squares.argmax())
    nearest = distances[first].minimum(squares) if ghost else distances[first]
    found = {}
    for second, third in itertools.permutations(set(range(len(gradients))) - {first}, 2):
        then = nearest.minimum(distances[second])
        found[second, third] = float(nearest[second] / nearest.sum() * then[third] / then.sum())
    return found


def test_draws_follow_k_means_plus_plus_without_the_origin_as_a_center() -> None:
    errors = SMALL_PROBS.double() - torch.eye(3)[SMALL_PROBS.argmax(1)]
    gradients = torch.einsum("nc,nd->ncd", errors, SMALL_FEATURES.double()).flatten(1)
    runs = 1500
    counts = Counter(
        tuple(pick(SMALL_PROBS, SMALL_FEATURES, 3, seed).indices.tolist()[1:])
        for seed in range(runs)
    )
    exact, ghost = (exact_pairs(gradients, ghost) for ghost in (False, True))
    assert sum(exact.values()) == pytest.approx(1)
    observed = [counts[pair] for pair in exact]
    assert sum(observed) == runs
    assert chisquare(observed, [runs * p for p in exact.values()]).pvalue > 0.01
    share = sum(ghost.values())
    assert chisquare(observed, [runs * p / share for p in ghost.values()]).pvalue < 1e-6


def test_copies_are_taken_last_and_once() -> None:
    probs, features = SMALL_PROBS.repeat(3, 1), SMALL_FEATURES.repeat(3, 1)
    for seed in range(10):
        chosen = pick(probs, features, 15, seed).indices
        assert sorted(chosen.tolist()) == list(range(15))
        assert sorted((chosen[:5] % 5).tolist()) == [0, 1, 2, 3, 4]


def test_every_candidate_can_be_picked() -> None:
    seen: set[int] = set()
    for seed in range(200):
        seen |= set(pick(SMALL_PROBS, SMALL_FEATURES, 2, seed).indices.tolist())
    assert seen == set(range(5))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 30),
    classes=st.integers(2, 4),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_picks_are_distinct_and_do_not_depend_on_the_order(
    count: int, classes: int, seed: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, count))
    rng = torch.Generator().manual_seed(seed)
    probs = (5 * torch.randn(count, classes, generator=rng)).softmax(1)
    features = torch.randn(count, 3, generator=rng).relu()
    view = view_of(probs, features, count + 5)
    order = torch.randperm(count, generator=rng)
    shuffled = PoolView(
        order,
        {Probs(): probs[order], Features(): features[order]},
        num_total=count + 5,
        num_classes=classes,
    )
    one, two = (Badge().select(v, size, torch.Generator().manual_seed(1)) for v in (view, shuffled))
    assert len(one.indices.unique()) == size
    assert torch.equal(one.indices, two.indices)


def test_features_may_be_float16_and_memory_mapped(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    count = 20_000
    path = str(tmp_path / "features")
    mapped = torch.from_file(path, shared=True, size=count * 8, dtype=torch.float16).view(count, 8)
    mapped.copy_(torch.randn(count, 8, generator=rng))
    probs = torch.randn(count, 3, generator=rng).softmax(1)
    want = pick(probs, mapped.float(), 20)
    got = pick(probs, mapped, 20)
    assert torch.equal(got.indices, want.indices)
    assert torch.equal(got.scores, want.scores)


@pytest.fixture(params=[0.3, 1.0, 8.0], ids=["unsure", "mild", "sure"])
def label_network(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of 4 labels, features, and gradients by autograd, in float64."""
    rng = torch.Generator().manual_seed(4)
    layer = nn.Linear(7, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 7, generator=rng) * request.param)
        layer.bias.copy_(torch.randn(4, generator=rng))
    features = torch.randn(20, 7, generator=rng, dtype=torch.float64)
    rows = []
    for feature in features:
        logits = layer(feature)
        predicted = (logits > 0).double()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, predicted, reduction="sum")
        rows.append(torch.autograd.grad(loss, layer.weight)[0].flatten())
    with torch.no_grad():
        return layer(features).sigmoid(), features, torch.stack(rows)


def test_gradients_of_several_labels_are_those_of_the_labels_predicted(
    label_network: tuple[Tensor, Tensor, Tensor],
) -> None:
    probs, features, gradients = label_network
    squares, nearest = gradient_distances(label_errors(probs), features)
    torch.testing.assert_close(squares, gradients.square().sum(1), rtol=1e-9, atol=1e-24)
    want = (gradients.unsqueeze(0) - gradients.unsqueeze(1)).square().sum(-1)
    got = torch.stack([nearest(torch.tensor([position]), None) for position in range(20)])
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-13 * squares.max().item())


def test_batches_of_several_labels_follow_k_means_plus_plus() -> None:
    """Of the gradients by autograd; those of one class would be others."""
    rng = torch.Generator().manual_seed(1)
    layer = nn.Linear(2, 3)
    features = torch.randn(5, 2, generator=rng)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 2, generator=rng))
        layer.bias.copy_(torch.tensor([0.5, -1.0, 0.2]))
        probs = layer(features).sigmoid()
    rows = []
    for feature in features:
        logits = layer(feature)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, (logits > 0).float())
        rows.append(torch.autograd.grad(loss, layer.weight)[0].flatten())
    runs, view = 1500, view_of(probs, features, multilabel=True)
    picks: list[list[int]] = [
        Badge().select(view, 3, torch.Generator().manual_seed(seed)).indices.tolist()
        for seed in range(runs)
    ]
    assert {first for first, *_ in picks} == {int(torch.stack(rows).norm(dim=1).argmax())}
    counts = Counter((second, third) for _, second, third in picks)
    exact = exact_pairs(torch.stack(rows).double(), ghost=False)
    assert chisquare([counts[p] for p in exact], [runs * p for p in exact.values()]).pvalue > 0.01


def test_the_gradient_of_the_predicted_labels_is_the_shortest_there_can_be() -> None:
    probs = torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
    sets = itertools.product([0.0, 1.0], repeat=3)
    lengths = torch.stack([(probs - torch.tensor(labels)).norm(dim=1) for labels in sets])
    torch.testing.assert_close(label_errors(probs).norm(dim=1), lengths.amin(0))
