"""Cooperative learning: confident guesses of the model are learned from beside the answers."""

from dal.cooperation.base import AnswersAlone, Cooperative
from dal.cooperation.sure import (
    AgreeingRounds,
    FixedThreshold,
    FlexibleThresholds,
    QuantileByClass,
)

__all__ = [
    "AgreeingRounds",
    "AnswersAlone",
    "Cooperative",
    "FixedThreshold",
    "FlexibleThresholds",
    "QuantileByClass",
]
