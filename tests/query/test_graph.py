from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dal.query.distances import Points, nearest_points
from dal.query.graph import affinities, components, neighbor_graph, spread


def rows(count: int = 40, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def dense_graph(points: np.ndarray, k: int) -> np.ndarray:
    """S by its definition, with loops."""
    count = len(points)
    one_way = np.zeros((count, count))
    for i in range(count):
        distances = np.linalg.norm(points - points[i], axis=1)
        distances[i] = np.inf
        order = distances.argsort(kind="stable")[:k]
        for j in order:
            one_way[i, j] = np.exp(-((distances[j] / distances[order[-1]]) ** 2))
    both = (one_way + one_way.T) / 2
    degrees = both.sum(1)
    return both / np.sqrt(degrees[:, None] * degrees)


def test_neighbors_weigh_by_how_far_the_farthest_is() -> None:
    found = affinities(torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 3.0]]))
    expected = torch.tensor([[np.exp(-0.25), np.exp(-1)], [1, 1], [1, np.exp(-1)]])
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("k", [1, 4, 39])
def test_a_graph_is_that_of_its_definition(k: int) -> None:
    points = rows()
    graph = neighbor_graph(Points(points), k)
    np.testing.assert_allclose(graph.toarray(), dense_graph(points.double().numpy(), k), atol=1e-5)
    np.testing.assert_allclose(graph.toarray(), graph.toarray().T, rtol=1e-12)


def test_a_graph_is_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, looks = rows(), list[int]()
    whole = neighbor_graph(Points(points), 5).toarray()
    monkeypatch.setattr("dal.query.graph.ROWS", 7)
    blocks = neighbor_graph(Points(points), 5, lambda: looks.append(1)).toarray()
    np.testing.assert_allclose(blocks, whole, atol=1e-6)
    assert len(looks) == 6


def test_more_neighbors_than_samples_and_duplicates() -> None:
    alone = neighbor_graph(Points(rows(1)), 5)
    assert alone.shape == (1, 1)
    assert alone.nnz == 0
    same = neighbor_graph(Points(torch.ones(4, 2)), 9).toarray()
    np.testing.assert_allclose(same, (np.ones((4, 4)) - np.eye(4)) / 3)


def test_parts_of_a_graph() -> None:
    far = torch.cat([rows(10), rows(6) + 1000])
    found = components(neighbor_graph(Points(far), 3))
    assert len(found[:10].unique()) == len(found[10:].unique()) == 1
    assert int(found[0]) != int(found[-1])


def test_features_that_are_not_finite_are_named() -> None:
    bad = rows()
    bad[7, 1] = torch.nan
    with pytest.raises(ValueError, match="of 1 samples, the first is number 7"):
        neighbor_graph(Points(bad, "cosine"), 3)


@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.99])
def test_spreading_is_the_solution_of_zhou_and_others(alpha: float) -> None:
    points = rows()
    graph = neighbor_graph(Points(points), 4)
    labels = np.zeros((40, 3))
    labels[[3, 8, 21], [0, 1, 2]] = 1
    dense = graph.toarray()
    expected = (1 - alpha) * np.linalg.inv(np.eye(40) - alpha * dense) @ labels
    np.testing.assert_allclose(spread(graph, labels, alpha), expected, atol=1e-8)
    slow = labels.copy()
    for _ in range(5000):
        slow = alpha * dense @ slow + (1 - alpha) * labels
    np.testing.assert_allclose(slow, expected, atol=1e-8)


def test_no_labels_spread_to_nothing() -> None:
    graph = neighbor_graph(Points(rows()), 4)
    assert not spread(graph, np.zeros((40, 2)), 0.99).any()


def test_nearest_points_of_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dal.query.distances.MOST_ROWS", 9)
    known, others = rows(), rows(5, seed=1)
    points = Points(known)
    block = points.like(others).take(torch.arange(5))
    distances, positions = nearest_points(block, points, 6)
    expected = torch.cdist(others, known).topk(6, largest=False)
    torch.testing.assert_close(distances, expected.values, rtol=1e-4, atol=1e-4)
    assert torch.equal(positions, expected.indices)
    assert nearest_points(block, points, 99)[0].shape == (5, 40)
