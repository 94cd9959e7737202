import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from dal import checkpoint
from dal.checkpoint import KEPT, Checkpoints
from dal.utils.safe_files import DamagedError


def state(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "tensor": torch.arange(5) + number,
        "nested": {"rows": [{"a": 0.1}], "none": None, "pairs": [(0, 1, 0.5, -1)]},
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def three(tmp_path: Path) -> Checkpoints:
    """Three whole checkpoints, numbers 0 to 2."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in range(3):
        checkpoints.save(state(number))
    return checkpoints


def newest(checkpoints: Checkpoints) -> Path:
    return sorted(checkpoints.folder.glob("state_*.pt"))[-1]


def test_round_trip_keeps_tensors_and_containers(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, state(3))
    loaded = checkpoint.load(path)
    assert torch.equal(loaded.pop("tensor"), state(3)["tensor"])
    assert loaded == {k: v for k, v in state(3).items() if k != "tensor"}


def test_load_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "a.pt")
    assert Checkpoints(tmp_path / "none").load() is None


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"path": Path("x")})
    with pytest.raises(ValueError, match="something else than tensors") as caught:
        checkpoint.load(path)
    assert "weights_only" not in str(caught.value)
    assert not isinstance(caught.value, DamagedError)  # or it would be removed


def test_whole_checkpoint_of_another_kind_is_refused_and_stays(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save({"a": 1})
    store.save({"path": Path("x")})
    with pytest.raises(ValueError, match=r"state_000001\.pt holds something else than tensors"):
        store.load()
    assert len(list(tmp_path.glob("state_*.pt"))) == 2


@pytest.mark.parametrize("kept", [0, 1, 16, 17, 40, 60, 0.5, -1])
def test_truncated_file_is_damaged(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, state(0))
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else len(content) // 2])
    with pytest.raises(DamagedError):
        checkpoint.load(path)


def test_one_flipped_bit_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, state(0))
    content = path.read_bytes()
    for position in {*range(60), *range(60, len(content), 37), len(content) - 1}:
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        path.write_bytes(altered)
        with pytest.raises(DamagedError):
            checkpoint.load(path)


def test_newest_state_is_loaded_and_only_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in range(KEPT + 4):
        checkpoints.save(state(number))
        assert len(names(checkpoints.folder)) == min(number + 1, KEPT)
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["number"] == KEPT + 3
    assert names(checkpoints.folder)[-1] == f"state_{KEPT + 3:06d}.pt"


def test_damaged_newest_falls_back_with_a_warning(
    three: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    bad = newest(three)
    bad.write_bytes(bad.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        loaded = three.load()
    assert loaded is not None
    assert loaded["number"] == 1
    assert bad.name in caplog.text
    assert "falling back" in caplog.text
    assert not bad.exists()
    three.save(state(2))
    assert newest(three).name == bad.name


def test_file_the_state_refers_to_may_be_damaged_too(three: Checkpoints) -> None:
    tried: list[int] = []

    def take(loaded: dict[str, Any]) -> int:
        tried.append(loaded["number"])
        if loaded["number"] > 0:
            raise DamagedError("history")
        return tried[-1]

    assert three.read(take) == 0
    assert tried == [2, 1, 0]


def test_in_part_the_newest_whole_state_is_taken_where_none_has_all_its_files(
    three: Checkpoints,
) -> None:
    def take(loaded: dict[str, Any]) -> None:
        raise DamagedError("history")

    newest(three).write_bytes(b"nothing of ours")
    before = names(three.folder)
    assert three.read(take, lambda state: state["number"]) == 1
    assert names(three.folder) == before


def test_other_errors_of_taking_do_not_fall_back(three: Checkpoints) -> None:
    def take(loaded: dict[str, Any]) -> None:
        raise ValueError("the data have changed")

    before = names(three.folder)
    with pytest.raises(ValueError, match="the data have changed"):
        three.read(take)
    assert names(three.folder) == before


def test_all_damaged_is_an_error_and_deletes_nothing(three: Checkpoints) -> None:
    before = names(three.folder)
    for path in three.folder.iterdir():
        path.write_bytes(b"nothing of ours")
    with pytest.raises(DamagedError, match=r"no checkpoint in .* is whole \("):
        three.load()
    assert names(three.folder) == before


def test_load_removes_half_written_files(three: Checkpoints) -> None:
    (three.folder / ".state_000003.pt.1.tmp").write_bytes(b"half")
    three.load()
    assert len(names(three.folder)) == 3


@pytest.fixture
def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("limit", ["no_space", "small_files_only"])
def test_full_disk_is_a_clear_error_and_leaves_the_state_before(
    three: Checkpoints, limit: str, request: pytest.FixtureRequest
) -> None:
    before = {path.name: path.read_bytes() for path in three.folder.iterdir()}
    request.getfixturevalue(limit)
    with pytest.raises(OSError, match=r"the disk is full: state_000003.pt .* is intact") as caught:
        three.save({"big": torch.zeros(2**23)})
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert {path.name: path.read_bytes() for path in three.folder.iterdir()} == before


def test_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot write: a\.pt"):
        checkpoint.save(tmp_path / "none" / "a.pt", state(0))
