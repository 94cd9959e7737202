"""Labels spread along a graph of the whole pool, and carried to new samples by their neighbors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dal.models.base import Output
from dal.query.distances import Points, check_metric, nearest_points
from dal.query.graph import Floats, affinities, components, spread
from dal.utils.inputs import InputSpec, numel_of, one_shape
from dal.utils.ranges import check_number, check_whole

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

FLOOR = 1e-12
"""Probabilities below it become logits as if they were it."""
NOTHING = 1e-10
"""Added to what reaches a sample of each class that has a label: where nothing does, all of these
are equally probable."""
ONE_BY_ONE = 50
"""Up to so many labels each is left out by itself; above it, a fifth of them at a time."""
FOLDS = 5
AT_ONCE = 2**24
"""Numbers that are spread at once: a few arrays of 128 MiB."""
FEWEST = 5
"""Labels that can be left out at least, or else probabilities are taken as they come."""
POWERS = np.exp(np.linspace(np.log(0.25), np.log(8.0), 81))


@dataclass(frozen=True)
class Spread:
    """What labels say of all points of a graph.

    Attributes:
        probs: float32, (N, C), rows sum to one; 0 for a class without a label.
        power: To which what reached a sample was raised: above 1 where it is surer than it seems.
        parts: Parts of the graph that have no label.
        unreached: Samples in them; all classes that have a label are equally probable there.
    """

    probs: Tensor
    power: float
    parts: int
    unreached: int


def spread_labels(
    graph: Any,
    places: Tensor,
    targets: Tensor,
    weights: Tensor,
    num_classes: int,
    alpha: float = 0.95,
    balanced: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Spread:
    """Class probabilities of all points of a graph from the labels of a few.

    What reaches a point of each class (see `dal.query.graph.spread`), divided by the weight of the
    labels of that class, is raised to a power and divided by its sum. The power is the one that
    makes labels most probable that were left out, one by one or in five parts; as what is spread
    adds up, that takes no further solution but one for each part. A label alone in its class
    cannot be left out.

    Args:
        graph: From `dal.query.graph.neighbor_graph`, N points.
        places: int64, (M,), the points that have labels, M >= 1.
        targets: int64, (M,), their classes.
        weights: float, (M,), > 0: how much of what its class spreads comes from each.
        num_classes: C.
        alpha: See `dal.query.graph.spread`.
        balanced: Weigh the classes that have labels so that the mean probabilities of all are equal
            among the N.
        check: Called between steps.

    Reference:
        D. Zhou et al. Learning with local and global consistency. NIPS 2003. For ``balanced``: X.
        Zhu, Z. Ghahramani and J. Lafferty. Semi-supervised learning using Gaussian fields and
        harmonic functions. ICML 2003, section 4 (class mass normalization), here by probabilities.

    Differs from the paper: there a class spreads more the more labels it has, and far from all
    labels that alone decides; see docs/few_labels.md for what it costs.
    """
    classes, weights_M = targets.numpy(), weights.double().numpy()
    groups = np.arange(len(classes)) % (len(classes) if len(classes) <= ONE_BY_ONE else FOLDS)
    reached_NC, held_MC = _reached(
        graph, places.numpy(), classes, weights_M, groups, num_classes, alpha, check
    )
    mass_GC, counts_GC = np.zeros((2, int(groups.max()) + 1, num_classes))
    np.add.at(mass_GC, (groups, classes), weights_M)
    np.add.at(counts_GC, (groups, classes), 1)
    mass_C, seen_C = mass_GC.sum(0), np.isin(np.arange(num_classes), classes)
    left_MC = (counts_GC.sum(0) > counts_GC)[groups]
    reached_NC[:, seen_C] /= mass_C[seen_C]
    held_MC = np.divide(
        held_MC, (mass_C - mass_GC)[groups], out=np.zeros_like(held_MC), where=left_MC
    )
    factors_C = _balance(reached_NC, seen_C) if balanced else np.ones(num_classes)
    usable = left_MC[np.arange(len(classes)), classes]
    power = _power(held_MC * factors_C, classes, weights_M, usable, seen_C)
    if balanced:
        factors_C = _balance(reached_NC, seen_C, power)
    probs = _shares(reached_NC * factors_C, seen_C, power)
    of_point = components(graph)
    without = ~torch.isin(of_point, of_point[places])
    parts: int = len(np.unique(of_point[without].numpy()))
    return Spread(torch.from_numpy(probs).float(), power, parts, int(without.sum()))


def _reached(
    graph: Any,
    rows: Integers,
    classes: Integers,
    weights_M: Floats,
    groups: Integers,
    num_classes: int,
    alpha: float,
    check: Callable[[], None],
) -> tuple[Floats, Floats]:
    """What reaches each point of each class, (N, C), and each label from other groups, (M, C).

    Each class of a group of labels is spread by itself, as many of them at once as memory allows.
    """
    reached_NC = np.zeros((graph.shape[0], num_classes))
    held_MC = np.zeros((len(rows), num_classes))
    pairs = np.unique(np.stack([groups, classes], 1), axis=0)
    each = max(AT_ONCE // graph.shape[0], 1)
    for start in range(0, len(pairs), each):
        some = pairs[start : start + each]
        labels_NG = np.zeros((graph.shape[0], len(some)))
        for column, (group, one) in enumerate(some):
            own = (groups == group) & (classes == one)
            np.add.at(labels_NG[:, column], rows[own], weights_M[own])
        found_NG = np.maximum(spread(graph, labels_NG, alpha, check), 0)
        for column, (group, one) in enumerate(some):
            reached_NC[:, one] += found_NG[:, column]
            held_MC[:, one] += np.where(groups == group, 0, found_NG[rows, column])
    return reached_NC, held_MC


def _shares(reached_NC: Floats, seen_C: Mask, power: float = 1.0) -> Floats:
    """Powers of what reached each sample, divided by their sum: (N, C)."""
    logs_NC = power * np.log(reached_NC[:, seen_C] + NOTHING)
    powers_NC = np.exp(logs_NC - logs_NC.max(1, keepdims=True))
    shares_NC = np.zeros_like(reached_NC)
    shares_NC[:, seen_C] = powers_NC / powers_NC.sum(1, keepdims=True)
    return shares_NC


def _balance(reached_NC: Floats, seen_C: Mask, power: float = 1.0, steps: int = 50) -> Floats:
    """Factors of the classes that make the mean share of each with a label the same: (C,)."""
    factors_C = np.ones(len(seen_C))
    for _ in range(steps):
        mean_C = _shares(reached_NC * factors_C, seen_C, power).mean(0)[seen_C]
        factors_C[seen_C] /= (mean_C * len(mean_C)) ** (1 / power)
    return cast(Floats, factors_C)


def _power(
    held_MC: Floats, classes: Integers, weights_M: Floats, usable: Mask, seen_C: Mask
) -> float:
    """The power under which labels that were left out are most probable, drawn toward 1.

    The pull is that of a normal distribution of its logarithm, of deviation 1.
    """
    if usable.sum() < FEWEST:
        return 1.0
    own = np.arange(int(usable.sum())), classes[usable]
    scale_M = weights_M[usable] / weights_M[usable].mean()
    held_MC = held_MC[usable]
    losses = [
        -(scale_M * np.log(np.maximum(_shares(held_MC, seen_C, power)[own], FLOOR))).sum()
        + np.log(power) ** 2 / 2
        for power in POWERS
    ]
    return float(POWERS[int(np.argmin(losses))])


class LabelPropagation(nn.Module):
    """Labels of a few samples spread along a graph of all; new samples ask their neighbors.

    The graph joins each sample of the training part with its nearest in the space of the inputs,
    so these should be features in which neighbors are alike: ``features=...`` in front, or columns
    of a table. Helps most with few labels, above all with those of typical samples; hurts where
    neighbors are of different classes, and where a network of its own would learn better features
    from many labels.

    `dal.learners.PropagationLearner` fits it. Its state is the samples and their probabilities.

    Args:
        input_shape: Shape of a sample; one tensor.
        num_classes: C.
        neighbors: k of the graph, and neighbors that a new sample asks.
        alpha: How far labels are carried, in (0, 1): 1 / (1 - alpha) steps of a random walk.
        distance: ``euclidean``, ``cosine`` or ``pearson``.
        balanced: Whether all classes are equally frequent, which is assumed only where it is said.

    Raises:
        ValueError, TypeError: A setting is out of range, or samples are tensors by name.

    Reference:
        D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schölkopf. Learning with local and global
        consistency. NIPS 2003. New samples: Y. Bengio, O. Delalleau and N. Le Roux. Label
        propagation and quadratic criterion, in Semi-Supervised Learning, 2006, section 11.5.
    """

    nodes: Tensor
    probs: Tensor

    def __init__(
        self,
        input_shape: InputSpec,
        num_classes: int,
        neighbors: int = 15,
        alpha: float = 0.95,
        distance: str = "euclidean",
        balanced: bool = False,
    ) -> None:
        super().__init__()
        one_shape(input_shape, "label_propagation")
        check_whole("model.neighbors", neighbors, 1)
        check_number("model.alpha", alpha, positive=True, below=1)
        self.neighbors, self.alpha, self.balanced = neighbors, alpha, balanced
        self.metric = check_metric(distance)
        self.register_buffer("nodes", torch.empty(0, numel_of(input_shape)))
        self.register_buffer("probs", torch.empty(0, num_classes))
        self._points: Points | None = None

    def take(self, nodes_ND: Tensor, probs_NC: Tensor) -> None:
        """Take the samples of the graph, float32, and their class probabilities, float32."""
        if nodes_ND is not self.nodes:
            self.nodes, self._points = nodes_ND, None
        self.probs = probs_NC.to(nodes_ND.device)

    @property
    def points(self) -> Points:
        """The samples of the graph, as the distance sees them."""
        if self._points is None or self._points.device != self.nodes.device:
            self._points = Points(self.nodes, self.metric)
        return self._points

    def near(self, rows_BD: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of the graph that others ask: positions, int64, and weights, (B, k)."""
        points = self.points
        rows = points.like(rows_BD)
        block = rows.take(torch.arange(len(rows), device=points.device))
        distances, positions = nearest_points(block, points, self.neighbors)
        affinity = affinities(distances)
        return positions, (affinity / affinity.sum(1, keepdim=True)).float()

    def mixed(self, positions_BK: Tensor, weights_BK: Tensor) -> Tensor:
        """The weighted mean of the probabilities at positions: float32, (B, C)."""
        return (weights_BK[..., None] * self.probs[positions_BK]).sum(1)

    def forward(self, x: Tensor) -> Output:
        """Logits (B, C) and features (B, D), the flattened inputs, of inputs (B, ...)."""
        rows = x.flatten(1)
        return Output(self.mixed(*self.near(rows)).clamp(min=FLOOR).log(), rows)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take back samples and probabilities, of which there may be any number.

        Raises:
            ValueError: They are of other shapes or types.
        """
        given = [state_dict[name] for name in ("nodes", "probs")]
        for tensor, own in zip(given, (self.nodes, self.probs), strict=True):
            if tensor.shape[1:] != own.shape[1:] or tensor.dtype != own.dtype or tensor.ndim != 2:
                raise ValueError("samples or probabilities are of another shape than the model's")
        if len(given[0]) != len(given[1]) or not len(given[0]):
            raise ValueError("there are not as many probabilities as samples")
        self.nodes, self.probs = (tensor.to(self.nodes.device) for tensor in given)
        self._points = None
        return super().load_state_dict(state_dict, strict, assign)
