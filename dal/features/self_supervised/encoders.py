"""Networks that learn features without labels, and what compares these while they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from dal.models.fine_tuning import FineTuned
from dal.models.frozen import features_of
from dal.models.resnet18 import ResNet18
from dal.models.small_cnn import SmallCNN

SMALL = 32
"""Images of at most so many pixels a side are small."""
UNUSED = 2
"""Classes of heads that nothing is asked of."""


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


def encoder_of(name: str, shape: tuple[int, ...]) -> Callable[..., FineTuned]:
    """What builds an encoder of a shape, given that and a number of classes.

    Args:
        name: ``small`` or ``resnet18``.
        shape: Of prepared images, (channels, H, W).
    """
    if name == "small":
        return SmallCNN
    return partial(ResNet18, stem="small" if max(shape[1:]) <= 2 * SMALL else "imagenet")


def make_encoder(name: str, shape: tuple[int, ...]) -> FineTuned:
    """A fresh encoder, whose head nobody uses; see `encoder_of`.

    Raises:
        ValueError: The images are too small.
    """
    return encoder_of(name, shape)(shape, UNUSED)
