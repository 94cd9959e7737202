"""Classifiers of scikit-learn, as models of a run."""

from dal.models.estimators.families import (
    bagging,
    decision_tree,
    knn,
    linear_svm,
    naive_bayes,
    passive_aggressive,
    polynomial_svm,
    random_forest,
    sklearn_committee,
    sklearn_logistic_regression,
    svm,
)

__all__ = [
    "bagging",
    "decision_tree",
    "knn",
    "linear_svm",
    "naive_bayes",
    "passive_aggressive",
    "polynomial_svm",
    "random_forest",
    "sklearn_committee",
    "sklearn_logistic_regression",
    "svm",
]
