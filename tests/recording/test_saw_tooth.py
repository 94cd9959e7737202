"""The epochs of all rounds in a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dal
from dal.data import Dataset, initial_labels, make_source
from dal.models import MLP
from dal.query import MultilabelMargin
from dal.recording.saw_tooth import MOST_MARKED, SawTooth
from dal.recording.tensorboard import TensorBoard
from dal.training.trainer import Trainer

NAMES = ("a", "b", "c")


def teeth(rounds: int, *names: str) -> SawTooth:
    """Rounds of three epochs of two steps; metrics rise within a round, losses fall."""
    found = SawTooth("macro_f1")
    for number in range(rounds):
        for epoch in range(3):
            height = epoch / 10
            values = {n: 0.9 - height if n.endswith("loss") else 0.1 + height for n in names}
            sizes = {"sets/labeled": 10.0 + 5 * number}
            found.add(number, 2 * (3 * number + epoch + 1), values | sizes)
    return found


def test_metric_and_loss_of_both_parts_over_all_steps() -> None:
    figure = teeth(2, "train/loss", "val/loss", "val/macro_f1").draw("a run")
    assert figure is not None
    metric, loss = figure.axes
    assert (metric.get_ylabel(), loss.get_ylabel()) == ("macro F1", "loss")
    assert loss.get_xlabel() == "Optimizer steps over all rounds"
    (line, best) = metric.lines
    assert np.asarray(line.get_xdata()).tolist() == [2, 4, 6, 8, 10, 12]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), 2 * [0.1, 0.2, 0.3])
    assert np.asarray(best.get_xdata()).tolist() == [6, 12]
    assert np.asarray(loss.lines[-1].get_xdata()).tolist() == [6, 12]  # the lowest
    legend = metric.get_legend()
    assert legend is not None
    assert {t.get_text() for t in legend.get_texts()} == {
        "train",
        "validation",
        "best of the round",
    }
    (above,) = metric.child_axes
    assert [t.get_text() for t in above.get_xticklabels()] == ["10", "15"]
    assert above.get_xticks().tolist() == [0, 6]
    assert len(metric.patches) == 1  # below the second round


def test_of_many_rounds_none_is_marked_singly() -> None:
    figure = teeth(MOST_MARKED + 1, "val/macro_f1").draw()
    assert figure is not None
    (metric,) = figure.axes
    assert len(metric.lines) == 1
    assert not metric.patches
    assert len(metric.child_axes[0].get_xticklabels()) <= 8


def test_fits_of_one_epoch_have_no_saw_tooth() -> None:
    single = SawTooth("accuracy")
    for number in range(4):
        single.add(number, number, {"train/loss": 1.0})
    assert single.draw() is None
    assert SawTooth("accuracy").draw() is None


def test_a_resumed_run_draws_what_was_recorded_before(tmp_path: Path) -> None:
    def epochs(board: TensorBoard, first: int, last: int) -> None:
        for step in range(first, last):
            values = {"train/loss": float(step), "sets/labeled": 5.0 + step // 3}
            board.epoch(step // 3, step, values)

    with TensorBoard(tmp_path / "whole", class_names=NAMES) as board:
        epochs(board, 0, 9)
        whole = board.saw_tooth(30, "run")
    with TensorBoard(tmp_path / "killed", class_names=NAMES) as board:
        epochs(board, 0, 7)
    with TensorBoard(tmp_path / "killed", class_names=NAMES, labels=20, step=4) as board:
        epochs(board, 4, 9)
        resumed = board.saw_tooth(30, "run")
    assert whole is not None
    assert resumed is not None
    lines = [np.asarray(figure.axes[0].lines[0].get_xydata()) for figure in (whole, resumed)]
    np.testing.assert_array_equal(*lines)
    tags = EventAccumulator(str(tmp_path / "killed")).Reload().Tags()["images"]
    assert "7_figures/saw_tooth" in tags


def test_a_run_leaves_sizes_in_every_line_and_over_every_step(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(80, 4, generator=generator)
    targets = (inputs[:, :3] > 0).long()
    source = make_source(Dataset("several", inputs, targets, NAMES), seed=0, validation=15)
    dal.run(
        source,
        MLP,
        MultilabelMargin(),
        initial=initial_labels(source.train.targets, seed=0, count=8),
        trainer=Trainer(epochs=3),
        settings=dal.Settings(budget=8, query_size=4, threads=1),
        run_dir=tmp_path,
        config={"seed": 0, "trainer": {"early_stopping": {"monitor": "val/macro_f1"}}},
    )
    total = len(source.train)
    told = [line for line in (tmp_path / "train.log").read_text().splitlines() if "round" in line]
    for number in range(3):
        paid = 8 + 4 * number
        epochs = [line for line in told if f"round {number}, epoch" in line]
        assert len(epochs) == 3
        assert all(f"{paid} labeled, {total - paid} in the pool" in line for line in epochs)
        (line,) = [line for line in told if f"round {number:3d} |" in line]
        assert f"{paid:5d} labels" in line
        assert f"{total - paid} in the pool" in line
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    sizes = events.Scalars("5_fit_over_steps/sets/labeled")
    assert [point.value for point in sizes] == [8, 8, 8, 12, 12, 12, 16, 16, 16]
    pool = events.Scalars("5_fit_over_steps/sets/pool")
    assert [point.value for point in pool][::3] == [total - 8, total - 12, total - 16]
    assert "5_fit_over_steps/val/macro_f1" in events.Tags()["scalars"]
    assert (tmp_path / "saw_tooth.png").read_bytes().startswith(b"\x89PNG")
