"""Augmentation: images of a training step changed at random, on the device, by batch.

Every sample of a step has a row of random numbers, from which all of its changes follow. All that
moves pixels is one affine map and one `grid_sample` a batch; all that changes colors is one matrix
product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal.utils.inputs import InputSpec
from dal.utils.ranges import check_number

__all__ = ["Augment", "unchanged"]

COLUMNS = (
    "flip",
    "area",
    "ratio",
    "x",
    "y",
    "rotation",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "erase",
    "erase_area",
    "erase_ratio",
    "erase_x",
    "erase_y",
)
"""What each number of a sample's row decides: switching one change on moves no other."""

COLORS = ("brightness", "contrast", "saturation", "hue")
ERASED_AREA = (0.02, 0.25)
ERASED_RATIO = 3.0
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the gray of a color (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augment:
    """Random changes of images that leave their class as it is; without arguments none.

    They are made in training steps only: measured losses, validation, the pass over the pool and
    predictions see images as they are. A step's draws follow from seed, round, epoch and step, and
    those of a sample from its place in the batch: nothing else needs to be saved for a fit to go on
    exactly. Steps are not recorded as CUDA graphs with it, since a recorded step would repeat the
    draws of one batch.

    Attributes:
        flip: Mirror half of the images left to right.
        area: Smallest and largest share of the image's area that is seen; above 1 it shrinks.
        ratio: Largest ratio of the sides of what is seen, 1 or more; as often wide as tall.
        shift: Move by at most this share of the side, besides the way a smaller area has.
        rotation: Turn by at most so many degrees.
        edge: What lies beyond the image: its last pixels (``border``), or itself mirrored
            (``reflection``).
        brightness: Multiply by 1 plus or minus at most this.
        contrast: Stretch about the image's mean gray by 1 plus or minus at most this.
        saturation: The same of colors about their gray; needs 3 channels, nothing otherwise.
        hue: Turn colors about the gray axis by at most this share of a circle; 3 channels.
        erase: Probability that a rectangle of 2 to 25 % of the area becomes the mean color.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is no number.

    Reference:
        A. Krizhevsky et al. ImageNet classification with deep convolutional neural networks. NIPS
        2012, section 4.1. C. Szegedy et al. Going deeper with convolutions. CVPR 2015, section 6
        (area and ratio). Z. Zhong et al. Random erasing data augmentation. AAAI 2020.

    Differs from the papers:
        Hue turns colors in RGB, not in HSV; values are not cut off at black and white.
    """

    flip: bool = False
    area: tuple[float, float] = (1.0, 1.0)
    ratio: float = 1.0
    shift: float = 0.0
    rotation: float = 0.0
    edge: Literal["border", "reflection"] = "border"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        key = "trainer.augment"
        if not isinstance(self.flip, bool):
            raise TypeError(f"{key}.flip={self.flip!r}; choose true or false")
        if self.edge not in ("border", "reflection"):
            raise ValueError(f"{key}.edge={self.edge!r}; choose border or reflection")
        if isinstance(self.area, str | float | int) or len(self.area) != 2:
            raise ValueError(f"{key}.area={self.area!r}; give two numbers, such as [0.8,1.2]")
        for share in self.area:
            check_number(f"{key}.area", share, positive=True)
        check_number(f"{key}.ratio", self.ratio, positive=True)
        if self.area[0] > self.area[1] or self.ratio < 1:
            raise ValueError(f"{key}: give area as smallest, largest, and a ratio of at least 1")
        check_number(f"{key}.rotation", self.rotation)
        for name in ("shift", "brightness", "contrast", "saturation"):
            check_number(f"{key}.{name}", getattr(self, name), below=1)
        for name, most in (("hue", 0.5), ("erase", 1.0)):
            check_number(f"{key}.{name}", getattr(self, name))
            if getattr(self, name) > most:
                raise ValueError(f"{key}.{name}={getattr(self, name)}; give at most {most}")

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return any(self._differs(f.name) for f in fields(self) if f.name != "edge")

    def _differs(self, *names: str) -> bool:
        return any(_plain(getattr(self, name)) != _plain(getattr(NOTHING, name)) for name in names)

    def check(self, shape: InputSpec) -> None:
        """Refuse samples that are no images.

        Args:
            shape: Of a prepared sample, or shapes by name.

        Raises:
            TypeError: It is not (channels, H, W).
        """
        if isinstance(shape, dict) or len(shape) != 3:
            raise TypeError(
                f"trainer/augment changes images, and these samples have the shape {shape}; set "
                "trainer/augment=none"
            )

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Random numbers for samples: float32, (count, 15), in [0, 1), on the CPU.

        The first rows are the same whatever the count.
        """
        return torch.rand(count, len(COLUMNS), generator=rng)

    def __call__(
        self, images: Tensor, drawn: Tensor, mean: Sequence[float] = (), std: Sequence[float] = ()
    ) -> Tensor:
        """Change a batch of images.

        Args:
            images: float32, (B, channels, H, W), prepared.
            drawn: What `draw` gave, (B, 15); or (1, 15), to change all alike.
            mean: By channel, what was taken off them; empty for 0.
            std: By channel, what they were divided by; empty for 1.

        Returns:
            float32, (B, channels, H, W).
        """
        rows = drawn.expand(len(images), -1).to(images.device, non_blocking=True)
        u = dict(zip(COLUMNS, rows.unbind(1), strict=True))
        if self._differs("flip", "area", "ratio", "shift", "rotation"):
            images = moved(images, self.maps(u, images.shape[-2] / images.shape[-1]), self.edge)
        if self._differs(*COLORS):
            around = {name: getattr(self, name) * (2 * u[name] - 1) for name in COLORS}
            brightness, contrast, saturation = (1 + around[name] for name in COLORS[:3])
            images = recolored(images, brightness, contrast, saturation, around["hue"], mean, std)
        if self.erase:
            low, high = ERASED_AREA
            area = low + (high - low) * u["erase_area"]
            ratio = ERASED_RATIO ** (2 * u["erase_ratio"] - 1)
            sizes = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], 1)
            centers = torch.stack([u["erase_y"], u["erase_x"]], 1)
            images = erased(images, centers, sizes * (u["erase"] < self.erase).unsqueeze(1))
        return images

    def maps(self, u: dict[str, Tensor], aspect: float) -> Tensor:
        """Where each pixel comes from: (B, 2, 3), in units of half a side; see `F.affine_grid`.

        Args:
            u: The draws.
            aspect: Height divided by width, so that turning keeps right angles.
        """
        low, high = self.area
        area, ratio = low + (high - low) * u["area"], self.ratio ** (2 * u["ratio"] - 1)
        most = max(math.sqrt(high), 1.0)
        width, height = (area * ratio).sqrt().clamp(max=most), (area / ratio).sqrt().clamp(max=most)
        x, y = (
            (2 * u[axis] - 1) * ((1 - side).clamp(min=0) + 2 * self.shift)
            for axis, side in (("x", width), ("y", height))
        )
        angle = math.radians(self.rotation) * (2 * u["rotation"] - 1)
        cos, sin = angle.cos(), angle.sin()
        mirror = torch.where(u["flip"] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(x)
        rows = [
            torch.stack([cos * width * mirror, -sin * height * aspect, x], 1),
            torch.stack([sin * width * mirror / aspect, cos * height, y], 1),
        ]
        return torch.stack(rows, 1)


NOTHING = Augment()


def unchanged() -> None:
    """Images stay as they are."""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def moved(images: Tensor, maps: Tensor, edge: str, offsets: Tensor | None = None) -> Tensor:
    """Images seen through affine maps, between pixels bilinearly.

    Args:
        images: float, (B, C, H, W).
        maps: (B, 2, 3), from places in the result to places in the image.
        edge: ``border`` or ``reflection``.
        offsets: (B, 2, h, w), ways in x and y added to the places in the image, in units of half a
            side, at h x w points from corner to corner, and bicubically between them; None for 0.
    """
    grid = F.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    if offsets is not None:
        size = list(images.shape[-2:])
        ways = F.interpolate(offsets, size, mode="bicubic", align_corners=True)
        grid = grid + ways.movedim(1, -1)
    return F.grid_sample(images, grid, padding_mode=edge, align_corners=False)


def recolored(
    images: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    turns: Tensor,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Tensor:
    """Images with other colors: brightness, then contrast, saturation, hue, in their own units.

    All four are affine in the colors of a pixel, and saturation and hue leave grays as they are.
    With brightness b, contrast c, matrices S and H, and the image's mean gray g this is
    ``b c H S x + b (1 - c) g``; the normalization is taken into matrix and summand.

    Args:
        images: float32, (B, C, H, W), normalized by mean and std.
        brightness: Factors, (B,).
        contrast: Factors, (B,).
        saturation: Factors, (B,), of 3 channels.
        turns: Shares of a circle, (B,), of 3 channels.
        mean: By channel; empty for 0.
        std: By channel; empty for 1.
    """
    channels = images.shape[1]
    means = images.new_tensor(mean or [0.0]).expand(channels)
    stds = images.new_tensor(std or [1.0]).expand(channels)
    colorful = channels == len(LUMA)
    luma = images.new_tensor(LUMA) if colorful else images.new_full((channels,), 1 / channels)
    gray = (images.mean((2, 3)) * stds + means) @ luma
    identity = torch.eye(channels, device=images.device)
    matrix = (brightness * contrast).view(-1, 1, 1) * identity
    if colorful:
        share = saturation.view(-1, 1, 1)
        matrix = matrix @ _turned(turns) @ (share * identity + (1 - share) * luma)
    summand = matrix @ means + (brightness * (1 - contrast) * gray).unsqueeze(1) - means
    normalized = matrix * stds / stds.unsqueeze(1)
    changed = torch.baddbmm((summand / stds).unsqueeze(2), normalized, images.flatten(2))
    return changed.view(images.shape)


def _turned(turns: Tensor) -> Tensor:
    """Rotations of red, green and blue about gray, by shares of a circle: (B, 3, 3)."""
    angle = 2 * math.pi * turns.view(-1, 1, 1)
    across = turns.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    onto = turns.new_full((3, 3), 1 / 3)
    cos = angle.cos()
    return cos * torch.eye(3, device=turns.device) + (1 - cos) * onto + angle.sin() * across


def erased(images: Tensor, centers: Tensor, sizes: Tensor) -> Tensor:
    """Images with a rectangle set to 0, which is the mean color of normalized ones.

    Args:
        images: (B, C, H, W).
        centers: Row and column of the middle, (B, 2), in shares of the sides.
        sizes: Height and width, (B, 2), in shares of the sides; 0 for none.
    """
    inside = [
        ((torch.arange(side, device=images.device) + 0.5) / side - center.unsqueeze(1)).abs()
        < size.unsqueeze(1) / 2
        for side, center, size in zip(
            images.shape[2:], centers.unbind(1), sizes.unbind(1), strict=True
        )
    ]
    mask = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
    return images.masked_fill(mask.unsqueeze(1), 0.0)
