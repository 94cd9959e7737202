"""Networks that stand frozen in front of a model, and give it features."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output, forward
from dal.utils.inputs import Inputs

DTYPES = {"float16": torch.float16, "float32": torch.float32}
"""Types in which features are kept."""


class UnitLength(nn.Module):
    """An encoder whose features have length 1, as they are compared by angles.

    Args:
        encoder: Answers with an `Output` that has features.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Output:
        """Features (B, D), in the place of logits too."""
        features = F.normalize(features_of(self.encoder, x))
        return Output(features, features)


class Behind(nn.Module):
    """A model of features with the network in front of it that gives them.

    Args:
        front: Answers with an `Output` that has features (B, D).
        dtype: Type to which the features were rounded before the model learned from them.
        prepare: What else was done to them: normalization.
        model: Takes features (B, D).
        numel: How many numbers a prepared sample is to the network in front.
    """

    def __init__(
        self,
        front: nn.Module,
        dtype: torch.dtype,
        prepare: Callable[[Inputs], Inputs],
        model: nn.Module,
        numel: int,
    ) -> None:
        super().__init__()
        self.front, self.model = front, model
        self.dtype, self.prepare, self.sample_numel = dtype, prepare, numel

    @property
    def head(self) -> nn.Module | None:
        """The last layer of the model, see `dal.models.base.last_layer`."""
        return getattr(self.model, "head", None)

    def forward(self, x: Inputs) -> Output:
        """What the model says of prepared samples (B, ...) of the network in front."""
        return forward(self.model, self.prepare(features_of(self.front, x).to(self.dtype)))


def features_of(encoder: nn.Module, x: Inputs) -> Tensor:
    """Features (B, D) of samples.

    Raises:
        TypeError: The network has none to give.
    """
    features = forward(encoder, x).features
    if features is None:
        raise TypeError(f"{type(encoder).__name__} has no features")
    return features
