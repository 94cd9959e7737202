"""Cooperative learning: confident guesses are learned from beside the answers."""

from dal.cooperation.base import AnswersAlone, Cooperative
from dal.cooperation.sure import (
    AgreeingRounds,
    FixedThreshold,
    FlexibleThresholds,
    QuantileByClass,
)
from dal.cooperation.teacher import ModelItself, Propagation, Teacher

__all__ = [
    "AgreeingRounds",
    "AnswersAlone",
    "Cooperative",
    "FixedThreshold",
    "FlexibleThresholds",
    "ModelItself",
    "Propagation",
    "QuantileByClass",
    "Teacher",
]
