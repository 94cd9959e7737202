"""When a run may end: criteria, which look at the rows of metrics. Torch is not imported here."""

from dal.stopping.base import Criterion
from dal.stopping.criteria import (
    ClassificationChange,
    MaxConfidence,
    OverallUncertainty,
    PerformanceConvergence,
    Plateau,
    StabilizingPredictions,
    Target,
)

__all__ = [
    "ClassificationChange",
    "Criterion",
    "MaxConfidence",
    "OverallUncertainty",
    "PerformanceConvergence",
    "Plateau",
    "StabilizingPredictions",
    "Target",
]
