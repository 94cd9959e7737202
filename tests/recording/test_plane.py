"""Pictures of the plane: grids, boundaries, shades, tiles, frames that are kept."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dal.data import Dataset, make_source
from dal.data.source import Source
from dal.recording.palette import COLORS
from dal.recording.plane import (
    MOST_CLASSES,
    Frame,
    Window,
    boundaries,
    class_style,
    colored,
    gif,
    greys,
    lead,
    legend,
    model_tile,
    of_nearest,
    panels,
    png,
    roomiest,
    score_tile,
    shades,
)
from dal.recording.rounds_in_plane import MOST_ROUNDS, RoundsInPlane, in_the_plane

WINDOW = Window((-1.0, -2.0), (1.0, 2.0))
POINTS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


def linear(side: int = 50) -> Tensor:
    """Probabilities of a logistic model whose boundary is the line x = y / 4 + 0.1."""
    x, y = WINDOW.grid(side).double().T
    right = torch.sigmoid(6 * (x - y / 4 - 0.1))
    return torch.stack([1 - right, right], 1).view(side, side, 2)


def frame(number: int = 0, **changes: object) -> Frame:
    made = Frame(
        number,
        f"round {number}",
        linear(60).float(),
        POINTS[:6],
        torch.tensor([0, 1, 0, 1, 1, 0]),
        POINTS[6:9],
        linear(60)[..., 0].float(),
        "Score",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def make(targets: Tensor, inputs: Tensor = POINTS, classes: int = 2) -> Source:
    names = tuple(f"class {c}" for c in range(classes))
    return make_source(Dataset("points", inputs, targets, names), seed=0)


def test_window_holds_all_points_with_a_margin() -> None:
    window = Window.around(torch.tensor([[0.0, 5.0], [10.0, 5.0]]), margin=0.1)
    assert window == Window((-1.0, 4.0), (11.0, 6.0))
    assert window.extent == (-1.0, 11.0, 4.0, 6.0)


def test_grid_goes_row_after_row_from_below() -> None:
    expected = [[-1, -2], [0, -2], [1, -2], [-1, 0], [0, 0], [1, 0], [-1, 2], [0, 2], [1, 2]]
    assert WINDOW.grid(3).tolist() == expected


def test_lead_is_zero_on_the_boundary_and_positive_inside() -> None:
    probs = torch.tensor([[[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]])
    found = lead(probs)
    expected = torch.tensor([[[0.2, 0.0]], [[-0.2, 0.0]], [[-0.3, -0.2]]])
    torch.testing.assert_close(found, expected)


def test_boundary_of_a_linear_model_is_its_line() -> None:
    axes = Figure().add_subplot()
    boundaries(axes, linear(), WINDOW)
    (drawn,) = axes.collections
    points = np.concatenate([path.vertices for path in drawn.get_paths()])
    assert len(points) > 20
    # A cell is 0.04 wide, and the logistic function is nearly straight within one.
    np.testing.assert_allclose(points[:, 0], points[:, 1] / 4 + 0.1, atol=2e-3)


def test_cells_are_colored_around_the_points_that_they_belong_to() -> None:
    side, figure = 5, Figure()
    axes = figure.add_subplot()
    axes.set(xlim=WINDOW.extent[:2], ylim=WINDOW.extent[2:])
    colored(axes, greys(torch.arange(25.0).view(side, side)), WINDOW)
    (image,) = axes.images
    left, right, below, above = image.get_extent()
    width, height = (right - left) / side, (above - below) / side
    x, y = WINDOW.grid(side).view(side, side, 2).unbind(-1)
    np.testing.assert_allclose(left + (np.arange(side) + 0.5) * width, x[0])
    np.testing.assert_allclose(below + (np.arange(side) + 0.5) * height, y[:, 0])
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 1), (-2, 2))


def test_one_class_everywhere_has_no_boundary() -> None:
    axes = Figure().add_subplot()
    boundaries(axes, torch.tensor([1.0, 0.0]).expand(5, 5, 2), WINDOW)
    assert not axes.collections


def test_shades_are_white_in_doubt_and_of_the_class_where_sure() -> None:
    colors = shades(torch.tensor([[[0.5, 0.5], [0.0, 1.0]]]))
    assert colors[0, 0].min() > 0.9
    strong = torch.tensor([int(COLORS[1][k : k + 2], 16) / 255 for k in (1, 3, 5)])
    np.testing.assert_allclose(colors[0, 1], 0.4 + 0.6 * strong.double().numpy(), atol=1e-6)


def test_greys_fall_as_scores_rise() -> None:
    found = greys(torch.tensor([[0.0, 1.0, 4.0, torch.nan]]))[0, :, 0]
    assert found[0] == 1 == found[3]
    assert found[0] > found[1] > found[2]
    assert (greys(torch.ones(2, 2)) == 1).all()


def test_styles_of_classes_differ_in_color_and_marker() -> None:
    assert len({class_style(c) for c in range(49)}) == 49
    assert len({class_style(c)[0] for c in range(7)}) == 7
    assert len({class_style(c)[1] for c in range(7)}) == 7


def test_nearest_sample_gives_its_value() -> None:
    points, values = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([3.0, 7.0])
    grid = torch.tensor([[0.1, 0.2], [0.9, 0.9], [5.0, 5.0]])
    assert of_nearest(grid, points, values).tolist() == [3.0, 7.0, 7.0]


def test_tiles_show_regions_and_picks_and_fit_together() -> None:
    model, score = (tile(frame(), WINDOW, POINTS) for tile in (model_tile, score_tile))
    assert model.shape == score.shape
    height, width = model.shape[:2]
    # Far left of the boundary blue outweighs red, far right red outweighs blue.
    left, right = model[height // 2, 8].astype(int), model[height // 2, -8].astype(int)
    assert left[2] > left[0]
    assert right[0] > right[2]
    yellow = (score == np.array([240, 228, 66])).all(-1).sum()
    assert yellow > 20
    sheet = panels([[model, score]] * 8, legend(("a", "b"), 1200))
    assert sheet.shape[1] == 4 * width
    assert sheet.shape[0] > 2 * 2 * height


@pytest.mark.parametrize("name", ["a", "a class of a long name", "$\\frac{$", "W" * 300])
def test_legends_of_long_names_end_within_their_width(name: str) -> None:
    strip = legend([f"{name} {number}" for number in range(8)], 600)
    assert strip.shape[1] == 600
    white = (strip == 255).all(-1)
    assert white[:, [0, 1, -2, -1]].all()
    assert white[[0, -1]].all()


def test_legend_tells_of_picks_only_where_there_are() -> None:
    yellow = np.array([240, 228, 66])
    with_picks, without = (legend(("a",), 900, picks=picks) for picks in (True, False))
    assert (with_picks == yellow).all(-1).any()
    assert not (without == yellow).all(-1).any()


def test_words_stand_where_the_most_room_is_and_cover_no_mark() -> None:
    inside = torch.ones(21, 21, dtype=torch.bool)
    none, half = torch.empty(0, 2), (0.1, 0.1)
    assert roomiest(inside, none, WINDOW, half) == pytest.approx((0, 0))
    # A mark in the middle: words go aside, at least half of their width or height away.
    found = roomiest(inside, torch.zeros(1, 2), WINDOW, half)
    assert found is not None
    assert abs(found[0]) >= 0.2 or abs(found[1]) >= 0.4
    # A narrow region, in which the place that is farthest from all has a mark in reach of words.
    narrow = torch.zeros(21, 21, dtype=torch.bool)
    narrow[:, 10] = True
    mark, wide = torch.tensor([[0.0, 0.0]]), (0.3, 0.15)
    found = roomiest(narrow, mark, WINDOW, wide)
    assert found is not None
    assert abs(found[1]) >= 0.6
    marks = torch.tensor([[0.0, y] for y in (-1.5, -0.5, 0.5, 1.5)])
    assert roomiest(narrow, marks, WINDOW, wide) is None
    assert roomiest(torch.zeros(21, 21, dtype=torch.bool), none, WINDOW, half) is None


def test_files_are_what_pillow_reads() -> None:
    tile = model_tile(frame(), WINDOW, POINTS, ("left", "right"))
    with Image.open(io.BytesIO(png(tile))) as picture:
        assert (np.asarray(picture) == tile).all()
    with Image.open(io.BytesIO(gif([tile, 255 - tile]))) as animation:
        assert getattr(animation, "n_frames", 0) == 2
        far = np.abs(np.asarray(animation.convert("RGB")).astype(int) - [240, 228, 66]).sum(-1)
        assert (far < 40).sum() > 20  # stars, which are few, keep their color


def test_only_points_of_few_classes_are_in_the_plane(caplog: pytest.LogCaptureFixture) -> None:
    two = torch.arange(40) % 2
    assert in_the_plane(make(two))
    assert not in_the_plane(make(two, torch.randn(40, 3)))
    assert not in_the_plane(make(torch.stack([two, 1 - two], 1)))
    assert not caplog.records
    assert not in_the_plane(make(two, classes=1000))
    assert f"has 1000 classes, and pictures show up to {MOST_CLASSES}" in caplog.text


def test_frames_of_many_rounds_are_spread_over_the_run(tmp_path: Path) -> None:
    source = make(torch.arange(40) % 2)
    rounds = RoundsInPlane(tmp_path / "plane", source)
    for number in range(3 * MOST_ROUNDS):
        if rounds.wants(number):
            rounds.add(frame(number))
    kept = sorted(int(path.stem[6:]) for path in (tmp_path / "plane").iterdir())
    assert kept == list(range(0, 3 * MOST_ROUNDS, 4))
    rounds.add(frame(3 * MOST_ROUNDS - 1))  # the last, in any case
    again = RoundsInPlane(tmp_path / "plane", source, begun=20)
    assert sorted(path.stem for path in (tmp_path / "plane").iterdir()) == [
        f"round_{number:04d}" for number in range(0, 20, 4)
    ]
    drawn = again.write(tmp_path)
    with Image.open(tmp_path / "plane.gif") as animation:
        assert getattr(animation, "n_frames", 0) == 5
    with Image.open(tmp_path / "plane.png") as picture:
        assert drawn is not None
        assert np.asarray(picture).shape == drawn.shape


def test_damaged_frames_are_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make(torch.arange(40) % 2)
    RoundsInPlane(tmp_path / "plane", source).add(frame(0))
    (tmp_path / "plane" / "round_0001.pt").write_bytes(b"no frame")
    rounds = RoundsInPlane(tmp_path / "plane", source, begun=2)
    assert "round_0001.pt is not a checkpoint" in caplog.text
    assert rounds.draw() is not None
