"""Networks of torchvision without their last layer, their weights, and how they want images."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dal.models.base import Output
from dal.models.torchvision_network import cut_network, find_state
from dal.models.weights import is_file, load_weights, no_larger_than
from dal.utils.inputs import Inputs, one_tensor
from dal.utils.ranges import check_whole

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST = 8192
"""Pixels of a side that images are resized to at most, where anybody's file says so."""


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

    @property
    def resizes(self) -> bool:
        """Images may be of any size."""
        return True

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
    given, remedy = (
        f"features.weights={weights}",
        "set features.backbone to the network they are of",
    )
    found = find_state(name, weights, "features.weights") if is_file(weights) else None
    with torch.random.fork_rng(devices=[]), ExitStack() as guards:
        if found is not None:  # a file may be anybody's, and so may be what names it
            numbers = sum(tensor.numel() for tensor in found[0].values())
            fact = f"{given} do not fit {name}, which is larger; {remedy}"
            guards.enter_context(no_larger_than(numbers, fact))
        network = cut_network(name, "features.backbone", fresh=False)
    state, transforms = found or find_state(name, weights, "features.weights")
    load_weights(network, state, given, name, remedy)
    preprocess = Preprocess(256, 224) if transforms is None else _own_preprocess(transforms)
    return Backbone(network), preprocess


def torchvision_front(name: str, weights: str, size: int | None) -> tuple[Backbone, Preprocess]:
    """See `torchvision_backbone`; with images resized, whole, to ``size`` pixels where it is given.

    Raises:
        ValueError, OSError: As there.
    """
    model, prepare = torchvision_backbone(name, weights)
    if size is not None:
        prepare = Preprocess((size, size), None, prepare.mean, prepare.std, prepare.mode)
    return model, prepare


def kept_front(
    path: Path, backbone: str, weights: str, size: int | None, sha256: str
) -> tuple[Backbone, Preprocess]:
    """The network in front of a model as the file of that names it: see `torchvision_front`.

    Args:
        path: That file, which may be anybody's.
        backbone: Name of the network.
        weights: As they were.
        size: As it was.
        sha256: `weights_digest` of it as it was.

    Raises:
        ValueError: They are other weights now.
        OSError: They are not there, or could not be downloaded.
    """
    if size is not None:
        check_whole("the size of its images", size, 1, most=LARGEST)
    if is_file(weights) and not Path(weights).is_file():
        raise FileNotFoundError(
            f"{path}: its features are those of {backbone} by {weights}: there is no such file; "
            "put it back, since a run does not keep pretrained weights, or say where it is: "
            "dal predict --weights FILE, dal.load(run, weights=FILE)"
        )
    model, prepare = torchvision_front(backbone, weights, size)
    if weights_digest(model) != sha256:
        raise ValueError(
            f"its features are those of {backbone} by other weights than those of {weights}; "
            "restore them"
        )
    return model, prepare


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
