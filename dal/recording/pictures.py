"""Pictures of samples with words below them; drawn without matplotlib, in some milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dal.recording.figures import image_grid

SIDE = 96
"""Longest side of an image in pixels, at most; see `image_grid`."""
_WIDTH, _LINE, _MARGIN = 112, 14, 5


def captioned(images: Tensor, captions: Sequence[Sequence[str]], *, columns: int = 8) -> Tensor:
    """Arrange images in a grid, row by row, each with its lines of text below it.

    Args:
        images: uint8 or float, (n, channels, H, W), as for `image_grid`.
        captions: The lines of each of the n; equally many. What is too long for the width of an
            image is cut off, with an ellipsis.
        columns: Images per row; the last row is filled up with white.

    Returns:
        uint8, (3, height, width).

    Raises:
        ValueError: ``images`` is empty, has not four dimensions, or has not as many captions.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(images)} images; pass one for each")
    tiles = [_tile(image) for image in images]
    columns = min(columns, len(tiles))
    high = max(tile.height for tile in tiles) + _LINE * len(captions[0]) + 2 * _MARGIN
    wide = max(_WIDTH, *(tile.width for tile in tiles)) + 2 * _MARGIN
    sheet = Image.new("RGB", (columns * wide, -(-len(tiles) // columns) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (tile, lines) in enumerate(zip(tiles, captions, strict=True)):
        x, y = place % columns * wide + _MARGIN, place // columns * high + _MARGIN
        sheet.paste(tile, (x, y))
        for number, line in enumerate(lines):
            below = (x, y + tile.height + 2 + number * _LINE)
            draw.text(below, _fitting(line, wide - 2 * _MARGIN), fill="black", font=_font())
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def end_of(name: str, length: int = 18) -> str:
    """The end of a file's name, which tells more than its beginning."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _tile(image: Tensor) -> Image.Image:
    """One image as a picture of three colors."""
    pixels = image_grid(image[None], side=SIDE, padding=0)
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def _fitting(line: str, width: int) -> str:
    """As much of a line as has room."""
    line = " ".join(line.split())[:80]
    if _font().getlength(line) <= width:
        return line
    while line and _font().getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib: Latin, Greek and Cyrillic letters."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 11)
