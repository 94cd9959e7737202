from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor

from dal.models.base import build_model
from dal.models.label_propagation import LabelPropagation, Spread, spread_labels
from dal.query.distances import Points
from dal.query.graph import neighbor_graph, spread


def blobs(count: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three classes that overlap: float32, (3 count, 2), and their classes."""
    rng = torch.Generator().manual_seed(seed)
    targets = torch.arange(3).repeat_interleave(count)
    centers = torch.tensor([[0.0, 0], [3, 0], [0, 3]])
    return centers[targets] + torch.randn(3 * count, 2, generator=rng), targets


POINTS, TARGETS = blobs()
GRAPH = neighbor_graph(Points(POINTS), 8)


def spread_from(places: list[int], graph: object = GRAPH, **options: object) -> Spread:
    where = torch.tensor(places)
    targets = TARGETS[where]
    return spread_labels(graph, where, targets, torch.ones(len(where)), 3, **options)  # type: ignore[arg-type]


def test_probabilities_are_those_of_scikit_learn() -> None:
    places, dense = [4, 40, 70], GRAPH.toarray()
    known = np.full(90, -1)
    known[places] = TARGETS[places]
    model = LabelSpreading(kernel=lambda a, b: dense, alpha=0.9, max_iter=20000, tol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.arange(90)[:, None], known)
    sums = dense.sum(1)  # by which it normalizes what the kernel gives
    again = csr_array(dense / np.sqrt(sums[:, None] * sums))
    found = spread_from(places, again, alpha=0.9)
    assert found.power == 1.0
    np.testing.assert_allclose(found.probs.numpy(), model.label_distributions_, atol=1e-5)


def test_a_label_weighs_as_much_as_so_many_of_its_class_and_no_class_more_than_others() -> None:
    where, targets = torch.tensor([4, 5, 40]), torch.tensor([0, 0, 1])
    once = spread_labels(GRAPH, where, targets, torch.tensor([1.0, 2.0, 7.0]), 3)
    labels = np.zeros((90, 2))
    labels[[4, 5, 40], [0, 0, 1]] = 1 / 3, 2 / 3, 1
    reached = spread(GRAPH, labels, 0.95)
    expected = reached / reached.sum(1, keepdims=True)
    np.testing.assert_allclose(once.probs[:, :2].numpy(), expected, atol=1e-4)
    assert bool((once.probs[:, 2] == 0).all())


def test_parts_without_a_label_are_counted_and_undecided() -> None:
    far = torch.cat([POINTS, POINTS[:20] + 1000])
    graph = neighbor_graph(Points(far), 5)
    found = spread_from([4, 40], graph)
    assert found.unreached == 20
    assert found.parts >= 1
    torch.testing.assert_close(found.probs[90:], torch.tensor([[0.5, 0.5, 0.0]]).expand(20, 3))
    torch.testing.assert_close(found.probs.sum(1), torch.ones(110))


def test_classes_are_equally_frequent_where_it_is_said() -> None:
    lone = torch.cat([torch.arange(30), torch.arange(30, 90, 3)])  # the first is more frequent
    graph = neighbor_graph(Points(POINTS[lone]), 8)
    where, targets = torch.tensor([4, 33, 44]), TARGETS[lone][[4, 33, 44]]
    assert targets.tolist() == [0, 1, 2]
    free, equal = (
        spread_labels(graph, where, targets, torch.ones(3), 3, balanced=flag)
        for flag in (False, True)
    )
    assert float((free.probs.mean(0) - 1 / 3).abs().max()) > 0.015
    torch.testing.assert_close(equal.probs.mean(0), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)


def test_they_are_as_frequent_after_the_power_that_labels_ask_for() -> None:
    where = torch.tensor([1, 5, 9, 13, 22, 33, 44, 50, 61, 72, 88])
    found = spread_from(where.tolist(), alpha=0.99, balanced=True)
    assert abs(np.log(found.power)) > 0.2
    torch.testing.assert_close(found.probs.mean(0), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_power_makes_labels_probable_that_were_left_out(
    one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_by_one:
        monkeypatch.setattr("dal.models.label_propagation.ONE_BY_ONE", 3)
        monkeypatch.setattr("dal.models.label_propagation.AT_ONCE", 200)  # two columns at a time
    places = [1, 5, 9, 33, 44, 50, 61, 72, 88, 13, 47, 68]
    found = spread_from(places)
    groups = np.arange(12) % (12 if one_by_one else 5)
    held = []
    for group in range(groups.max() + 1):  # by spreading the others alone
        labels = np.zeros((90, 3))
        for place in np.array(places)[groups != group]:
            labels[place, TARGETS[place]] = 1
        reached = spread(GRAPH, labels / labels.sum(0), 0.95)
        held += [(place, reached[place]) for place in np.array(places)[groups == group]]

    def loss(power: float) -> float:
        total = np.log(power) ** 2 / 2
        for place, reached in held:
            shares = (np.maximum(reached, 0) + 1e-10) ** power
            total -= np.log(shares[TARGETS[place]] / shares.sum())
        return float(total)

    grid = np.exp(np.linspace(np.log(0.25), np.log(8), 81))
    assert found.power == pytest.approx(grid[np.argmin([loss(p) for p in grid])])
    whole = np.zeros((90, 3))
    whole[places, TARGETS[places]] = 1
    shares = (spread(GRAPH, whole / whole.sum(0), 0.95) + 1e-10) ** found.power
    expected = shares / shares.sum(1, keepdims=True)
    np.testing.assert_allclose(found.probs.numpy(), expected, atol=1e-5)


def test_probabilities_are_calibrated_on_what_labels_say() -> None:
    """Confidence is near accuracy, where the labels are drawn at random."""
    points, targets = blobs(400)
    graph = neighbor_graph(Points(points), 15)
    places = torch.randperm(1200, generator=torch.Generator().manual_seed(1))[:60]
    found = spread_labels(graph, places, targets[places], torch.ones(60), 3)
    others = torch.ones(1200, dtype=torch.bool)
    others[places] = False
    sure, guess = found.probs[others].max(1)
    right = (guess == targets[others]).double().mean()
    assert float(sure.mean()) == pytest.approx(float(right), abs=0.06)


def fitted(distance: str = "euclidean", neighbors: int = 4) -> LabelPropagation:
    model = LabelPropagation((2,), 3, neighbors=neighbors, distance=distance)
    model.take(POINTS, spread_from([4, 40, 70]).probs)
    return model


def test_new_samples_are_the_mean_of_their_neighbors() -> None:
    model, new = fitted(), blobs(2, seed=5)[0]
    output = model(new)
    for row, point in enumerate(new):
        distances = (POINTS - point).norm(dim=1)
        near = distances.argsort()[:4]
        weights = torch.exp(-((distances[near] / distances[near[-1]]) ** 2))
        expected = (weights[:, None] * model.probs[near]).sum(0) / weights.sum()
        torch.testing.assert_close(output.logits[row].exp(), expected, rtol=1e-4, atol=1e-6)
    assert output.features is not None
    assert torch.equal(output.features, new)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "pearson"])
def test_weights_come_back_whatever_the_number_of_samples(distance: str) -> None:
    model, new = fitted(distance), blobs(3, seed=5)[0]
    other = LabelPropagation((2,), 3, neighbors=4, distance=distance)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(new).logits, other(new).logits)


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": torch.zeros(90, 5)},
        {"nodes": torch.zeros(80, 2)},
        {"probs": torch.zeros(90, 4)},
        {"probs": torch.zeros(90, 3, dtype=torch.int64)},
        {"nodes": torch.zeros(0, 2), "probs": torch.zeros(0, 3)},
    ],
)
def test_weights_of_another_shape_are_refused(change: dict[str, Tensor]) -> None:
    state = fitted().state_dict() | change
    with pytest.raises(ValueError, match="probabilities"):
        LabelPropagation((2,), 3).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"neighbors": 0}, ValueError, "model.neighbors=0"),
        ({"alpha": 1.0}, ValueError, "model.alpha=1.0"),
        ({"alpha": 0.0}, ValueError, "model.alpha=0.0"),
        ({"distance": "taxi"}, ValueError, "cosine"),
    ],
)
def test_settings_out_of_range(options: dict[str, object], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        LabelPropagation((2,), 3, **options)  # type: ignore[arg-type]


def test_samples_by_name_are_refused() -> None:
    with pytest.raises(TypeError, match="label_propagation takes one tensor"):
        build_model(LabelPropagation, {"a": (2,), "b": (3,)}, 3)
