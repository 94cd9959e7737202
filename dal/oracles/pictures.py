"""Picked images as files, for people who label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from dal.recording.figures import image_grid
from dal.utils.safe_files import make_folder, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 100
"""So many images are on a sheet; the folder holds all."""
_COLUMNS, _SIDE, _LINE = 10, 112, 14
_SEEN = 256  # pixels of the longest side that are seen without a glass


def draw(images: Tensor, names: Sequence[int], folder: Path) -> None:
    """Write images as a folder of PNG files, and beside it a sheet of the first `SHOWN` of them.

    Args:
        images: uint8 or float, (n, channels, H, W); see `image_grid`. Of four channels the last is
            left out.
        names: Names the files and stands under the images on the sheet.
        folder: Created if it is missing; the sheet has its name with ``.png``, and comes last.

    Raises:
        OSError: A file cannot be written.
    """
    make_folder(folder)
    images = images[:, :3] if images.shape[1] == 4 else images
    for image, name in zip(images, names, strict=True):
        _save(_tile(image, max(image.shape[-2:])), folder / f"{name}.png")
    _save(_sheet(images[:SHOWN], names[:SHOWN]), folder.with_name(f"{folder.name}.png"))


def as_png(image: Tensor) -> bytes:
    """An image (channels, H, W) as a PNG file; small ones are enlarged to be seen."""
    from io import BytesIO

    buffer = BytesIO()
    image = image[:3] if len(image) == 4 else image
    _tile(image, max(_SEEN, *image.shape[-2:])).save(buffer, format="png")
    return buffer.getvalue()


def _tile(image: Tensor, side: int) -> Image:
    """An image (channels, H, W) whose longest side has at most so many pixels."""
    from PIL import Image

    pixels = image_grid(image[None], columns=1, side=side, padding=0)
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def _sheet(images: Tensor, names: Sequence[int]) -> Image:
    """Images in rows, each with its name below."""
    from PIL import Image, ImageDraw

    tiles = [_tile(image, _SIDE) for image in images]
    wide, high = _SIDE + 8, tiles[0].height + _LINE + 8
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * wide, -(-len(tiles) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        x, y = place % columns * wide + 4, place // columns * high + 4
        sheet.paste(tile, (x, y))
        pen.text((x, y + tile.height + 1), str(name), fill="black")
    return sheet


def _save(image: Image, path: Path) -> None:
    write_atomically(path, lambda file: image.save(file, format="png"), sync=False)
