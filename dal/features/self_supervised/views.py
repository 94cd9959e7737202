"""Two views of an image that show the same thing: what a kind of image may be changed by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dal.training.augment import COLORS, COLUMNS, Augment, moved, recolored

ViewsName = Literal["auto", "digits", "signs", "objects", "natural"]

OWN = ("shear", "stroke", "gray")
KNOTS = 4
"""Points along a side at which an elastic change is drawn."""
WIDTH = len(COLUMNS) + len(OWN) + 2 * KNOTS**2
"""Random numbers of a view."""


@dataclass(frozen=True)
class Views:
    """Random changes that leave what a sample shows, stronger than those of a fit with labels.

    Each view of a sample has a row of random numbers, from which all of its changes follow.

    Attributes:
        augment: See `dal.training.Augment`: places and colors; its ``erase`` plays no part.
        shear: Slant by at most this share of a side.
        elastic: Move each of 4 x 4 points by at most this share of the side, those between them
            bicubically between.
        stroke: Make strokes thicker or thinner by at most this share of a pixel.
        gray: Probability that colors are left out; needs 3 channels.
    """

    augment: Augment
    shear: float = 0.0
    elastic: float = 0.0
    stroke: float = 0.0
    gray: float = 0.0

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Random numbers for so many views: float32, (count, 50), in [0, 1), on the CPU."""
        return torch.rand(count, WIDTH, generator=rng)

    def __call__(
        self,
        images: Tensor,
        drawn: Tensor,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
    ) -> Tensor:
        """A view of each image.

        Args:
            images: float32, (B, channels, H, W), prepared.
            drawn: What `draw` gave, (B, 50).
            mean: By channel, what was taken off them; empty for 0.
            std: By channel, what they were divided by; empty for 1.

        Returns:
            float32, (B, channels, H, W).
        """
        rows = drawn.to(images.device, non_blocking=True)
        numbers, knots = torch.split(rows, [len(COLUMNS) + len(OWN), 2 * KNOTS**2], 1)
        u = dict(zip((*COLUMNS, *OWN), numbers.unbind(1), strict=True))
        maps = self.augment.maps(u, images.shape[-2] / images.shape[-1])
        images = moved(images, self._slanted(maps, u), self.augment.edge, self._offsets(knots))
        if self.stroke:
            images = stroked(images, self.stroke * (2 * u["stroke"] - 1))
        if self.gray or any(getattr(self.augment, name) for name in COLORS):
            images = self._colored(images, u, mean, std)
        return images

    def _slanted(self, maps: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Affine maps (B, 2, 3) with a slant before them."""
        if not self.shear:
            return maps
        slant = torch.eye(3, device=maps.device).repeat(len(maps), 1, 1)
        slant[:, 0, 1] = self.shear * (2 * u["shear"] - 1)
        return maps @ slant

    def _offsets(self, knots: Tensor) -> Tensor | None:
        """Ways (B, 2, 4, 4) that points are moved by, in units of half a side."""
        if not self.elastic:
            return None
        return 2 * self.elastic * (2 * knots.view(-1, 2, KNOTS, KNOTS) - 1)

    def _colored(
        self,
        images: Tensor,
        u: dict[str, Tensor],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> Tensor:
        around = {name: getattr(self.augment, name) * (2 * u[name] - 1) for name in COLORS}
        brightness, contrast, saturation = (1 + around[name] for name in COLORS[:3])
        saturation = saturation * (u["gray"] >= self.gray)
        return recolored(images, brightness, contrast, saturation, around["hue"], mean, std)


def stroked(images: Tensor, weights: Tensor) -> Tensor:
    """Images with thicker or thinner bright strokes.

    Args:
        images: float, (B, C, H, W).
        weights: (B,), in [-1, 1]: which share of the way to the brightest of the 9 pixels around
            each, or, below 0, to the darkest.
    """
    sign = torch.where(weights < 0, -1.0, 1.0).view(-1, 1, 1, 1)
    extreme = sign * F.max_pool2d(images * sign, 3, stride=1, padding=1)
    return torch.lerp(images, extreme, weights.abs().view(-1, 1, 1, 1))


NAMED = {
    "digits": Views(
        Augment(area=(0.6, 1.5), ratio=1.2, shift=0.08, rotation=20),
        shear=0.3,
        elastic=0.06,
        stroke=0.6,
    ),
    "signs": Views(
        Augment(
            area=(0.5, 1.2),
            ratio=1.2,
            shift=0.08,
            rotation=15,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
        ),
        shear=0.2,
        gray=0.2,
    ),
    "objects": Views(
        Augment(flip=True, area=(0.3, 1.0), ratio=4 / 3, brightness=0.4, contrast=0.4)
    ),
    "natural": Views(
        Augment(
            flip=True,
            area=(0.2, 1.0),
            ratio=4 / 3,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
        ),
        gray=0.2,
    ),
}

IN_WORDS = {
    "digits": "shift, scale, rotation, slant, elastic, stroke; no flips",
    "signs": "shift, scale, rotation, slant, colors; no flips",
    "objects": "crops, flips, brightness, contrast",
    "natural": "crops, flips, colors, gray",
}


def views_for(
    name: ViewsName, shape: tuple[int, ...], data: str, depicts: str = ""
) -> tuple[str, Views]:
    """The views of some images, and their name.

    Args:
        name: One of `NAMED`; or ``auto``: what the data set says that its images depict, else
            natural for colored images, and signs, of which nothing is mirrored, for gray ones.
        shape: (channels, H, W).
        data: The data set's name, for errors.
        depicts: See `dal.data.Dataset`.

    Raises:
        ValueError: Colors are to be changed where there are none, or nobody knows what is depicted.
    """
    chosen: str = name
    if name == "auto":
        chosen = depicts or ("natural" if shape[0] == 3 else "signs")
    if chosen not in NAMED:
        raise ValueError(f"{data} depicts {chosen!r}; give one of {', '.join(NAMED)}, or nothing")
    if chosen == "natural" and shape[0] != 3:
        raise ValueError(
            f"features.views=natural changes colors, and images of {data} have {shape[0]} "
            "channels; set features.views=objects, or signs for what must not be mirrored"
        )
    return chosen, NAMED[chosen]
