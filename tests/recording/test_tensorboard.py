import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dal.recording.events import HISTORY, rewind
from dal.recording.figures import learning_curve
from dal.recording.tensorboard import Pick, TensorBoard

NAMES = ("cat", "dog", "owl")
EPOCHS = 4
QUERY = 10


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


LOSS = "5_fit_over_steps/train/loss"
ACCURACY = "1_learning_curve/accuracy"


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 4)) for event in read(folder).Scalars(tag)]


def before(first: int) -> Callable[[str, int], bool]:
    return lambda tag, x: x < first


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def write_rounds(
    board: TensorBoard, value: float, *, first: int = 0, last: int = 2, epoch: int = 0
) -> None:
    """Rounds of four epochs, two steps each, as a run writes them."""
    for number in range(first, last + 1):
        labels = 20 + QUERY * number
        for e in range(epoch if number == first else 0, EPOCHS):
            board.epoch(number, 2 * (number * EPOCHS + e), {"train/loss": value})
        board.round(labels, {ACCURACY: value})


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
    with TensorBoard(folder, class_names=NAMES, labels=30, step=step) as board:
        board.config("seed: 0", {"seed": 0})
        write_rounds(board, value, first=1, epoch=2)


def test_points_are_read_back(killed: Path) -> None:
    assert points(killed, ACCURACY) == [(20, 1), (30, 1), (40, 1)]
    assert points(killed, LOSS) == [(2 * i, 1) for i in range(12)]
    assert points(killed, "5_fit_over_steps/round") == [(2 * i, i // EPOCHS) for i in range(12)]


def test_a_run_is_one_entry_of_tensorboard(killed: Path) -> None:
    resume(killed)
    assert {file.parent for file in killed.rglob("*tfevents*")} == {killed}


def assert_continued(folder: Path, value: float = 2.0) -> None:
    assert points(folder, ACCURACY) == [(20, 1), (30, value), (40, value)]
    assert points(folder, LOSS) == [(2 * i, 1 if i < 6 else value) for i in range(12)]
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
    with TensorBoard(killed, class_names=NAMES, labels=30, step=12):
        pass
    without_purge = EventAccumulator(str(killed), purge_orphaned_data=False).Reload()
    assert [event.step for event in without_purge.Scalars(ACCURACY)] == [20]
    assert [event.step for event in without_purge.Scalars(LOSS)] == [0, 2, 4, 6, 8, 10]


def test_points_over_steps_and_over_labels_are_rewound_each_by_its_own_x(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES, labels=1000, step=4):
        pass
    assert [x for x, _ in points(killed, ACCURACY)] == [20, 30, 40]
    assert [x for x, _ in points(killed, LOSS)] == [0, 2]


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
    (file,) = event_files(killed)
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    rewind(killed, before(1000))
    assert [x for x, _ in points(killed, ACCURACY)] == [20, 30]
    assert len(points(killed, LOSS)) == 12


def test_resume_on_a_machine_whose_clock_is_behind(killed: Path) -> None:
    for file in killed.rglob("events.out.tfevents.*"):
        file.rename(file.with_name("events.out.tfevents.9999999999.host.1.0"))
    resume(killed)
    assert_continued(killed)


def test_resume_killed_while_it_rewinds(killed: Path) -> None:
    old = event_files(killed)[0]
    content = old.read_bytes()
    rewind(killed, before(30))
    old.write_bytes(content)
    (killed / ".history.1.tmp").write_bytes(b"half")
    resume(killed)
    assert_continued(killed)
    assert not list(killed.glob(".*"))


def test_resume_at_the_first_epoch_of_a_round(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES, labels=30, step=8) as board:
        write_rounds(board, 2.0, first=1)
    assert points(killed, LOSS) == [(2 * i, 1 if i < 4 else 2) for i in range(12)]


def test_fresh_run_clears_what_a_killed_one_left(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES) as board:
        board.config("seed: 1", {"seed": 1})
        write_rounds(board, 5.0, last=0)
    assert points(killed, ACCURACY) == [(20, 5)]
    assert points(killed, LOSS) == [(2 * i, 5) for i in range(4)]
    (config,) = read(killed).Tensors("config/text_summary")
    assert b"seed: 1" in config.tensor_proto.string_val[0]


def test_config_is_written_on_resume_where_the_folder_was_deleted(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES, labels=30, step=5) as board:
        board.config("seed: 0", {"seed": 0})
    assert "config/text_summary" in read(tmp_path).Tags()["tensors"]


def test_settings_stand_in_the_one_file(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.config("seed: 0\nlr: 0.1", {"seed": 0, "lr": 0.1, "name": "entropy", "warm": True})
        board.round(20, {ACCURACY: 0.5})
    assert len(event_files(tmp_path)) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    events = read(tmp_path)
    (config,) = events.Tensors("config/text_summary")
    assert config.tensor_proto.string_val[0] == b"```yaml\nseed: 0\nlr: 0.1\n```"
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["seed"].number_value == 0
    assert found["lr"].number_value == pytest.approx(0.1)
    assert found["name"].string_value == "entropy"
    assert found["warm"].string_value == "true"


def test_query_records_all_it_is_given(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    picks = [Pick(7 * i, 40.5 - i, "a|b", "dog" if i else "") for i in range(40)]
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.query(20, picks, pool_scores=torch.rand(500), images=images)
        board.class_histogram(20, torch.tensor([10, 20, 10]))
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"7_figures/queried_classes", "6_query/picked"}
    (histogram,) = events.Histograms("6_query/scores_pool")
    assert histogram.step == 20
    assert histogram.histogram_value.num == 500
    (picked,) = events.Images("6_query/picked")
    assert picked.width == 8 * 122
    (table,) = events.Tensors("6_query/picks/text_summary")
    lines = table.tensor_proto.string_val[0].decode().split("\n")
    assert lines[0] == "| row | label | guess | score |"
    assert lines[2:4] == ["| 0 | a\\|b |  | 40.5 |", "| 7 | a\\|b | dog | 39.5 |"]
    assert len(lines) == 2 + 32


def test_words_below_a_picture() -> None:
    assert Pick(5, 0.25, "cat").lines == ["row 5", "label cat", "score 0.25"]
    assert Pick(5, 0.25, "cat", "dog").lines == ["row 5", "label cat", "guess dog", "score 0.25"]


def test_query_records_nothing_without_data(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.query(20, [], pool_scores=torch.zeros(0), images=torch.zeros(0, 1, 8, 8))
    tags = read(tmp_path).Tags()
    assert [tags[kind] for kind in ("images", "histograms", "tensors")] == [[], [], []]


def test_fits_of_a_resumed_run_are_drawn_from_what_was_recorded(killed: Path) -> None:
    with TensorBoard(killed, class_names=NAMES, labels=40, step=16) as board:
        board.fits(40)
    (drawn,) = read(killed).Images("7_figures/fits")
    with TensorBoard(killed.parent / "new", class_names=NAMES) as board:
        write_rounds(board, 1.0, last=1)
        board.fits(40)
    (wanted,) = read(killed.parent / "new").Images("7_figures/fits")
    assert drawn.encoded_image_string == wanted.encoded_image_string


def test_no_figure_of_fits_where_epochs_are_not_recorded(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.fits(40)
    assert read(tmp_path).Tags()["images"] == []


def test_confusion_and_curve_are_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with TensorBoard(tmp_path, class_names=NAMES) as board:
        board.confusion(20, torch.eye(3, dtype=torch.int64))
        board.curve(20, learning_curve([20], [0.5], title="run"))
    events = read(tmp_path)
    assert [event.step for event in events.Images("7_figures/confusion")] == [20]
    (curve,) = events.Images("7_figures/learning_curve")
    assert curve.encoded_image_string.startswith(b"\x89PNG")
    assert (curve.width, curve.height) == (720, 480)


def test_flush_puts_all_records_into_the_files(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, class_names=NAMES)
    write_rounds(board, 1.0, last=0)
    board.flush()
    assert points(tmp_path, ACCURACY) == [(20, 1)]
    assert len(points(tmp_path, LOSS)) == EPOCHS
    board.close()


@pytest.mark.parametrize("last", ["flush", "close"])
def test_full_disk_is_an_os_error(tmp_path: Path, last: str) -> None:
    board = TensorBoard(tmp_path, class_names=NAMES)
    write_rounds(board, 1.0, last=0)
    board.flush()
    size = event_files(tmp_path)[0].stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        for labels in range(100, 105):
            board.round(labels, {ACCURACY: 0.5})
        with pytest.raises(
            OSError, match=r"the disk is full: events.*File too large.*run the same command"
        ):
            getattr(board, last)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if last == "flush":
        board.close()
    with TensorBoard(tmp_path, class_names=NAMES, labels=100, step=8) as again:
        again.round(100, {ACCURACY: 0.7})
    assert points(tmp_path, ACCURACY) == [(20, 1), (100, pytest.approx(0.7))]


def test_rewind_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert rewind(tmp_path / "missing", before(5)) == []
    assert not (tmp_path / "missing").exists()


def test_rewind_to_the_start_removes_all_files(killed: Path) -> None:
    rewind(killed, before(30))
    assert [file.name for file in event_files(killed)] == [HISTORY]
    assert rewind(killed, before(0)) == []
    assert event_files(killed) == []


def test_multilabel_figures_and_metric_have_their_own_names(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, class_names=NAMES, metric="micro_f1") as board:
        board.config("seed: 0", {"seed": 0})
        board.confusion(20, torch.ones(3, 2, 2, dtype=torch.int64))
        board.curve(20, learning_curve([20], [0.5], title="run", metric="micro F1"))
        board.class_histogram(20, torch.tensor([3, 4, 5]), 6)
    tags = read(tmp_path).Tags()["images"]
    assert set(tags) == {
        "7_figures/outcomes",
        "7_figures/learning_curve",
        "7_figures/queried_classes",
    }


def test_picks_are_named_by_the_end_of_their_file_name() -> None:
    pick = Pick(7, 0.5, "cat", content="photos/2024/summer/beach/cat_in_the_sun.jpg")
    assert pick.lines == ["…at_in_the_sun.jpg", "label cat", "score 0.5"]
    assert Pick(7, 0.5, "cat", content="a.jpg").lines[0] == "a.jpg"
    assert Pick(7, 0.5, "cat").lines[0] == "row 7"
