"""Views: what changes, what stays, and that a sample's view is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dal.features.self_supervised.views import NAMED, WIDTH, Views, stroked, views_for
from dal.training.augment import Augment


def images(channels: int = 1, count: int = 4, side: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, side, side, generator=rng)


def drawn(count: int = 4, seed: int = 1) -> Tensor:
    return NAMED["digits"].draw(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "channels"),
    [("digits", 1), ("signs", 1), ("signs", 3), ("objects", 1), ("natural", 3)],
)
def test_a_view_follows_from_its_own_numbers(name: str, channels: int) -> None:
    views, pictures, numbers = NAMED[name], images(channels), drawn()
    whole = views(pictures, numbers)
    assert whole.shape == pictures.shape
    assert whole.isfinite().all()
    for row in range(4):
        alone = views(pictures[row : row + 1], numbers[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row])
        assert not torch.equal(alone[0], pictures[row])
    assert not torch.allclose(views(pictures, drawn(seed=2)), whole)


def test_nothing_asked_for_changes_nothing() -> None:
    torch.testing.assert_close(Views(Augment())(images(3), drawn()), images(3))


def test_numbers_in_the_middle_change_nothing() -> None:
    digits = replace(NAMED["digits"], augment=Augment(rotation=20, shift=0.1, area=(0.5, 1.5)))
    middle = torch.full((4, WIDTH), 0.5)
    torch.testing.assert_close(digits(images(), middle), images(), atol=1e-5, rtol=1e-5)


def test_a_digit_is_never_mirrored() -> None:
    assert not NAMED["digits"].augment.flip
    assert not NAMED["signs"].augment.flip
    bar = torch.zeros(1, 1, 28, 28)
    bar[..., 4:24, 8:11] = 1
    bar[..., 4:7, 8:20] = 1  # an F, whose strokes lie to the left
    still = replace(NAMED["digits"], elastic=0, shear=0, augment=Augment(area=(0.6, 1.5)))
    places = torch.arange(28.0)
    for seed in range(10):
        seen = still(bar, drawn(1, seed))[0, 0].sum(0)
        assert float((seen * places).sum() / seen.sum()) < 13.5


def test_shear_moves_rows_sideways() -> None:
    bar = torch.zeros(1, 1, 21, 21)
    bar[..., 10] = 1
    numbers = torch.full((1, WIDTH), 0.5)
    numbers[:, 15] = 1.0  # the first number behind those of Augment
    seen = Views(Augment(), shear=0.4)(bar, numbers)[0, 0]
    places = (seen * torch.arange(21.0)).sum(1) / seen.sum(1)
    steps = places.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -0.4), atol=1e-3, rtol=0)
    assert float(places[10]) == pytest.approx(10, abs=1e-4)


def test_elastic_moves_by_at_most_its_share() -> None:
    ramp = torch.linspace(-1, 1, 41).expand(1, 1, 41, 41)
    numbers = torch.full((1, WIDTH), 0.5)
    numbers[:, 18:34] = 1.0  # all points to the right
    seen = Views(Augment(), elastic=0.1)(ramp, numbers)
    torch.testing.assert_close(seen[..., 5:-5], ramp[..., 5:-5] + 0.2, atol=0.02, rtol=0)


def test_strokes_grow_and_shrink() -> None:
    line = torch.zeros(3, 1, 9, 9)
    line[..., 3:6] = 1
    seen = stroked(line, torch.tensor([1.0, -1.0, 0.0]))
    assert seen[0, 0, 4].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert seen[1, 0, 4].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert torch.equal(seen[2], line[2])


def test_gray_leaves_colors_out() -> None:
    seen = Views(Augment(), gray=1.0)(images(3), drawn())
    luma = (images(3) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(seen, luma.expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)


def test_colors_are_changed_in_their_own_units() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    plain = NAMED["natural"](images(3), drawn())
    seen = NAMED["natural"]((images(3) - shift) / scale, drawn(), mean, std)
    torch.testing.assert_close(seen * scale + shift, plain, atol=1e-5, rtol=1e-5)


def test_names_of_views_go_by_channels() -> None:
    assert views_for("auto", (1, 28, 28), "mine")[0] == "signs"
    assert views_for("auto", (1, 28, 28), "mine", "digits") == ("digits", NAMED["digits"])
    assert views_for("objects", (1, 28, 28), "mine", "digits")[0] == "objects"
    assert views_for("auto", (3, 32, 32), "mine") == ("natural", NAMED["natural"])
    assert views_for("objects", (3, 32, 32), "mine")[0] == "objects"
    with pytest.raises(ValueError, match="mine depicts 'cats'; give one of digits, signs"):
        views_for("auto", (1, 28, 28), "mine", "cats")
    with pytest.raises(ValueError, match=r"images of mine have 1 channels; set features\.views"):
        views_for("natural", (1, 28, 28), "mine")
