"""Distance to the decision boundary of a classifier such as a support vector machine."""

from __future__ import annotations

import math

from torch import Tensor

from dal.query.base import PoolView, ScoreStrategy
from dal.query.needs import Decision


def hyperplane(decision_NC: Tensor) -> Tensor:
    """Minus the distance to the decision boundary: the simple margin.

    For two classes -|f(x)|. For more, -(f_(1) - f_(2)), the difference of the two highest of the
    C decision values: the boundary between two classes is where theirs are equal and highest.
    Machines of pairs (`svm`, `polynomial_svm`) give 0 for the class i that wins most pairs and
    -|f_ij| for another class j, so that the score is -min_j |f_ij|: the pairs of the class
    predicted bound its region, while two classes that both lose to it may be near each other
    without any doubt about the sample.

    Halves the version space of a support vector machine as well as one query can, if its center is
    the machine; helps with few labels and separable classes. Costs O(N C). Hurts with noisy labels,
    in batches (the nearest samples resemble each other), and before every class has a label. Values
    are the classifier's own and not divided by the length of the normal: for two classes that
    changes no order, and of a machine of pairs f_ij counts in widths of that pair's own margin,
    which is +-1 on it. Lengths in the kernel's space instead gained nothing on digits.

    Args:
        decision_NC: float, (N, C) with C > 2; or (N, 1), signed, for two classes.

    Returns:
        float, (N,), <= 0; higher = query first.

    Reference:
        S. Tong and D. Koller. Support vector machine active learning with applications to text
        classification. JMLR 2, 2001, section 4 (simple margin).

        Pairs: S. Knerr, L. Personnaz and G. Dreyfus. Single-layer learning revisited. In
        Neurocomputing, 1990.

    Differs from the paper: it treats two classes; the difference of two values, and the nearest
    pair of the predicted class, are our choice for more.
    """
    if decision_NC.shape[1] == 1:
        return -decision_NC[:, 0].abs()
    top = decision_NC.topk(2, dim=1).values
    return top[:, 1] - top[:, 0]


class Hyperplane(ScoreStrategy):
    """Query what lies nearest to the decision boundary; see `hyperplane`."""

    needs = frozenset({Decision()})
    lower_bound = -math.inf

    def score(self, view: PoolView) -> Tensor:
        """See `hyperplane`."""
        return hyperplane(view[Decision()])
