"""Samples that arrive one after the other: in which order, and which of them are asked about."""

from dal.streams.managers import (
    AboveThreshold,
    AtRandom,
    BudgetManager,
    Quantile,
    RandomizedThreshold,
    SplitThreshold,
    VariableThreshold,
)

__all__ = [
    "AboveThreshold",
    "AtRandom",
    "BudgetManager",
    "Quantile",
    "RandomizedThreshold",
    "SplitThreshold",
    "VariableThreshold",
]
