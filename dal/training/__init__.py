"""How a network is fitted: trainers, one step, one epoch, when to stop."""

from dal.training.augment import Augment, unchanged
from dal.training.early_stopping import EarlyStopping
from dal.training.fixmatch import FixMatch
from dal.training.full_batch import FullBatch
from dal.training.optim import adam, adamw, constant, cosine, milestones, sgd, step
from dal.training.trainer import Trainer

__all__ = [
    "Augment",
    "EarlyStopping",
    "FixMatch",
    "FullBatch",
    "Trainer",
    "adam",
    "adamw",
    "constant",
    "cosine",
    "milestones",
    "sgd",
    "step",
    "unchanged",
]
