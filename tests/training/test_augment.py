"""Augmentation against torchvision's functions and against itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from dal.training.augment import COLUMNS, Augment, erased, moved, recolored
from dal.training.trainer import Trainer

RNG = torch.Generator().manual_seed(0)
IMAGES = 0.3 + 0.2 * torch.rand(6, 3, 12, 20, generator=RNG)
"""In [0, 1], far enough from black and white that torchvision cuts nothing off."""

MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.25, 0.3)
ONES, ZEROS = torch.ones(6), torch.zeros(6)
STRONG = Augment(
    flip=True,
    area=(0.5, 1.1),
    ratio=1.3,
    shift=0.1,
    rotation=20,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    erase=0.5,
)


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def drawn(count: int = 6, **fixed: float) -> Tensor:
    """Draws in the middle, which change nothing, but for those given."""
    rows = torch.full((count, len(COLUMNS)), 0.5)
    for name, value in fixed.items():
        rows[:, COLUMNS.index(name)] = value
    return rows


@pytest.mark.parametrize("edge", ["border", "reflection"])
def test_map_that_moves_nothing_gives_the_images(edge: str) -> None:
    torch.testing.assert_close(moved(IMAGES, torch.eye(2, 3).expand(6, -1, -1), edge), IMAGES)


def test_half_of_the_images_are_mirrored() -> None:
    flip, draws = Augment(flip=True), drawn()
    draws[:3, 0] = 0.49
    found = flip(IMAGES, draws)
    torch.testing.assert_close(found[:3], IMAGES[:3].flip(3))
    torch.testing.assert_close(found[3:], IMAGES[3:])


@pytest.mark.parametrize("edge", ["border", "reflection"])
def test_images_move_by_at_most_the_share_of_the_side(edge: Any) -> None:
    """A quarter of 20 columns is 5; what comes in is the first column, or the first ones."""
    found = Augment(shift=0.25, edge=edge)(IMAGES, drawn(x=0.0))
    torch.testing.assert_close(found[..., 5:], IMAGES[..., :-5])
    into = (
        IMAGES[..., :5].flip(3) if edge == "reflection" else IMAGES[..., :1].expand(-1, -1, -1, 5)
    )
    torch.testing.assert_close(found[..., :5], into)


@pytest.mark.parametrize(("x", "columns"), [(0.0, slice(0, 10)), (1.0, slice(10, 20))])
def test_smaller_area_is_a_part_of_the_image(x: float, columns: slice) -> None:
    """A quarter of the area is a half of each side, enlarged to twice its size."""
    found = Augment(area=(0.25, 0.25))(IMAGES, drawn(x=x, y=0.0))
    part = IMAGES[:, :, :6, columns]
    expected = reference.resize(part, [12, 20], InterpolationMode.BILINEAR, antialias=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize(("draw", "columns", "rows"), [(1.0, 20, 5), (0.0, 5, 20)])
def test_ratio_makes_what_is_seen_wider_or_taller(draw: float, columns: int, rows: int) -> None:
    """Of an image whose channels are the numbers of column and row; a 16th of its area."""
    lines = torch.arange(40.0)
    image = torch.stack([lines.expand(40, 40), lines.unsqueeze(1).expand(40, 40)]).unsqueeze(0)
    found = Augment(area=(1 / 16, 1 / 16), ratio=4.0)(image, drawn(1, ratio=draw))[0]
    steps = (found[0, :, 1:] - found[0, :, :-1]).mean(), (found[1, 1:] - found[1, :-1]).mean()
    assert [40 * float(step) for step in steps] == pytest.approx([columns, rows], rel=1e-4)


@pytest.mark.parametrize(("draw", "angle"), [(1.0, 30), (0.0, -30), (0.75, 15)])
def test_images_turn_as_those_of_torchvision_also_where_they_are_not_square(
    draw: float, angle: float
) -> None:
    found = Augment(rotation=30)(IMAGES, drawn(rotation=draw))
    expected = reference.rotate(IMAGES, angle, InterpolationMode.BILINEAR)
    within = reference.rotate(torch.ones_like(IMAGES), angle, InterpolationMode.BILINEAR) > 0.999
    assert within.float().mean() > 0.5
    torch.testing.assert_close(found[within], expected[within], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
@pytest.mark.parametrize(
    ("place", "adjust"),
    [
        (0, reference.adjust_brightness),
        (1, reference.adjust_contrast),
        (2, reference.adjust_saturation),
    ],
)
def test_colors_change_as_those_of_torchvision(place: int, adjust: Any, factor: float) -> None:
    """Seen through a normalization, which is undone before and done again after."""
    factors = [ONES, ONES, ONES]
    factors[place] = factor * ONES
    found = recolored(normalized(IMAGES), *factors, ZEROS, MEAN, STD)
    torch.testing.assert_close(found, normalized(adjust(IMAGES, factor)), rtol=1e-3, atol=1e-3)


def test_brightness_comes_before_contrast_and_that_before_saturation() -> None:
    found = recolored(IMAGES, 0.9 * ONES, 1.2 * ONES, 0.5 * ONES, ZEROS)
    expected = reference.adjust_saturation(
        reference.adjust_contrast(reference.adjust_brightness(IMAGES, 0.9), 1.2), 0.5
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_third_of_a_circle_of_hue_turns_red_into_green_and_leaves_gray() -> None:
    found = recolored(IMAGES, ONES, ONES, ONES, ONES / 3)
    torch.testing.assert_close(found, IMAGES.roll(1, 1), rtol=1e-4, atol=1e-5)
    grays = IMAGES[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(recolored(grays, ONES, ONES, ONES, 0.1 * ONES), grays)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_have_brightness_and_contrast_only(channels: int) -> None:
    images = torch.rand(6, channels, 5, 5, generator=RNG)
    found = recolored(images, 0.8 * ONES, 0.5 * ONES, 0.1 * ONES, 0.2 * ONES)
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, 0.8 * (0.5 * images + 0.5 * mean))


def test_rectangle_becomes_the_mean_color() -> None:
    centers, sizes = torch.tensor([[0.5, 0.25]]), torch.tensor([[0.5, 0.2]])
    found = erased(IMAGES[:1] + 1, centers, sizes)
    expected = IMAGES[:1] + 1
    expected[:, :, 3:9, 3:7] = 0
    assert torch.equal(found, expected)


def test_as_many_images_as_asked_for_lose_a_part_of_the_size_asked_for() -> None:
    images, augment = torch.ones(2000, 1, 40, 40), Augment(erase=0.25)
    gone = (augment(images, augment.draw(2000, RNG)) == 0).float().mean((1, 2, 3))
    assert (gone > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert gone.max() <= 0.27


@pytest.mark.parametrize("shape", [(3, 12, 20), (1, 8, 8)])
def test_image_changes_alike_whatever_else_is_in_its_batch(shape: tuple[int, ...]) -> None:
    images = torch.randn(9, *shape, generator=RNG)
    rows = STRONG.draw(9, RNG)
    channels = shape[0]
    scale = MEAN[:channels], STD[:channels]
    together = STRONG(images, rows, *scale)
    assert together.shape == images.shape
    assert (together - images).abs().amax((1, 2, 3)).min() > 0.01
    for which in (slice(0, 1), slice(2, 5), slice(8, 9)):
        alone = STRONG(images[which], rows[which], *scale)
        torch.testing.assert_close(alone, together[which])


def test_first_draws_are_the_same_whatever_their_number() -> None:
    few, many = (STRONG.draw(n, torch.Generator().manual_seed(3)) for n in (2, 70))
    assert torch.equal(few, many[:2])


def test_one_row_of_draws_changes_all_alike() -> None:
    images = IMAGES[:1].expand(2, -1, -1, -1)
    first, second = STRONG(images, STRONG.draw(1, RNG))
    torch.testing.assert_close(first, second)


def test_switching_a_change_on_moves_no_other_draw() -> None:
    rows = STRONG.draw(6, RNG)
    brighter = Augment(brightness=0.5)(IMAGES, rows)
    both = Augment(brightness=0.5, flip=True)(IMAGES, rows)
    mirrored = Augment(flip=True)(brighter, rows)
    torch.testing.assert_close(both, mirrored)


def test_augmentation_that_changes_nothing_is_none() -> None:
    assert not Augment()
    assert not Augment(area=[1, 1], edge="reflection")  # type: ignore[arg-type]
    assert Augment(rotation=1)
    assert Trainer(augment=Augment()).augment is None


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"flip": 1}, "flip=1; choose true or false"),
        ({"area": 0.5}, "area=0.5; give two numbers"),
        ({"area": (0.5, 0.6, 0.7)}, "area=.*give two numbers"),
        ({"area": (0.0, 1.0)}, "area=0.0; give a positive number"),
        ({"area": (1.0, 0.5)}, "give area as smallest, largest"),
        ({"ratio": 0.5}, "a ratio of at least 1"),
        ({"shift": 1.0}, "shift=1.0"),
        ({"rotation": -5}, "rotation=-5"),
        ({"rotation": math.inf}, "rotation=inf"),
        ({"edge": "zeros"}, "edge='zeros'; choose border or reflection"),
        ({"brightness": 1.5}, "brightness=1.5"),
        ({"saturation": "low"}, "saturation='low'"),
        ({"hue": 0.6}, "hue=0.6"),
        ({"erase": 1.5}, "erase=1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], fact: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"trainer\.augment.*{fact}"):
        Augment(**settings)
