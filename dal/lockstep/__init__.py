"""Several runs in one process, whose networks train and predict as one stacked model."""

from dal.lockstep.engine import Engine, Replica
from dal.lockstep.learner import Lockstep, Mode

__all__ = ["Engine", "Lockstep", "Mode", "Replica"]
