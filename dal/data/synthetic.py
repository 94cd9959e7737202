"""Drawn data: as many samples as wanted, with known structure, different for every seed."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, pi

import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.utils.inputs import Inputs, one_tensor
from dal.utils.memory import fitting
from dal.utils.ranges import check_number
from dal.utils.seeding import derive, generator

MOST = 1e30
"""Distances beyond it may leave float32."""


def make_classification(
    n_samples: int = 1000,
    n_features: int = 20,
    n_informative: int = 5,
    n_redundant: int = 2,
    n_classes: int = 3,
    n_clusters_per_class: int = 1,
    weights: Sequence[float] | None = None,
    flip_y: float = 0.01,
    class_sep: float = 1.0,
    standardize: bool = True,
    seed: int = 0,
) -> Dataset:
    """Gaussian clusters on the corners of a hypercube, drawn by scikit-learn's function.

    The settings have scikit-learn's names and meaning.

    Args:
        n_samples: Number of samples N.
        n_features: Number of features D; those neither informative nor redundant are noise.
        n_informative: Features that tell the classes apart.
        n_redundant: Features that are linear combinations of the informative ones.
        n_classes: Number of classes C.
        n_clusters_per_class: Clusters that make up one class.
        weights: Share of each class, C numbers that sum to 1; None for equal shares.
        flip_y: Fraction of samples that get a random label: label noise.
        class_sep: How far the clusters lie apart; larger is easier.
        standardize: Scale features by the mean and deviation of the training part.
        seed: Seed of the drawing.

    Returns:
        float32 inputs (N, D) without an official test part.

    Raises:
        ValueError: If the settings contradict each other (scikit-learn says how), or the data do
            not fit into memory.

    Reference:
        I. Guyon, "Design of experiments for the NIPS 2003 variable selection benchmark", 2003.
    """
    from sklearn.datasets import make_classification as draw

    check_number("data.class_sep", class_sep, below=MOST)
    _check_weights(weights, n_classes)
    corners = n_classes * n_clusters_per_class
    size = 8 * (n_samples * n_features + (corners + n_informative) * n_informative)
    asked = f"{n_samples=}, {n_features=}, {n_informative=}, {n_classes=}, {n_clusters_per_class=}"
    with fitting(size, asked):
        inputs, targets = draw(
            n_samples=n_samples,
            n_features=n_features,
            n_informative=n_informative,
            n_redundant=n_redundant,
            n_classes=n_classes,
            n_clusters_per_class=n_clusters_per_class,
            weights=None if weights is None else list(weights),
            flip_y=flip_y,
            class_sep=class_sep,
            # NumPy's seeds have 32 bits.
            random_state=derive(seed, "data") % 2**32,
        )
    return Dataset(
        name="synthetic",
        inputs=torch.from_numpy(inputs).to(torch.float32),
        targets=torch.from_numpy(targets).to(torch.int64),
        class_names=tuple(str(label) for label in range(n_classes)),
        standardize=standardize,
    )


def _check_weights(weights: Sequence[float] | None, n_classes: int) -> None:
    """Refuse shares of classes that are none; of the last class scikit-learn can do without."""
    if weights is None:
        return
    given, total = len(weights), sum(weights)
    whole = isclose(total, 1) or (given == n_classes - 1 and total < 1)
    if not whole or not all(0 <= share <= 1 for share in weights):
        raise ValueError(
            f"data.weights={list(weights)}; give the share of each of the {n_classes} classes, "
            "from 0 to 1, with the sum 1"
        )


def make_multilabel_classification(
    n_samples: int = 2000,
    n_features: int = 20,
    n_classes: int = 5,
    n_labels: int = 2,
    length: int = 50,
    allow_unlabeled: bool = True,
    standardize: bool = True,
    seed: int = 0,
) -> Dataset:
    """Bags of words of several topics each, drawn by scikit-learn's function: any of C labels.

    The settings have scikit-learn's names and meaning.

    Args:
        n_samples: Number of samples N.
        n_features: Number of words D; a feature is how often a word occurs.
        n_classes: Number of labels C.
        n_labels: How many labels a sample has on average (Poisson, at most C).
        length: How many words a sample has on average (Poisson).
        allow_unlabeled: Some samples have no label at all.
        standardize: Scale features by the mean and deviation of the training part.
        seed: Seed of the drawing.

    Returns:
        float32 inputs (N, D) and targets (N, C) of 0 and 1, without an official test part.

    Raises:
        ValueError: If a number is out of range (scikit-learn says how), or the data do not fit
            into memory.
    """
    from sklearn.datasets import make_multilabel_classification as draw

    if n_labels > n_classes:  # scikit-learn would draw again and again
        raise ValueError(
            f"{n_labels=} labels a sample on average, of {n_classes=}; give at most n_classes"
        )
    size = 8 * (n_samples * (n_features + n_classes) + n_features * n_classes + length)
    with fitting(size, f"{n_samples=}, {n_features=}, {n_classes=}, {length=}"):
        inputs, targets = draw(
            n_samples=n_samples,
            n_features=n_features,
            n_classes=n_classes,
            n_labels=n_labels,
            length=length,
            allow_unlabeled=allow_unlabeled,
            random_state=derive(seed, "data") % 2**32,
        )
    return Dataset(
        name="synthetic_multilabel",
        inputs=torch.from_numpy(inputs).to(torch.float32),
        targets=torch.from_numpy(targets).to(torch.int64),
        class_names=tuple(str(label) for label in range(n_classes)),
        standardize=standardize,
    )


def two_gaussians(
    n_samples: int = 1000,
    distance: float = 3.0,
    std: float = 1.0,
    standardize: bool = False,
    seed: int = 0,
) -> Dataset:
    """Two round clouds in the plane, one a class, centered at (-distance/2, 0) and (distance/2, 0).

    Made for looking at what a strategy picks. The best possible accuracy is known: Phi(distance /
    (2 std)), with Phi the distribution function of the normal distribution; 0.933 by default.

    Args:
        n_samples: Number of samples N; classes take turns, so that both have half of them.
        distance: Distance of the two centers, at least 0.
        std: Standard deviation of each cloud in both directions, above 0.
        standardize: Scale features by the mean and deviation of the training part.
        seed: Seed of the drawing.

    Returns:
        float32 inputs (N, 2) without an official test part.

    Raises:
        ValueError: If there are fewer than 2 samples, ``distance`` or ``std`` is out of range, or
            the data do not fit into memory.
    """
    if n_samples < 2:
        raise ValueError(f"n_samples={n_samples} leaves a class empty; use at least 2")
    check_number("data.distance", distance, below=MOST)
    check_number("data.std", std, positive=True, below=MOST)
    with fitting(16 * n_samples, f"{n_samples=}"):
        targets = torch.arange(n_samples, dtype=torch.int64) % 2
        inputs = std * torch.randn(n_samples, 2, generator=generator(seed, "data"))
        inputs[:, 0] += distance * (targets - 0.5)
    return Dataset(
        name="two_gaussians",
        inputs=inputs,
        targets=targets,
        class_names=("left", "right"),
        standardize=standardize,
        truth=nearer_center,
    )


def nearer_center(inputs: Inputs) -> Tensor:
    """The more probable class of points among two Gaussians: int64, (B,), 1 right of the middle.

    Args:
        inputs: float, (B, 2).
    """
    return (one_tensor(inputs, "two_gaussians")[:, 0] > 0).long()


def moons(
    n_samples: int = 1000,
    noise: float = 0.15,
    standardize: bool = False,
    seed: int = 0,
) -> Dataset:
    """Two half circles in the plane that reach into each other, one a class: no line parts them.

    The upper one is centered at (0, 0), the lower one at (1, 0.5); both have radius 1.

    Args:
        n_samples: Number of samples N; classes take turns, so that both have half of them.
        noise: Standard deviation, in both directions, from the half circles.
        standardize: Scale features by the mean and deviation of the training part.
        seed: Seed of the drawing.

    Returns:
        float32 inputs (N, 2) without an official test part.

    Raises:
        ValueError: If there are fewer than 2 samples, ``noise`` is out of range, or the data do not
            fit into memory.
    """
    if n_samples < 2:
        raise ValueError(f"n_samples={n_samples} leaves a class empty; use at least 2")
    check_number("data.noise", noise, below=MOST)
    with fitting(32 * n_samples, f"{n_samples=}"):
        rng = generator(seed, "data")
        targets = torch.arange(n_samples, dtype=torch.int64) % 2
        angles = pi * torch.rand(n_samples, generator=rng)
        upper = torch.stack([angles.cos(), angles.sin()], 1)
        lower = torch.tensor([1.0, 0.5]) - upper
        inputs = torch.where(targets.bool().unsqueeze(1), lower, upper)
        inputs = inputs + noise * torch.randn(n_samples, 2, generator=rng)
    return Dataset(
        name="moons",
        inputs=inputs,
        targets=targets,
        class_names=("upper", "lower"),
        standardize=standardize,
        truth=nearer_half_circle,
    )


def nearer_half_circle(inputs: Inputs) -> Tensor:
    """The class of points among moons whose half circle is nearer: int64, (B,), 1 for the lower.

    Args:
        inputs: float, (B, 2).
    """
    points = one_tensor(inputs, "moons").double()
    upper = _from_half_circle(points)
    lower = _from_half_circle(torch.tensor([1.0, 0.5], dtype=torch.float64) - points)
    return (lower < upper).long()


def _from_half_circle(points: Tensor) -> Tensor:
    """Distances of points to the upper half of the circle of radius 1 around (0, 0): (B,)."""
    x, y = points.unbind(1)
    of_end = torch.hypot(x.abs() - 1, y)
    return torch.where(y >= 0, (torch.hypot(x, y) - 1).abs(), of_end)
