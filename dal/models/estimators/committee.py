"""Committees of scikit-learn classifiers, whose members can be asked one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from dal.models.estimators.fitted import Fitted, Floats, Integers, fit_estimator
from dal.utils.seeding import derive

VOTES = ("soft", "hard")


class EstimatorCommittee(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifiers that are fitted on the same labels, or on draws from them, and predict together.

    Its own prediction is the mean of the members' probabilities.

    Args:
        members: Two or more unfitted classifiers.
        votes: ``soft``: a member gives its class probabilities; ``hard``: 1 to the class it
            predicts.
        bootstrap: Fit each member on as many labels, drawn with replacement; a draw may miss
            classes, which that member then gives the probability 0.
        random_state: Decides the draws and what is random in the members.

    Raises:
        ValueError: There are fewer than two members, or votes is neither.

    Reference:
        H. S. Seung, M. Opper and H. Sompolinsky. Query by committee. COLT 1992.
        N. Abe and H. Mamitsuka. Query learning strategies using boosting and bagging. ICML 1998.
    """

    def __init__(
        self,
        members: Sequence[Any],
        votes: Literal["soft", "hard"] = "soft",
        bootstrap: bool = False,
        random_state: int = 0,
    ) -> None:
        if len(members) < 2:
            raise ValueError(f"a committee of {len(members)} cannot disagree; give 2 or more")
        if votes not in VOTES:
            raise ValueError(f"model.votes={votes!r}; choose {' or '.join(VOTES)}")
        self.members, self.votes = members, votes
        self.bootstrap, self.random_state = bootstrap, random_state

    def fit(
        self, inputs: Floats, targets: Integers, sample_weight: Floats | None = None
    ) -> EstimatorCommittee:
        """Fit every member."""
        self.classes_, codes = np.unique(targets, return_inverse=True)
        self.fitted_: list[Fitted] = []
        for number, member in enumerate(self.members):
            rows = self._rows(len(codes), number)
            weights = None if sample_weight is None else sample_weight[rows]
            seed = derive(self.random_state, number, "member")
            self.fitted_.append(
                fit_estimator(member, inputs[rows], codes[rows], weights, len(self.classes_), seed)
            )
        return self

    def member_probs(self, inputs: Floats) -> Floats:
        """Class probabilities, or one-hot votes, of the members: float64, (K, N, classes)."""
        probs_KNC = np.stack([member.probs(inputs) for member in self.fitted_])
        if self.votes == "hard":
            one_hot: Floats = np.eye(len(self.classes_))[probs_KNC.argmax(-1)]
            return one_hot
        return probs_KNC

    def predict_proba(self, inputs: Floats) -> Floats:
        """The mean of the members: float64, (N, classes)."""
        mean: Floats = self.member_probs(inputs).mean(0)
        return mean

    def predict(self, inputs: Floats) -> Integers:
        """The class of the highest mean."""
        predicted: Integers = self.classes_[self.predict_proba(inputs).argmax(1)]
        return predicted

    def _rows(self, count: int, number: int) -> Integers:
        if not self.bootstrap:
            return np.arange(count)
        rng = np.random.default_rng(derive(self.random_state, number, "bootstrap"))
        return rng.integers(count, size=count)


class Forest(RandomForestClassifier):  # type: ignore[misc]
    """scikit-learn's random forest with its trees as members."""

    def member_probs(self, inputs: Floats) -> Floats:
        """Class probabilities of the trees: float64, (K, N, classes)."""
        return np.stack([tree.predict_proba(inputs) for tree in self.estimators_])


class Neighbors(KNeighborsClassifier):  # type: ignore[misc]
    """scikit-learn's nearest neighbors, that asks all samples while there are fewer than k."""

    def fit(self, inputs: Floats, targets: Integers) -> Neighbors:
        """Keep the samples."""
        self.n_neighbors: int = min(self.n_neighbors, len(inputs))
        super().fit(inputs, targets)
        return self
