"""Who predicts the candidates for cooperative learning: the model, or labels that spread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from dal.models.label_propagation import spread_labels
from dal.query import Features, Needs, PoolView, Probs
from dal.query.base import check_need
from dal.query.distances import Points, check_metric
from dal.query.graph import neighbor_graph
from dal.train_set import TrainSet
from dal.utils.ranges import check_number, check_whole


class Teacher(ABC):
    """Predicts the candidates, so that a `Cooperative` can choose among the predictions.

    Attributes:
        needs: What the pass over the candidates must compute for it.
        tasks: Kinds of `dal.task.Task` for which it can predict.
    """

    needs: Needs
    tasks: frozenset[str] = frozenset({"multiclass"})

    @abstractmethod
    def probs(self, view: PoolView, answers: TrainSet, check: Callable[[], None]) -> Tensor:
        """Class probabilities of the candidates: float, (N, C), on any device.

        Args:
            view: The candidates, with what ``needs`` names.
            answers: What people said, in the order of ``Features("labeled")``.
            check: Called at moments when the process may end without loss; raises to end it.
        """


class ModelItself(Teacher):
    """The model that has just been fitted."""

    needs = frozenset({Probs()})
    tasks = frozenset({"multiclass", "multilabel"})

    def probs(self, view: PoolView, answers: TrainSet, check: Callable[[], None]) -> Tensor:
        """See `Teacher.probs`."""
        return view[Probs()]


class Propagation(Teacher):
    """Answers that spread along a graph of the features of candidates and labeled samples.

    The features are those of the model just fitted, and the graph is made anew in every round:
    O(N^2 D) time in tiles, O(N (D + k + C)) memory. Guesses never spread. Where all answers are of
    one class, all classes are equally probable.

    Args:
        neighbors: k of the graph.
        alpha: How far labels are carried, in (0, 1): 1 / (1 - alpha) steps of a random walk.
        distance: ``cosine``, ``euclidean`` or ``pearson``.

    Raises:
        ValueError, TypeError: A setting is out of range.

    Reference:
        A. Iscen, G. Tolias, Y. Avrithis and O. Chum. Label propagation for deep semi-supervised
        learning. CVPR 2019.

    Differs from the paper: there all samples get a guess, weighed by its certainty and the size of
    its class, after every epoch. Probabilities are those of
    `dal.models.label_propagation.spread_labels`.
    """

    needs = frozenset({Features(), Features("labeled")})

    def __init__(self, neighbors: int = 15, alpha: float = 0.95, distance: str = "cosine") -> None:
        check_whole("cooperative.teacher.neighbors", neighbors, 1)
        check_number("cooperative.teacher.alpha", alpha, positive=True, below=1)
        self.neighbors, self.alpha, self.metric = neighbors, alpha, check_metric(distance)

    def probs(self, view: PoolView, answers: TrainSet, check: Callable[[], None]) -> Tensor:
        """See `Teacher.probs`.

        Raises:
            ValueError: Features are not finite.
        """
        if len(torch.unique(answers.targets)) < 2:
            return torch.full((len(view), view.num_classes), 1 / view.num_classes)
        labeled, candidates = view[Features("labeled")], view[Features()]
        for rows, indices in ((labeled, answers.indices), (candidates, view.indices)):
            check_need(rows, indices, Features(), type(self).__name__)
        points = Points(torch.cat([labeled, candidates]), self.metric)
        spread = spread_labels(
            neighbor_graph(points, self.neighbors, check, "cooperative: neighbors"),
            torch.arange(len(labeled)),
            answers.targets,
            answers.weights,
            view.num_classes,
            self.alpha,
            check=check,
        )
        return spread.probs[len(labeled) :]
