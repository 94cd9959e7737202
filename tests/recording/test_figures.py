import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dal.recording.figures import (
    BLUE,
    GREY,
    class_histogram,
    confusion_matrix,
    image_grid,
    label_outcomes,
    learning_curve,
    prediction_history,
    to_pixels,
)

NAMES = ("cat", "dog", "a very long name of a class")
PNG = b"\x89PNG\r\n"


def probs(rounds: int, classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(torch.randn(rounds, classes, generator=generator), dim=1)


def test_learning_curve_is_written_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    path = tmp_path / "curve.png"
    figure = learning_curve([20, 30, 40], [0.5, 0.6, 0.8], title="run", aubc=0.625, path=path)
    assert path.read_bytes().startswith(PNG)
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]
    axes = figure.axes[0]
    assert np.allclose(axes.lines[0].get_xydata(), [[20, 0.5], [30, 0.6], [40, 0.8]])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["AUBC 0.6250"]


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
def test_area_stands_beside_the_points_of_the_curve(values: list[float]) -> None:
    figure = learning_curve([20, 30, 40], values, title="run", aubc=0.2)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    points = axes.transData.transform(axes.lines[0].get_xydata())
    assert not legend.get_window_extent().count_contains(points)


@pytest.mark.parametrize("count", [1, 100])
def test_learning_curve_shows_a_marker_where_points_are_few(count: int) -> None:
    figure = learning_curve(list(range(count)), [0.5] * count, title="run")
    assert figure.axes[0].lines[0].get_marker() == ("o" if count == 1 else "None")


@pytest.mark.parametrize(("labels", "accuracy"), [([], []), ([20], [0.5, 0.6])])
def test_learning_curve_refuses_unequal_or_empty(labels: list[int], accuracy: list[float]) -> None:
    with pytest.raises(ValueError, match="one pair per round"):
        learning_curve(labels, accuracy, title="run")


def test_learning_curve_reports_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        learning_curve([20], [0.5], title="run", path=tmp_path / "missing" / "curve.png")


def test_confusion_matrix_shades_by_share_and_writes_counts() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 5, 5]])
    axes = confusion_matrix(counts, NAMES).axes[0]
    share = np.asarray(axes.images[0].get_array()).tolist()
    assert share == [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "5", "5"]
    assert axes.get_yticklabels()[2].get_text() == "a very long nam…"


def test_confusion_matrix_of_many_classes_is_thinned() -> None:
    names = [f"class {i}" for i in range(100)]
    axes = confusion_matrix(torch.eye(100, dtype=torch.int64), names).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["class 0", "class 5"]


def test_class_histogram_draws_each_count() -> None:
    figure = class_histogram(torch.tensor([4, 0, 7]), NAMES, "picked")
    axes = figure.axes[0]
    assert [bar.get_window_extent().height > 0 for bar in axes.patches] == [True, False, True]
    assert [text.get_text() for text in axes.texts] == ["4", "0", "7"]
    pixels = to_pixels(figure)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.std() > 10


@pytest.mark.parametrize("draw", [confusion_matrix, lambda c, n: class_histogram(c, n, "x")])
def test_counts_of_another_shape_are_refused(draw: object) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 class names"):
        draw(torch.zeros(2, dtype=torch.int64), NAMES)  # type: ignore[operator]


def test_prediction_history_names_the_top_classes_and_leaves_gaps() -> None:
    values = probs(6, 8)
    values[:, 3] += 1
    values[4] = torch.nan
    names = [f"c{i}" for i in range(8)]
    axes = prediction_history(values, names, rounds=range(3, 9), top=2).axes[0]
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert named[-1].get_label() == "c3"
    assert named[-1].get_color() == BLUE
    assert [line.get_label() for line in named if line.get_color() == GREY] == ["6 others"]
    assert len(named) == 3
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[-1].get_text() == "6 others"
    assert sum(line.get_color() == GREY for line in axes.lines) == 6
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [3, 4, 5, 6, 7, 8]
    assert np.isnan(np.asarray(axes.lines[0].get_ydata())).nonzero()[0].tolist() == [4]


def test_prediction_history_names_a_single_other_class() -> None:
    axes = prediction_history(probs(4, 3), NAMES, top=2).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == set(NAMES)


@pytest.mark.parametrize(
    "image",
    [
        torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8),
        torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8),
        torch.randn(3, 8, 8),
        torch.randn(4, 8, 8),
    ],
)
def test_prediction_history_stands_beside_the_image(image: torch.Tensor) -> None:
    figure = prediction_history(probs(2, 3), NAMES, image=image, title="sample 5")
    left, right = figure.axes
    assert np.asarray(left.images[0].get_array()).shape == (
        (8, 8, 3) if len(image) == 3 else (8, 8)
    )
    assert right.get_title() == "sample 5"
    assert to_pixels(figure).size > 0


def test_prediction_history_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 3\) for 2 rounds"):
        prediction_history(probs(4, 3), NAMES, rounds=[0, 1])
    with pytest.raises(ValueError, match="at least one round"):
        prediction_history(torch.zeros(0, 3), NAMES)
    with pytest.raises(ValueError, match="top=0"):
        prediction_history(probs(4, 3), NAMES, top=0)


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (3, 3), (2, 1), (5, 1)])
def test_image_grid_has_rows_and_columns(channels: int, shown: int) -> None:
    images = torch.randint(0, 256, (11, channels, 28, 20), dtype=torch.uint8)
    grid = image_grid(images)
    assert grid.shape == (shown, 2 * (56 + 4), 8 * (40 + 4))
    assert grid.dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_keeps_pixels_in_their_places(channels: int) -> None:
    images = torch.randint(0, 256, (5, channels, 3, 4), dtype=torch.uint8)
    grid = image_grid(images, columns=2, side=4, padding=1)
    assert grid.shape == (channels, 15, 12)
    assert torch.equal(grid[:, 6:9, 7:11], images[3])
    assert (grid[:, 10:, 6:] == 255).all()


def test_image_grid_stretches_floats_outside_the_unit_range() -> None:
    images = torch.stack([torch.tensor([[[-2.0, 2.0]]]), torch.tensor([[[0.2, 1.0]]])])
    grid = image_grid(images, side=2, padding=0)
    assert grid.flatten().tolist() == [0, 255, 51, 255]


def test_image_grid_of_a_constant_float_image_is_finite() -> None:
    assert image_grid(torch.full((1, 1, 2, 2), 7.0), side=2, padding=0).eq(0).all()


def test_image_grid_shrinks_large_images() -> None:
    assert image_grid(torch.rand(9, 3, 224, 112)).shape == (3, 2 * 68, 8 * 36)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (8, 8)])
def test_image_grid_refuses_no_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pass \(n, channels, H, W\)"):
        image_grid(torch.zeros(shape))


def test_learning_curve_names_its_metric() -> None:
    axes = learning_curve([20, 30], [0.5, 0.6], title="run", metric="micro F1").axes[0]
    assert axes.get_ylabel() == "Test micro F1"


def test_label_outcomes_stack_found_and_missed() -> None:
    counts = torch.tensor([[[5, 1], [2, 3]], [[9, 0], [2, 0]], [[4, 2], [0, 5]]])
    axes = label_outcomes(counts, NAMES).axes[0]
    heights = [[patch.get_height() for patch in bars] for bars in axes.containers]
    assert heights == [[3, 0, 5], [2, 2, 0], [-1, 0, -2]]
    assert [patch.get_y() for patch in axes.containers[1]] == [3, 0, 5]
    assert [text.get_text() for text in axes.get_xticklabels()][:2] == ["cat", "dog"]


def test_label_outcomes_of_another_shape_raise() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\) for 3 class names"):
        label_outcomes(torch.eye(3, dtype=torch.int64), NAMES)


def words(figure: Figure) -> tuple[str, str, str]:
    axes = figure.axes[0]
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


def test_figures_say_what_they_show() -> None:
    counts = torch.eye(3, dtype=torch.int64)
    curve = learning_curve([20, 30, 40], [0.5, 0.6, 0.7], title="run")
    assert words(curve) == ("run", "Labels", "Test accuracy")
    curve.canvas.draw()
    ticks = [label.get_text() for label in curve.axes[0].get_xticklabels()]
    assert {"20", "25", "30", "35", "40"} <= set(ticks)
    confusion = confusion_matrix(counts, NAMES)
    assert words(confusion) == ("", "Predicted class", "True class")
    assert confusion.axes[1].get_ylabel() == "Share of the true class"
    assert words(class_histogram(counts[0], NAMES, "picked")) == ("picked", "", "Samples")
    assert words(label_outcomes(torch.ones(3, 2, 2).long(), NAMES)) == ("", "", "Test samples")
    history = prediction_history(probs(2, 3), NAMES, title="sample 5")
    assert words(history) == ("sample 5", "Round", "Predicted probability")


@pytest.mark.parametrize(
    ("classes", "confusion", "histogram", "outcomes"),
    [
        (2, (5.6, 4.6), (5.5, 3.5), (5.5, 3.5)),
        (10, (8.0, 7.0), (6.5, 3.5), (6.5, 3.5)),
        (100, (9.5, 8.5), (9.0, 3.5), (9.0, 3.5)),
    ],
)
def test_figures_grow_with_the_classes_up_to_a_page(
    classes: int,
    confusion: tuple[float, float],
    histogram: tuple[float, float],
    outcomes: tuple[float, float],
) -> None:
    names = [f"c{c}" for c in range(classes)]
    counts = torch.eye(classes, dtype=torch.int64)
    for size, figure in (
        (confusion, confusion_matrix(counts, names)),
        (histogram, class_histogram(counts[0], names, "")),
        (outcomes, label_outcomes(torch.ones(classes, 2, 2).long(), names)),
    ):
        assert figure.get_size_inches().tolist() == pytest.approx(size)
