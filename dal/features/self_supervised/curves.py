"""TensorBoard's curves of a training without labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dal.data.source import Split, is_known
from dal.features.self_supervised.pretraining import Pretraining
from dal.features.self_supervised.probe import effective_rank, neighbor_accuracy, spread
from dal.recording.event_file import EventFile
from dal.utils.seeding import generator

EVERY = 10
"""Steps between two points of the loss."""
PROBED = 2000
"""Samples whose neighbors and directions are looked at."""


class Curves:
    """TensorBoard's curves of a training: loss and rate by step, and what features are worth.

    Args:
        folder: Of the event files.
        split: What is learned from: of the samples a fixed part is looked at.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.file = EventFile(folder)
        order = torch.randperm(len(split), generator=generator(0, "self_supervised", "probe"))
        self.probed = order[:PROBED].sort().values
        self.targets = split.targets[self.probed]
        self.known = is_known(self.targets) & (self.targets.ndim == 1)

    def step(self, training: Pretraining, loss: Tensor) -> None:
        """Draw the loss of a step.

        Raises:
            ValueError: It is not finite.
        """
        if training.step % EVERY:
            return
        value = float(loss)
        if not math.isfinite(value):
            raise ValueError(
                f"the loss of features=self_supervised is {value} after step {training.step}; "
                "lower features.lr"
            )
        rate = training.plan.rate(training.step - 1)
        self._draw({"train/loss": value, "train/lr": rate}, training.step)

    def measure(self, training: Pretraining, check: Callable[[], None]) -> dict[str, float]:
        """Neighbors, rank and spread of the features as they are."""
        features = training.features(self.probed, check)
        found = {"probe/effective_rank": effective_rank(features), "probe/spread": spread(features)}
        if int(self.known.sum()) > 1:
            labeled = features[self.known], self.targets[self.known]
            found["probe/neighbors"] = neighbor_accuracy(*labeled)
        self._draw(found, training.step)
        return found

    def _draw(self, values: dict[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.file.add(Summary(value=points), step)

    def close(self) -> None:
        """The last call."""
        self.file.close()
