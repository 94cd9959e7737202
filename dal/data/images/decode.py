"""A picture file's content as an array of fixed size, by Pillow.

Nothing here knows folders or caches. Only formats that Pillow decodes itself are read (`FORMATS`):
some others, such as EPS, run other programs.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

P = ParamSpec("P")
T = TypeVar("T")

_PLUGINS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "WEBP": "WebP",
    "BMP": "Bmp",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "PPM": "Ppm",
    "JPEG2000": "Jpeg2K",
    "AVIF": "Avif",
}


def _registered() -> tuple[str, ...]:
    """The formats of `_PLUGINS` that this Pillow reads; no other plugin is imported for it."""
    for plugin in _PLUGINS.values():
        try:
            import_module(f"PIL.{plugin}ImagePlugin")
        except ImportError:
            if plugin != "Avif":  # came with Pillow 11.3
                raise
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


FORMATS = _registered()
"""Names of the formats that are read, as Pillow has them; MPO counts as JPEG."""

_LIBRARIES = ("jpg", "libjpeg_turbo", "webp", "avif")
VERSION = "; ".join(
    ["dal 1", f"Pillow {PIL.__version__}"]
    + [f"{name} {found}" for name in _LIBRARIES if (found := features.version(name))]
)
"""What decides the bits of decoded pictures: this file's own revision, Pillow, and libraries."""

DRAFT = 2
"""JPEG files are decoded at 1/2, 1/4 or 1/8 where that leaves at least so many times the target."""

_WAYS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its orientation in EXIF."""

_APPLE = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc")
_QUIET = ("ignore", None, Warning, re.compile("PIL"), 0)


@dataclass(frozen=True)
class Decoding:
    """How a picture becomes an array.

    Attributes:
        size: Height and width of the result, in pixels.
        fit: ``crop`` scales the short side to `size` and keeps the middle of the long one;
            ``squash`` scales both sides.
        channels: 3 for RGB, 1 for luminance.
        version: The decoder whose bits are meant; see `VERSION`.
    """

    size: int
    fit: Literal["crop", "squash"] = "crop"
    channels: Literal[1, 3] = 3
    version: str = VERSION


@dataclass(frozen=True)
class Look:
    """What a file's header says.

    Attributes:
        width: In pixels, as people see the picture, turned as its EXIF data say.
        height: As `width`.
        gray: Whether it has no colors: one channel, or a palette of grays.
        format: One of `FORMATS`.
    """

    width: int
    height: int
    gray: bool
    format: str


class UnreadableError(ValueError):
    """A file is no picture that can be read; the text is the reason, without the file's name."""


def _told(read: Callable[P, T]) -> Callable[P, T]:
    """Every failure of Pillow as a reason in one line; its warnings of odd files are not shown.

    Its decoders raise of all kinds at damaged content.
    """

    @wraps(read)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        # Not `catch_warnings`, which is slow and not safe among threads.
        if warnings.filters[:1] != [_QUIET]:
            warnings.filterwarnings("ignore", module="PIL")
        try:
            return read(*args, **kwargs)
        except (UnreadableError, MemoryError):
            raise
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise UnreadableError(f"it has more than {limit / 1e6:.0f} million pixels") from None
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UnreadableError(f"it is damaged: {reason}") from error

    return telling


@_told
def look(content: bytes) -> Look:
    """Read a file's header; the pixels behind it may be damaged all the same.

    Raises:
        UnreadableError: It is no picture of a format that is read.
    """
    with _opened(content) as image:
        width, height = image.size
        # Pillow has turned the size of a TIFF file already.
        if image.format != "TIFF" and _orientation(image) >= 5:
            width, height = height, width
        return Look(width, height, _is_gray(image), image.format or "")


def decode(content: bytes, how: Decoding) -> NDArray[np.uint8]:
    """Decode a file's content.

    Pictures are scaled with a bilinear filter as wide as the reduction asks for (antialiased), up
    as well as down; one that has the right size already keeps its pixels. Of several frames the
    first is taken. Transparent parts are laid over white, CMYK becomes RGB without a color profile,
    and whole numbers of 16 bits are divided by 257, those of 32 bits that exceed them by 2^23.

    Args:
        content: All bytes of the file.
        how: What the result shall be. Its `version` is not looked at: the decoder is `VERSION`.

    Returns:
        uint8, (channels, size, size).

    Raises:
        UnreadableError: The content is empty, damaged, incomplete, too large, no picture, or one
            of floating-point numbers, whose range nobody knows.
    """
    return np.ascontiguousarray(decode_gray(content, how)[0])


@_told
def decode_gray(content: bytes, how: Decoding) -> tuple[NDArray[np.uint8], bool]:
    """As `decode`, with any strides; and whether the picture has no colors, see `Look`."""
    with _opened(content) as image:
        gray = _is_gray(image)
        mode: Literal["L", "RGB"] = "L" if how.channels == 1 else "RGB"
        least = DRAFT * how.size
        draft = None
        if mode == "L" or min(image.size) >= 2 * least:
            draft = image.draft(mode, (least, least))
        image.load()
        turn = _orientation(image)  # after loading: Pillow has turned a TIFF file by then
        # Of a draft the last row and column can be only partly of the picture.
        width, height = draft[1][2:] if draft else image.size
        scaled = _scaled(_flat(image, mode), width, height, how, turn)
    pixels: NDArray[np.uint8] = np.asarray(scaled).reshape(how.size, how.size, how.channels)
    return _turned(pixels, turn).transpose(2, 0, 1), gray


@_told
def whole(content: bytes, side: int) -> Image.Image:
    """A file's picture as people see it: turned upright, flat, and not larger than asked for.

    Args:
        content: All bytes of the file.
        side: The longest side in pixels, at most.

    Returns:
        In the mode L or RGB, with nothing of the file but its pixels.

    Raises:
        UnreadableError: See `decode`.
    """
    with _opened(content) as image:
        image.draft(None, (side, side))
        image.load()
        turn = _orientation(image)
        flat = _flat(image, "L" if _is_gray(image) else "RGB")
    flat.thumbnail((side, side))
    way = _WAYS.get(turn)
    return flat if way is None else flat.transpose(way)


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise UnreadableError("it is empty")
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if content[4:12] in _APPLE:
            raise UnreadableError("it is a HEIC picture; convert it to JPEG") from None
        known = ", ".join(FORMATS)
        raise UnreadableError(f"it is no picture, or damaged from its start (read: {known})") from (
            None
        )


def _orientation(image: Image.Image) -> int:
    """How the picture is to be turned, as EXIF numbers it: 1 to 8, 1 for not at all."""
    found = image.getexif().get(0x0112, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _turned(pixels_HWC: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A square picture as people see it; each orientation is one of its eight symmetries."""
    if orientation >= 5:
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC


def _is_gray(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La") or image.mode[0] in "IF"


def _flat(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """An opaque picture of 8 bits in the mode that is wanted."""
    if image.mode[0] == "F":
        raise UnreadableError("it holds floating-point numbers; save it with 8 or 16 bits")
    if image.mode[0] == "I":
        image = Image.fromarray(_in_8_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    elif image.mode == "LAB":  # Pillow knows no way to gray
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _in_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Whole numbers of more bits, scaled so that nothing is cut off."""
    if values.min() < 0:
        raise UnreadableError("it has numbers below 0 or beyond 2^31; save it with 8 or 16 bits")
    wide = values.astype(np.int64)
    return ((wide + 128) // 257 if values.max() < 2**16 else wide >> 23).astype(np.uint8)


def _scaled(
    image: Image.Image, width: float, height: float, how: Decoding, turn: int
) -> Image.Image:
    """The square that is kept of a picture, whose extent need not be whole pixels."""
    size, short = how.size, min(width, height)
    if (width, height) == (size, size):
        return image
    if how.fit == "squash":
        return image.resize((size, size), Image.Resampling.BILINEAR, (0, 0, width, height))
    left, top = (width - short) / 2, (height - short) / 2
    if short == size:  # whole pixels, so that none is blurred
        # Of an odd rest the larger half is cut off at the right and below, once it is turned.
        left = math.ceil(left) if turn in (2, 3, 7, 8) else int(left)
        top = math.ceil(top) if turn in (3, 4, 6, 7) else int(top)
        return image.crop((left, top, left + size, top + size))
    box = (left, top, left + short, top + short)
    return image.resize((size, size), Image.Resampling.BILINEAR, box)
