"""What a trainer is given of a split: labeled samples, and those without a label."""

from __future__ import annotations

import torch
from torch import Tensor

from dal.data.source import Split
from dal.train_set import TrainSet
from dal.training.context import Samples, Unlabeled


def labeled_samples(train: Split, train_set: TrainSet, device: torch.device) -> Samples:
    """The samples that a fit trains on, with their targets and weights on the device."""
    indices = train_set.indices.to(device)
    equal = bool((train_set.weights == 1).all())
    length = train.length(train_set.indices)  # one for all steps, to be recorded
    return Samples(
        take=lambda batch: train.take(indices[batch], device, length),
        targets=train_set.targets.to(device),
        weights=None if equal else train_set.weights.to(device),
        on_device=train.store.resident(device),
        expect=lambda batches: train.expect(train_set.indices[batch.cpu()] for batch in batches),
        scale=(train.prepare.mean, train.prepare.std),
    )


def unlabeled_samples(train: Split, candidates: Tensor, device: torch.device) -> Unlabeled:
    """Samples of which no label is known: int64, (N,), indices into the split."""
    indices = candidates.to(device)
    return Unlabeled(lambda batch: train.take(indices[batch], device), len(indices))
