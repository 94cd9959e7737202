"""scikit-learn classifiers as models of the loop.

Each function gives an unfitted classifier; `dal.learners.EstimatorLearner` fits a copy of it on all
labels of every round, on the prepared inputs, flattened. Its random state derives from the run's
seed. The arguments are scikit-learn's own, under its names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from dal.models.estimators.committee import EstimatorCommittee, Forest, Neighbors
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole

Shape = tuple[int, ...]


def svm(
    input_shape: Shape,
    num_classes: int,
    C: float = 1.0,
    gamma: float | str = "scale",
) -> Any:
    """Support vector machine with a Gaussian kernel; one machine a pair of classes.

    Args:
        input_shape: Not used: the first labels show it.
        num_classes: Not used: the classes that have labels are learned.
        C: Inverse strength of the regularization, > 0.
        gamma: Inverse squared width of the kernel, > 0; ``scale``: 1 / (features x variance);
            ``auto``: 1 / features.

    Returns:
        An unfitted `sklearn.svm.SVC`. Its own decision values are votes of the pairs plus a
        fraction from their distances, one column a class; `fitted.Fitted` makes probabilities
        of them, and takes the distances of the pairs for `Decision`.

    Reference:
        C. Cortes and V. Vapnik. Support-vector networks. Machine Learning 20, 1995.
    """
    return SVC(C=C, gamma=gamma, kernel="rbf", decision_function_shape="ovr")


def polynomial_svm(
    input_shape: Shape,
    num_classes: int,
    C: float = 1.0,
    degree: int = 3,
    gamma: float | str = "scale",
    coef0: float = 1.0,
) -> Any:
    """Support vector machine with the kernel (gamma x.y + coef0)^degree; see `svm`.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        C: Inverse strength of the regularization, > 0.
        degree: Of the polynomial.
        gamma: See `svm`.
        coef0: Weight of the lower degrees; with scikit-learn's own 0 there are none.
    """
    return SVC(
        C=C,
        kernel="poly",
        degree=degree,
        gamma=gamma,
        coef0=coef0,
        decision_function_shape="ovr",
    )


def linear_svm(input_shape: Shape, num_classes: int, C: float = 1.0, max_iter: int = 10000) -> Any:
    """Linear support vector machine, squared hinge loss; one machine a class against the rest.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        C: Inverse strength of the regularization, > 0.
        max_iter: At most so many passes; ending there is logged as a warning.
    """
    return LinearSVC(C=C, max_iter=max_iter)


def passive_aggressive(
    input_shape: Shape, num_classes: int, C: float = 1.0, max_iter: int = 1000
) -> Any:
    """Linear classifier by passive-aggressive steps (PA-I); one a class against the rest.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        C: The longest step, > 0.
        max_iter: At most so many passes.

    Reference:
        K. Crammer et al. Online passive-aggressive algorithms. JMLR 7, 2006, figure 1.
    """
    if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8):
        from sklearn.linear_model import SGDClassifier

        return SGDClassifier(
            loss="hinge", penalty=None, learning_rate="pa1", eta0=C, max_iter=max_iter
        )
    from sklearn.linear_model import PassiveAggressiveClassifier

    return PassiveAggressiveClassifier(C=C, loss="hinge", max_iter=max_iter)


def sklearn_logistic_regression(
    input_shape: Shape, num_classes: int, C: float = 1.0, max_iter: int = 1000
) -> Any:
    """Multinomial logistic regression, fitted to convergence with a squared penalty.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        C: Inverse strength of the penalty, > 0.
        max_iter: At most so many steps; ending there is logged as a warning.
    """
    return LogisticRegression(C=C, max_iter=max_iter)


def decision_tree(
    input_shape: Shape, num_classes: int, max_depth: int | None = None, min_samples_leaf: int = 1
) -> Any:
    """Decision tree; its probabilities are the shares of the classes in a leaf.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        max_depth: At most so many questions; None for as many as it takes.
        min_samples_leaf: At least so many labels in a leaf.
    """
    return DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf=min_samples_leaf)


def naive_bayes(input_shape: Shape, num_classes: int, var_smoothing: float = 1e-9) -> Any:
    """Gaussian naive Bayes.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        var_smoothing: This fraction of the largest variance is added to all.
    """
    return GaussianNB(var_smoothing=var_smoothing)


def knn(
    input_shape: Shape,
    num_classes: int,
    n_neighbors: int = 3,
    weights: Literal["uniform", "distance"] = "uniform",
) -> Any:
    """The nearest labeled samples vote; all of them while there are fewer than asked for.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        n_neighbors: How many.
        weights: ``uniform``, or by inverse ``distance``.
    """
    return Neighbors(n_neighbors=n_neighbors, weights=weights)


def random_forest(
    input_shape: Shape,
    num_classes: int,
    n_estimators: int = 100,
    max_depth: int | None = None,
    min_samples_leaf: int = 1,
    max_features: float | str = "sqrt",
) -> Any:
    """Random forest; its trees are a committee.

    Args:
        input_shape: See `svm`.
        num_classes: See `svm`.
        n_estimators: Number of trees.
        max_depth: See `decision_tree`.
        min_samples_leaf: See `decision_tree`.
        max_features: Features tried at a question: ``sqrt``, ``log2`` or a fraction.

    Raises:
        ValueError: So many trees do not fit into memory.

    Reference:
        L. Breiman. Random forests. Machine Learning 45, 2001.
    """
    check_memory(1000 * n_estimators, f"model.n_estimators={n_estimators}")  # as for `bagging`
    return Forest(
        n_estimators=n_estimators,
        max_depth=max_depth,
        min_samples_leaf=min_samples_leaf,
        max_features=max_features,
    )


KINDS: dict[str, Callable[[Shape, int], Any]] = {
    "linear_svm": linear_svm,
    "svm": svm,
    "polynomial_svm": polynomial_svm,
    "decision_tree": decision_tree,
    "passive_aggressive": passive_aggressive,
    "naive_bayes": naive_bayes,
    "knn": knn,
    "logistic_regression": sklearn_logistic_regression,
}


def sklearn_committee(
    input_shape: Shape,
    num_classes: int,
    kinds: Sequence[str] = tuple(KINDS),
    votes: Literal["soft", "hard"] = "soft",
) -> Any:
    """A committee of classifiers of different kinds, each with its defaults.

    Args:
        input_shape: Shape of one sample.
        num_classes: Number of classes.
        kinds: Two or more of ``linear_svm``, ``svm``, ``polynomial_svm``, ``decision_tree``,
            ``passive_aggressive``, ``naive_bayes``, ``knn``, ``logistic_regression``.
        votes: See `EstimatorCommittee`.

    Raises:
        ValueError: A kind is unknown, or there are fewer than two.
    """
    members = [_kind(kind)(input_shape, num_classes) for kind in kinds]
    return EstimatorCommittee(members, votes)


def bagging(
    input_shape: Shape,
    num_classes: int,
    kind: str = "decision_tree",
    size: int = 10,
    votes: Literal["soft", "hard"] = "soft",
) -> Any:
    """A committee of classifiers of one kind, each on labels drawn with replacement.

    Args:
        input_shape: Shape of one sample.
        num_classes: Number of classes.
        kind: One of the kinds of `sklearn_committee`, with its defaults.
        size: Number of members, at least 2.
        votes: See `EstimatorCommittee`.

    Raises:
        ValueError: The kind is unknown, or there are fewer than two members.

    Reference:
        L. Breiman. Bagging predictors. Machine Learning 24, 1996.
    """
    check_whole("model.size", size, 2, ": a committee of 1 cannot disagree")
    check_memory(1000 * size, f"model.size={size}")  # each takes about a kilobyte before its fit
    members = [_kind(kind)(input_shape, num_classes) for _ in range(size)]
    return EstimatorCommittee(members, votes, bootstrap=True)


def _kind(name: str) -> Callable[[Shape, int], Any]:
    if name not in KINDS:
        raise ValueError(f"there is no kind of classifier {name!r}; choose {', '.join(KINDS)}")
    return KINDS[name]
