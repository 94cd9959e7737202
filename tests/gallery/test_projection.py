"""Principal components against the eigenvectors of the covariance; how far predictions moved."""

from __future__ import annotations

import numpy as np
import torch

from dal.gallery.projection import Pca, map_of, spread, unrest

ROWS = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).double() @ torch.diag(
    torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1]).double()
) + torch.arange(5.0)


def test_components_are_eigenvectors_of_the_covariance() -> None:
    pca = Pca.of(ROWS)
    values, vectors = np.linalg.eigh(np.cov(ROWS.numpy().T))
    for place in range(2):
        expected = vectors[:, -1 - place]
        assert abs(float(pca.components[place].numpy() @ expected)) > 1 - 1e-10
        assert pca.components[place].abs().max() == pca.components[place].max()
    np.testing.assert_allclose(pca.shares.numpy(), values[::-1][:2] / values.sum(), rtol=1e-10)
    variances = pca.project(ROWS).var(0).numpy()
    np.testing.assert_allclose(variances, values[::-1][:2], rtol=1e-10)


def test_back_is_the_nearest_row_in_the_plane() -> None:
    pca = Pca.of(ROWS)
    places = torch.tensor([[1.0, -2.0], [0.0, 0.0]]).double()
    torch.testing.assert_close(pca.project(pca.back(places)), places)
    torch.testing.assert_close(pca.back(places)[1], ROWS.mean(0))
    residual = ROWS - pca.back(pca.project(ROWS))
    torch.testing.assert_close(residual @ pca.components.T, torch.zeros(60, 2).double())


def test_maps_have_two_numbers_a_sample() -> None:
    torch.testing.assert_close(map_of(ROWS, "pca"), Pca.of(ROWS).project(ROWS))
    assert map_of(ROWS[:, :1], "pca").shape == (60, 2)  # of one number there is one component
    clouds = torch.cat([ROWS, ROWS + 100])
    places = map_of(clouds, "tsne")
    assert torch.equal(places, map_of(clouds, "tsne"))
    centers = places[:60].mean(0), places[60:].mean(0)
    nearer = torch.cdist(places, torch.stack(centers)).argmin(1)
    assert torch.equal(nearer, torch.arange(120) // 60)


def test_unrest_sums_half_the_differences_of_rounds_that_are_known() -> None:
    nan = [torch.nan, torch.nan]
    history = torch.tensor(
        [
            [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]],
            [[0.0, 1.0], [0.5, 0.5], nan],
            [[0.5, 0.5], [0.4, 0.6], [0.0, 1.0]],
        ]
    )
    torch.testing.assert_close(unrest(history), torch.tensor([1.5, 0.1, 0.0]).double())


def test_spread_takes_first_and_last() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert spread(0, 5) == []
