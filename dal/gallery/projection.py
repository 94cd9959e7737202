"""High dimensions brought to a plane, and predictions over the rounds brought to a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

How = Literal["pca", "tsne"]
MOST_POINTS = {"pca": 5000, "tsne": 1500}
"""So many samples a map shows, of more a random part: t-SNE of 1500 takes some seconds."""


@dataclass(frozen=True)
class Pca:
    """Principal components.

    Attributes:
        mean: float64, (D,).
        components: float64, (k, D), orthonormal, the direction of most variance first.
        shares: float64, (k,), the share of the variance that each has.
    """

    mean: Tensor
    components: Tensor
    shares: Tensor

    @classmethod
    def of(cls, rows_ND: Tensor, count: int = 2) -> Pca:
        """Those of some rows: float, (N, D), N >= 2; no more than there are of both.

        The largest entry of each component is positive, so that no sign is left to chance.
        """
        rows = rows_ND.double()
        mean = rows.mean(0)
        _, values, vectors = torch.linalg.svd(rows - mean, full_matrices=False)
        found = vectors[:count]
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        signs = torch.where(largest < 0, -1.0, 1.0)
        squares = values.square()
        return cls(mean, signs * found, squares[:count] / squares.sum().clamp_min(1e-300))

    def project(self, rows_ND: Tensor) -> Tensor:
        """float64, (N, k): where rows stand among the components."""
        return (rows_ND.double() - self.mean) @ self.components.T

    def back(self, places_Nk: Tensor) -> Tensor:
        """float64, (N, D): the rows whose distance to the mean lies in the components alone."""
        return self.mean + places_Nk.double() @ self.components


def map_of(rows_ND: Tensor, how: How, seed: int = 0) -> Tensor:
    """Places in the plane: float64, (N, 2).

    Args:
        rows_ND: float, (N, D), N >= 3.
        how: ``pca``; or ``tsne``, of the first 50 principal components.
        seed: Of t-SNE.

    Reference:
        L. van der Maaten, G. Hinton. Visualizing data using t-SNE, JMLR 9, 2008.
    """
    if how == "pca":
        places = Pca.of(rows_ND).project(rows_ND)
        return torch.nn.functional.pad(places, (0, 2 - places.shape[1]))
    from sklearn.manifold import TSNE

    first = Pca.of(rows_ND, 50).project(rows_ND)
    perplexity = min(30.0, (len(first) - 1) / 3)
    made = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return torch.from_numpy(made.fit_transform(first.numpy())).double()


def unrest(history_TNC: Tensor) -> Tensor:
    """How far predictions moved in all: float64, (N,), the sum of half the L1 distances.

    Only rounds that follow each other count, and only where a sample was predicted in both.

    Args:
        history_TNC: float, (T, N, C), class probabilities; NaN for none.
    """
    steps = (history_TNC[1:].double() - history_TNC[:-1].double()).abs().sum(-1) / 2
    return steps.nan_to_num(nan=0.0).sum(0)


def spread(count: int, most: int) -> list[int]:
    """Up to ``most`` of the numbers from 0 to count - 1, evenly, first and last included."""
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]
