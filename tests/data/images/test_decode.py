"""Files of many kinds become arrays of one kind, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dal.data.images.decode import FORMATS, VERSION, Decoding, UnreadableError, decode, look


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Colors that change slowly, so that lossy files and filters keep them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def saved(array: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def first(array: np.ndarray) -> np.ndarray:
    """Channels first."""
    return array.transpose(2, 0, 1)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    pixels = smooth(24, 24)
    found = decode(saved(pixels), Decoding(24))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, first(pixels))
    wide = smooth(24, 41)
    assert np.array_equal(decode(saved(wide), Decoding(24)), first(wide[:, 8:32]))
    tall = smooth(40, 24)
    assert np.array_equal(decode(saved(tall), Decoding(24)), first(tall[8:32]))


@pytest.mark.parametrize("shape", [(90, 90), (90, 60), (60, 90), (10, 5), (30, 210)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_scaling_is_antialiased_and_keeps_the_middle(shape: tuple[int, int], fit: Any) -> None:
    pixels = smooth(*shape)
    whole = (20, 20) if fit == "squash" else tuple(20 * side // min(shape) for side in shape)
    scaled = F.interpolate(
        torch.from_numpy(first(pixels).copy())[None].float(),
        whole,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0].numpy()
    top, left = ((side - 20) // 2 for side in whole)
    found = decode(saved(pixels), Decoding(20, fit))
    assert np.abs(found - scaled[:, top : top + 20, left : left + 20]).max() <= 1.5


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    pixels = smooth(700, 900)
    content = saved(pixels, "JPEG", quality=95)
    plain = decode(saved(pixels), Decoding(32))
    assert np.abs(decode(content, Decoding(32)).astype(int) - plain).max() <= 4


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind: str) -> None:
    pixels = smooth(40, 50)
    content = saved(pixels, kind)
    expected = decode(saved(pixels), Decoding(40))
    assert distance(decode(content, Decoding(40)), expected) < 12  # GIF has 256 colors
    found = look(content)
    assert (found.width, found.height, found.gray, found.format) == (50, 40, False, kind)


UNTURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""How a picture is stored that EXIF of a number turns upright."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(kind: str, orientation: int) -> None:
    upright = smooth(60, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    raw = np.ascontiguousarray(UNTURNED[orientation](upright))
    content = saved(raw, kind, exif=exif, **lossless)
    assert (look(content).width, look(content).height) == (40, 60)
    assert distance(decode(content, Decoding(20)), decode(saved(upright), Decoding(20))) < 3
    if kind in ("PNG", "TIFF"):  # whole pixels are kept: the same ones, however it was stored
        upright = np.random.default_rng(0).integers(0, 256, (23, 20, 3), dtype=np.uint8)
        stored = np.ascontiguousarray(UNTURNED[orientation](upright))
        found = decode(saved(stored, kind, exif=exif), Decoding(20))
        assert np.array_equal(found, upright[1:21].transpose(2, 0, 1))


def test_channels() -> None:
    pixels = smooth(20, 20)
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(decode(saved(pixels), Decoding(20, channels=1)), gray[None])
    assert np.array_equal(decode(saved(gray), Decoding(20)), np.stack([gray] * 3))
    jpeg = decode(saved(pixels, "JPEG", quality=95), Decoding(20, channels=1))
    assert distance(jpeg, gray[None]) < 3
    one = Image.fromarray(gray > 100)
    assert one.mode == "1"
    assert set(np.unique(decode(saved(one), Decoding(20)))) == {0, 255}
    assert look(saved(gray)).gray
    assert look(saved(one)).gray


def test_a_picture_of_lab_colors_is_read_as_gray_too() -> None:
    content = saved(Image.new("LAB", (8, 8), (150, 128, 128)), "TIFF")
    colors = decode(content, Decoding(8))
    gray = np.asarray(Image.fromarray(colors.transpose(1, 2, 0)).convert("L"))
    assert np.array_equal(decode(content, Decoding(8, channels=1)), gray[None])


def test_cmyk() -> None:
    pixels = smooth(32, 32)
    content = saved(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95)
    assert distance(decode(content, Decoding(32)), first(pixels)) < 3
    assert not look(content).gray


def test_transparent_parts_lie_over_white() -> None:
    pixels = np.full((8, 8, 4), (200, 100, 0, 255), dtype=np.uint8)
    pixels[:4, :, 3] = 0
    pixels[4, :, 3] = 128
    found = decode(saved(pixels), Decoding(8))
    assert (found[:, :4] == 255).all()
    assert found[:, 5:, 0].T.tolist() == [[200, 100, 0]] * 3
    assert np.abs(found[:, 4, 0].astype(int) - [227, 177, 127]).max() <= 1
    gray = decode(saved(Image.fromarray(pixels).convert("LA")), Decoding(8))
    assert (gray[:, :4] == 255).all()
    assert (gray[:, 5:] < 130).all()


def test_palettes() -> None:
    colors = np.array([[255, 0, 0], [0, 0, 0], [0, 0, 255]], dtype=np.uint8)
    image = Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 3) % 3)
    image.putpalette(colors.tobytes())
    assert image.mode == "P"
    assert decode(saved(image), Decoding(3))[:, 0].T.tolist() == colors.tolist()
    assert not look(saved(image)).gray
    clear = decode(saved(image, transparency=1), Decoding(3))
    assert clear[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    bytewise = decode(saved(image, transparency=bytes([255, 0, 255])), Decoding(3))
    assert np.array_equal(bytewise, clear)
    image.putpalette([0, 0, 0, 9, 9, 9, 255, 255, 255])
    assert look(saved(image)).gray


def test_more_than_8_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.array([[0, 256, 257], [128, 32768, 65535], [1000, 4095, 129]])
    wanted = np.round(ramp / 257)
    for kind in ("PNG", "TIFF"):
        content = saved(ramp.astype(np.uint16), kind)
        assert np.array_equal(decode(content, Decoding(3, channels=1))[0], wanted)
        assert look(content).gray
    large = saved(np.array([[0, 2**31 - 1], [2**30, 2**24]], dtype=np.int32), "TIFF")
    assert decode(large, Decoding(2, channels=1))[0].tolist() == [[0, 255], [128, 2]]
    small = saved(ramp.astype(np.int32), "TIFF")
    assert np.array_equal(decode(small, Decoding(3, channels=1))[0], wanted)


def test_the_first_of_several_frames_is_taken() -> None:
    frames = [Image.fromarray(np.full((5, 5), value, dtype=np.uint8)) for value in (10, 200)]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(content, Decoding(5)) == 10).all()


def eps() -> bytes:
    return saved(smooth(8, 8), "EPS")


def bomb() -> bytes:
    """A picture of 400 million pixels, of which the file holds the header."""
    return b"P5 20000 20000 255\n" + bytes(100)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "text": (b"a,b\n1,2\n" * 99, "it is no picture"),
    "short": (saved(smooth(40, 40), "JPEG")[:300], "[Tt]runcated"),
    "cut": (saved(smooth(90, 90))[:-2000], "truncated"),
    "header": (b"\xff\xd8\xff\xe0", "it is"),
    "floats": (saved(np.ones((4, 4), dtype=np.float32), "TIFF"), "floating-point"),
    "negative": (saved(np.full((4, 4), -1, dtype=np.int32), "TIFF"), "below 0"),
    "eps": (eps(), "it is no picture"),
    "bomb": (bomb(), "million pixels"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(90), "HEIC"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_has_a_reason_in_one_line(name: str) -> None:
    content, reason = BAD[name]
    with pytest.raises(UnreadableError, match=reason) as told:
        decode(content, Decoding(8))
    assert "\n" not in str(told.value)
    assert " at 0x" not in str(told.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damage_of_any_kind_is_told_or_decoded(kind: str) -> None:
    whole = bytearray(saved(smooth(30, 30), kind))
    rng = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            content[place] = rng.integers(256)
        damaged = bytes(content[: rng.integers(1, len(content) + 1)])
        for read in (look, lambda found: decode(found, Decoding(8))):
            with contextlib.suppress(UnreadableError):
                read(damaged)


def test_warnings_of_pillow_are_not_shown() -> None:
    image = Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 3) % 3).convert("P")
    content = saved(image, transparency=bytes([255, 0, 255]))
    large = b"P5 12000 9000 255\n" + bytes(12000 * 9000)  # beyond where Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(content, Decoding(3))
        assert decode(large, Decoding(2)).max() == 0


def test_the_version_names_what_decides_bits() -> None:
    assert "Pillow" in VERSION
    assert "jpg" in VERSION
    assert Decoding(8).version == VERSION
