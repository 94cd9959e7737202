"""The query module: scores, selection, the pool pass and the prediction history."""

from inspect import isfunction

from dal.query.activelab import ActiveLab, activelab
from dal.query.badge import Badge
from dal.query.bait import Bait
from dal.query.base import BatchStrategy, PoolView, Query, ScoreStrategy, Strategy
from dal.query.batchbald import BatchBALD, batchbald
from dal.query.bayesian import BALD, bald
from dal.query.combination import Parallel, Probabilistic, Serial
from dal.query.committee import (
    ConsensusEntropy,
    MaxDisagreement,
    MeanStd,
    MemberStatistics,
    VariationRatio,
    VoteEntropy,
    consensus_entropy,
    max_disagreement,
    mean_std,
    member_statistics,
    variation_ratio,
    vote_entropy,
)
from dal.query.coverage import MaxHerding, ProbCover
from dal.query.density import Density, DensityWeighted, InformationDensity
from dal.query.diversity import CoreSet, KMeans, TypiClust
from dal.query.epig import EPIG, epig
from dal.query.error_reduction import ExpectedErrorReduction, expected_error_reduction
from dal.query.flips import AlfaMix, DropQuery
from dal.query.history import PredictionHistory
from dal.query.hybrid import ClusterMargin, Falcun, UHerding
from dal.query.hyperplane import Hyperplane, hyperplane
from dal.query.instability import Instability, instability
from dal.query.model_change import (
    ExpectedGradientLength,
    expected_gradient_length,
    last_layer_lengths,
)
from dal.query.multilabel import (
    MaxBinaryEntropy,
    MeanBinaryEntropy,
    MultilabelMargin,
    max_binary_entropy,
    mean_binary_entropy,
    multilabel_margin,
)
from dal.query.needs import (
    Decision,
    Features,
    GradNorms,
    History,
    LookAhead,
    Members,
    Need,
    Needs,
    Probs,
)
from dal.query.purity import Pure
from dal.query.refine import Refine
from dal.query.schedule import Schedule
from dal.query.stochastic import StochasticBatch
from dal.query.typical_margin import TypicalMargin
from dal.query.uncertainty import (
    Entropy,
    LeastConfidence,
    Margin,
    Random,
    entropy,
    indecision,
    least_confidence,
    margin,
)
from dal.utils.arrays import takes_arrays

__all__ = [
    "BALD",
    "EPIG",
    "ActiveLab",
    "AlfaMix",
    "Badge",
    "Bait",
    "BatchBALD",
    "BatchStrategy",
    "ClusterMargin",
    "ConsensusEntropy",
    "CoreSet",
    "Decision",
    "Density",
    "DensityWeighted",
    "DropQuery",
    "Entropy",
    "ExpectedErrorReduction",
    "ExpectedGradientLength",
    "Falcun",
    "Features",
    "GradNorms",
    "History",
    "Hyperplane",
    "InformationDensity",
    "Instability",
    "KMeans",
    "LeastConfidence",
    "LookAhead",
    "Margin",
    "MaxBinaryEntropy",
    "MaxDisagreement",
    "MaxHerding",
    "MeanBinaryEntropy",
    "MeanStd",
    "MemberStatistics",
    "Members",
    "MultilabelMargin",
    "Need",
    "Needs",
    "Parallel",
    "PoolView",
    "PredictionHistory",
    "ProbCover",
    "Probabilistic",
    "Probs",
    "Pure",
    "Query",
    "Random",
    "Refine",
    "Schedule",
    "ScoreStrategy",
    "Serial",
    "StochasticBatch",
    "Strategy",
    "TypiClust",
    "TypicalMargin",
    "UHerding",
    "VariationRatio",
    "VoteEntropy",
    "activelab",
    "bald",
    "batchbald",
    "consensus_entropy",
    "entropy",
    "epig",
    "expected_error_reduction",
    "expected_gradient_length",
    "hyperplane",
    "indecision",
    "instability",
    "last_layer_lengths",
    "least_confidence",
    "margin",
    "max_binary_entropy",
    "max_disagreement",
    "mean_binary_entropy",
    "mean_std",
    "member_statistics",
    "multilabel_margin",
    "variation_ratio",
    "vote_entropy",
]

# At this door scores take arrays for tensors; within the package they are functions of tensors.
for _name in __all__:
    if isfunction(globals()[_name]):
        globals()[_name] = takes_arrays(globals()[_name])
