import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dal.recording.events import HISTORY, rewind
from dal.recording.figures import learning_curve
from dal.recording.tensorboard import TensorBoard

NAMES = ("cat", "dog", "owl")
EPOCHS = 4
QUERY = 10


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 4)) for event in read(folder).Scalars(tag)]


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def write_rounds(
    board: TensorBoard, value: float, *, first: int = 0, last: int = 2, epoch: int = 0
) -> None:
    """Rounds of four epochs, two steps each, as a run writes them."""
    for number in range(first, last + 1):
        labels = 20 + QUERY * number
        for e in range(epoch if number == first else 0, EPOCHS):
            board.epoch(number, e, 2 * (number * EPOCHS + e), {"train/loss": value})
        board.round(labels, {"test/accuracy": value})


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that wrote rounds 0 to 2 and did not close its files."""
    folder = tmp_path / "tb"
    board = TensorBoard(folder, class_names=NAMES)
    board.config("seed: 0", {"seed": 0})
    write_rounds(board, 1.0)
    board.flush()
    copy = tmp_path / "killed"
    shutil.copytree(folder, copy)
    board.close()
    return copy


def resume(folder: Path, value: float = 2.0) -> None:
    """Continue at round 1, epoch 2, as after a checkpoint inside that round."""
    step = 2 * (EPOCHS + 2)
    with TensorBoard(
        folder, class_names=NAMES, labels=30, step=step, round_number=1, epoch=2
    ) as board:
        board.config("seed: 0", {"seed": 0})
        write_rounds(board, value, first=1, epoch=2)


def test_points_are_read_back(killed: Path) -> None:
    assert points(killed, "test/accuracy") == [(20, 1), (30, 1), (40, 1)]
    assert points(killed / "steps", "train/loss") == [(2 * i, 1) for i in range(12)]
    assert points(killed / "round_002", "train/loss") == [(i, 1) for i in range(4)]


def assert_continued(folder: Path, value: float = 2.0) -> None:
    assert points(folder, "test/accuracy") == [(20, 1), (30, value), (40, value)]
    steps = [(2 * i, 1 if i < 6 else value) for i in range(12)]
    assert points(folder / "steps", "train/loss") == steps
    assert points(folder / "round_000", "train/loss") == [(i, 1) for i in range(4)]
    assert points(folder / "round_001", "train/loss") == [(0, 1), (1, 1), (2, value), (3, value)]
    assert points(folder / "round_002", "train/loss") == [(i, value) for i in range(4)]
    assert len(read(folder).Tensors("config/text_summary")) == 1


def test_resume_within_a_round_leaves_no_point_twice(killed: Path) -> None:
    resume(killed)
    assert_continued(killed)


def test_resume_twice_leaves_no_point_twice(killed: Path) -> None:
    resume(killed, 2.0)
    resume(killed, 3.0)
    assert_continued(killed, 3.0)
    assert len(event_files(killed)) == 2


def test_resume_leaves_no_stale_point_on_disk(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES, labels=30, step=12, round_number=1, epoch=2):
        pass
    without_purge = EventAccumulator(str(killed), purge_orphaned_data=False).Reload()
    assert [event.step for event in without_purge.Scalars("test/accuracy")] == [20]
    assert points(killed / "round_001", "train/loss") == [(0, 1), (1, 1)]
    assert not (killed / "round_002").exists()


@pytest.mark.parametrize("cut", [1, 3, 5, 20])
def test_resume_after_a_record_was_cut_off(killed: Path, cut: int) -> None:
    for file in killed.rglob("events.out.tfevents.*"):
        content = file.read_bytes()
        # Half of the last record again: what a kill in the middle of a write leaves.
        file.write_bytes(content + content[-60:-cut])
    resume(killed)
    assert_continued(killed)


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\x07", b"garbage that is no record at all"])
def test_resume_after_a_damaged_tail(killed: Path, tail: bytes) -> None:
    for file in killed.rglob("events.out.tfevents.*"):
        file.write_bytes(file.read_bytes() + tail)
    resume(killed)
    assert_continued(killed)


def test_resume_drops_a_last_record_whose_data_is_damaged(killed: Path) -> None:
    file = event_files(killed / "steps")[0]
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    assert rewind(killed / "steps", 1000) == 11
    assert len(points(killed / "steps", "train/loss")) == 11


def test_resume_on_a_machine_whose_clock_is_behind(killed: Path) -> None:
    for file in killed.rglob("events.out.tfevents.*"):
        file.rename(file.with_name("events.out.tfevents.9999999999.host.1.0"))
    resume(killed)
    assert_continued(killed)


def test_resume_killed_while_it_rewinds(killed: Path) -> None:
    old = event_files(killed)[0]
    content = old.read_bytes()
    rewind(killed, 30)
    old.write_bytes(content)
    (killed / ".history.1.tmp").write_bytes(b"half")
    resume(killed)
    assert_continued(killed)
    assert not list(killed.glob(".*"))


def test_resume_at_the_first_epoch_of_a_round(killed: Path) -> None:
    with TensorBoard(
        killed, class_names=NAMES, labels=30, step=8, round_number=1, epoch=0
    ) as board:
        write_rounds(board, 2.0, first=1)
    assert points(killed / "round_000", "train/loss") == [(i, 1) for i in range(4)]
    assert points(killed / "round_001", "train/loss") == [(i, 2) for i in range(4)]
    assert points(killed / "round_002", "train/loss") == [(i, 2) for i in range(4)]


def test_fresh_run_clears_what_a_killed_one_left(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES) as board:
        board.config("seed: 1", {"seed": 1})
        write_rounds(board, 5.0, last=0)
    assert points(killed, "test/accuracy") == [(20, 5)]
    assert points(killed / "steps", "train/loss") == [(2 * i, 5) for i in range(4)]
    assert not (killed / "round_001").exists()
    (config,) = read(killed).Tensors("config/text_summary")
    assert b"seed: 1" in config.tensor_proto.string_val[0]


def test_config_is_written_on_resume_where_the_folder_was_deleted(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES, labels=30, step=5, round_number=1) as board:
        board.config("seed: 0", {"seed": 0})
    assert "config/text_summary" in read(tmp_path).Tags()["tensors"]


def test_settings_stand_in_the_one_file(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.config("seed: 0\nlr: 0.1", {"seed": 0, "lr": 0.1, "name": "entropy", "warm": True})
        board.round(20, {"test/accuracy": 0.5})
    assert len(event_files(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["steps"]
    events = read(tmp_path)
    (config,) = events.Tensors("config/text_summary")
    assert config.tensor_proto.string_val[0] == b"```yaml\nseed: 0\nlr: 0.1\n```"
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["seed"].number_value == 0
    assert found["lr"].number_value == pytest.approx(0.1)
    assert found["name"].string_value == "entropy"
    assert found["warm"].string_value == "true"


def test_query_records_all_it_is_given(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.query(
            20,
            pool_scores=torch.rand(500),
            images=images,
            scores=torch.arange(40, 0, -1).float(),
        )
        board.class_histogram(20, torch.tensor([10, 20, 10]))
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"query/class_histogram", "query/picked"}
    (histogram,) = events.Histograms("query/scores_pool")
    assert histogram.step == 20
    assert histogram.histogram_value.num == 500
    (picked,) = events.Images("query/picked")
    assert (picked.height, picked.width) == (4 * 68, 8 * 68)
    (table,) = events.Tensors("query/picked_scores/text_summary")
    lines = table.tensor_proto.string_val[0].decode().split("\n")
    assert lines[0] == "| 40 | 39 | 38 | 37 | 36 | 35 | 34 | 33 |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert len(lines) == 5


def test_query_records_nothing_without_data(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.query(
            20,
            pool_scores=torch.zeros(0),
            images=torch.zeros(0, 1, 8, 8),
            scores=torch.zeros(0),
        )
    tags = read(tmp_path).Tags()
    assert [tags[kind] for kind in ("images", "histograms", "tensors")] == [[], [], []]


def test_confusion_and_curve_are_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.confusion(20, torch.eye(3, dtype=torch.int64))
        board.curve(20, learning_curve([20], [0.5], title="run"))
    events = read(tmp_path)
    assert [event.step for event in events.Images("test/confusion")] == [20]
    (curve,) = events.Images("curve/accuracy")
    assert curve.encoded_image_string.startswith(b"\x89PNG")
    assert (curve.width, curve.height) == (720, 480)


def test_flush_puts_all_records_into_the_files(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, class_names=NAMES)
    write_rounds(board, 1.0, last=0)
    board.flush()
    assert points(tmp_path, "test/accuracy") == [(20, 1)]
    assert len(points(tmp_path / "round_000", "train/loss")) == EPOCHS
    board.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Once the list holds True, event files cannot be written any more."""
    from tensorboard.compat import tf

    full = [False]
    append = tf.io.gfile.GFile.write

    def write(file: Any, content: bytes) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(file, content)

    monkeypatch.setattr(tf.io.gfile.GFile, "write", write)
    return full


def write_until(board: TensorBoard, last: str) -> None:
    for labels in range(100, 105):
        board.round(labels, {"test/accuracy": 0.5})
    getattr(board, last)()


# The writer's thread dies of the error, which reaches the run at its next call.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("last", ["flush", "close"])
def test_full_disk_is_an_os_error(tmp_path: Path, full_disk: list[bool], last: str) -> None:
    board = TensorBoard(tmp_path, class_names=NAMES)
    write_rounds(board, 1.0, last=0)
    board.flush()
    full_disk[0] = True
    with pytest.raises(OSError, match="No space left"):
        write_until(board, last)
    full_disk[0] = False
    with pytest.raises(OSError, match="No space left"):
        board.close()
    with TensorBoard(tmp_path, class_names=NAMES, labels=100, step=8, round_number=1) as board:
        board.round(100, {"test/accuracy": 0.7})
    assert points(tmp_path, "test/accuracy") == [(20, 1), (100, 0.7)]


def test_rewind_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert rewind(tmp_path / "missing", 5) == 0
    assert not (tmp_path / "missing").exists()


def test_rewind_to_the_start_removes_all_files(killed: Path) -> None:
    rewind(killed, 30)
    assert [file.name for file in event_files(killed)] == [HISTORY]
    assert rewind(killed, 0) == 0
    assert event_files(killed) == []


def test_multilabel_figures_and_metric_have_their_own_names(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES, metric="micro_f1") as board:
        board.config("seed: 0", {"seed": 0})
        board.confusion(20, torch.ones(3, 2, 2, dtype=torch.int64))
        board.curve(20, learning_curve([20], [0.5], title="run", metric="micro F1"))
        board.class_histogram(20, torch.tensor([3, 4, 5]), 6)
    tags = read(tmp_path).Tags()["images"]
    assert set(tags) == {"test/outcomes", "curve/micro_f1", "query/class_histogram"}
