"""Networks of torchvision without their last layer, their weights, and how they want images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output
from dal.models.torchvision_network import cut_network, find_state
from dal.models.weights import load_weights
from dal.utils.inputs import Inputs, one_tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Turns images into what a backbone was trained on; in batches, on the device.

    With the settings of torchvision's weights it computes what their ``transforms()`` do.

    Attributes:
        resize: Length in pixels of the shorter side after resizing; (height, width) where both are
            given.
        crop: Side length of the square cut out of the middle, or None for none.
        mean: Of each channel, in units of [0, 1].
        std: Likewise.
        mode: ``bilinear`` or ``bicubic``, both antialiased.
    """

    resize: int | tuple[int, int]
    crop: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    mode: str = "bilinear"

    def __call__(self, images: Inputs) -> Tensor:
        """Prepare a batch.

        Args:
            images: uint8 in [0, 255] or float32 in [0, 1], (B, 1 or 3, H, W); gray ones are
                repeated in three channels.

        Returns:
            float32, (B, 3, side, side).
        """
        images = one_tensor(images, "a network of torchvision")
        x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        size = self._size(x.shape[-2], x.shape[-1])
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode=self.mode, align_corners=False, antialias=True)
        x = x if self.crop is None else _center(x, self.crop)
        mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize


def _center(images: Tensor, side: int) -> Tensor:
    """The middle square; images smaller than it are padded with zeros."""
    height, width = images.shape[-2:]
    down, right = max(side - height, 0), max(side - width, 0)
    if down or right:
        images = F.pad(images, (right // 2, (right + 1) // 2, down // 2, (down + 1) // 2))
        height, width = images.shape[-2:]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return images[..., top : top + side, left : left + side]


class Backbone(nn.Module):
    """A network without its last layer.

    Args:
        network: Gives its features (B, ...) as output.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Output:
        """Features (B, D) of images, in the place of logits too."""
        features = self.network(x).flatten(1)
        return Output(features, features)


def torchvision_backbone(name: str, weights: str) -> tuple[Backbone, Preprocess]:
    """A torchvision classifier without its last linear layer, with pretrained weights.

    Args:
        name: As in ``torchvision.models.list_models()``.
        weights: The name of weights of torchvision's, which are downloaded once; or a file (.pt,
            .pth) with a state dict, in which the network may stand below a prefix, as in
            checkpoints of self-supervised training (``module.encoder_q.conv1.weight``).

    Returns:
        The network, and how it wants its images; for weights from a file torchvision's usual way.

    Raises:
        ValueError: There is no such network, no such weights, or they do not fit.
        FileNotFoundError: The file is not there.
        OSError: The weights could not be downloaded.
    """
    with torch.random.fork_rng(devices=[]):
        network = cut_network(name, "features.backbone", fresh=False)
    state, transforms = find_state(name, weights, "features.weights")
    remedy = "set features.backbone to the network they are of"
    load_weights(network, state, f"features.weights={weights}", name, remedy)
    preprocess = Preprocess(256, 224) if transforms is None else _own_preprocess(transforms)
    return Backbone(network), preprocess


def weights_digest(model: nn.Module) -> str:
    """A digest of all weights and buffers of a network, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(repr((name, tuple(value.shape), value.dtype)).encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _own_preprocess(transforms: Any) -> Preprocess:
    """The settings of a ``torchvision.transforms._presets.ImageClassification``."""
    return Preprocess(
        resize=int(transforms.resize_size[0]),
        crop=int(transforms.crop_size[0]),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        mode=str(transforms.interpolation.value),
    )
