"""Networks that learn features without labels, and what compares these while they do."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output, forward
from dal.models.fine_tuning import FineTuned
from dal.models.resnet18 import ResNet18
from dal.models.small_cnn import SmallCNN

SMALL = 32
"""Images of at most so many pixels a side are small."""
UNUSED = 2
"""Classes of heads that nothing is asked of."""


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


class Joint(nn.Module):
    """An encoder with the projection that is trained with it and then left.

    Args:
        encoder: Answers with an `Output` that has features (B, width).
        width: Of these.
        hidden: Width of the projection's hidden layer.
        projected: Width of what it gives.
    """

    def __init__(self, encoder: nn.Module, width: int, hidden: int, projected: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, projected),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Projections (B, projected) of images."""
        projections: Tensor = self.projection(features_of(self.encoder, x))
        return projections


def features_of(encoder: nn.Module, x: Tensor) -> Tensor:
    """Features (B, D) of images.

    Raises:
        TypeError: The network has none to give.
    """
    features = forward(encoder, x).features
    if features is None:
        raise TypeError(f"{type(encoder).__name__} has no features")
    return features


def make_encoder(name: str, shape: tuple[int, ...]) -> FineTuned:
    """A fresh encoder, whose head nobody uses.

    Args:
        name: ``small`` or ``resnet18``.
        shape: Of prepared images, (channels, H, W).

    Raises:
        ValueError: The images are too small.
    """
    if name == "small":
        return SmallCNN(shape, UNUSED)
    return ResNet18(shape, UNUSED, "small" if max(shape[1:]) <= 2 * SMALL else "imagenet")
