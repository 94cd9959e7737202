"""The query module: scores, selection, the pool pass and the prediction history."""

from dal.query.base import (
    BatchStrategy,
    Decision,
    Features,
    GradNorms,
    History,
    LookAhead,
    Members,
    Need,
    Needs,
    PoolView,
    Probs,
    Query,
    ScoreStrategy,
    Strategy,
)
from dal.query.history import PredictionHistory
from dal.query.instability import Instability, instability
from dal.query.model_change import ExpectedGradientLength, expected_gradient_length
from dal.query.multilabel import (
    MaxBinaryEntropy,
    MeanBinaryEntropy,
    MultilabelMargin,
    max_binary_entropy,
    mean_binary_entropy,
    multilabel_margin,
)
from dal.query.uncertainty import (
    Entropy,
    LeastConfidence,
    Margin,
    Random,
    entropy,
    least_confidence,
    margin,
)

__all__ = [
    "BatchStrategy",
    "Decision",
    "Entropy",
    "ExpectedGradientLength",
    "Features",
    "GradNorms",
    "History",
    "Instability",
    "LeastConfidence",
    "LookAhead",
    "Margin",
    "MaxBinaryEntropy",
    "MeanBinaryEntropy",
    "Members",
    "MultilabelMargin",
    "Need",
    "Needs",
    "PoolView",
    "PredictionHistory",
    "Probs",
    "Query",
    "Random",
    "ScoreStrategy",
    "Strategy",
    "entropy",
    "expected_gradient_length",
    "instability",
    "least_confidence",
    "margin",
    "max_binary_entropy",
    "mean_binary_entropy",
    "multilabel_margin",
]
