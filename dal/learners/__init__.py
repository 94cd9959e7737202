"""Learners: what the loop trains and asks about the pool."""

from dal.learners.base import Learner, RoundContext
from dal.learners.committees import Committee, Dropout, Ensemble, Rounds
from dal.learners.ensemble import EnsembleLearner
from dal.learners.estimator import EstimatorLearner
from dal.learners.make import make_learner
from dal.learners.network import TorchLearner
from dal.learners.propagation import PropagationLearner

__all__ = [
    "Committee",
    "Dropout",
    "Ensemble",
    "EnsembleLearner",
    "EstimatorLearner",
    "Learner",
    "PropagationLearner",
    "RoundContext",
    "Rounds",
    "TorchLearner",
    "make_learner",
]
