"""The prediction history in memory, in files and memory-mapped."""

from __future__ import annotations

import errno
import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.query import PredictionHistory
from dal.query.instability import instability
from dal.utils.safe_files import DamagedError

TOTAL, CLASSES = 12, 3
MODES = ["memory", "files", "mapped"]


def probs_of(round_number: int, count: int = TOTAL) -> Tensor:
    rng = torch.Generator().manual_seed(round_number)
    return torch.randn(count, CLASSES, generator=rng).softmax(1)


def make(mode: str, folder: Path, keep: int | None = 3) -> PredictionHistory:
    if mode == "memory":
        return PredictionHistory(TOTAL, CLASSES, keep)
    limit = {"memory_limit": 0} if mode == "mapped" else {}
    made = PredictionHistory(TOTAL, CLASSES, keep, folder / "history", **limit)
    assert made.mapped == (mode == "mapped" or keep is None)
    return made


def filled(mode: str, folder: Path, rounds: int, keep: int | None = 3) -> PredictionHistory:
    made = make(mode, folder, keep)
    for number in range(rounds):
        made.append(number, torch.arange(TOTAL), probs_of(number))
    return made


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("mode", MODES)
def test_last_gives_the_wanted_samples_oldest_first(mode: str, tmp_path: Path) -> None:
    made = filled(mode, tmp_path, 3)
    indices = torch.tensor([7, 2, 11])
    want = torch.stack([probs_of(1)[indices], probs_of(2)[indices]])
    assert torch.equal(made.last(2, indices), want)
    assert made.last(9, indices).shape == (3, 3, CLASSES)
    assert made.last(1, indices).dtype == torch.float32


@pytest.mark.parametrize("mode", MODES)
def test_last_of_nothing_is_empty(mode: str, tmp_path: Path) -> None:
    assert make(mode, tmp_path).last(3, torch.tensor([1, 2])).shape == (0, 2, CLASSES)


@pytest.mark.parametrize("mode", MODES)
def test_samples_not_predicted_are_nan(mode: str, tmp_path: Path) -> None:
    made = make(mode, tmp_path)
    made.append(0, torch.arange(TOTAL), probs_of(0))
    made.append(1, torch.tensor([9, 4]), probs_of(1, 2).double())
    newest = made.last(1, torch.arange(TOTAL))[0]
    assert torch.equal(newest[[9, 4]], probs_of(1, 2))
    assert newest.isnan().all(1).nonzero().squeeze(1).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]
    sample = made.of_sample(5)
    assert torch.equal(sample[0], probs_of(0)[5])
    assert bool(sample[1].isnan().all())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("keep", "rounds"), [(2, [4, 5]), (3, [3, 4, 5]), (None, [*range(6)])])
def test_keep_drops_the_oldest(
    keep: int | None, rounds: list[int], mode: str, tmp_path: Path
) -> None:
    made = filled(mode, tmp_path, 6, keep)
    assert made.rounds == rounds
    assert torch.equal(made.of_sample(8), torch.stack([probs_of(r)[8] for r in rounds]))


@pytest.mark.parametrize("mode", MODES)
def test_appending_a_round_again_replaces_it(mode: str, tmp_path: Path) -> None:
    made = filled(mode, tmp_path, 2)
    made.append(1, torch.arange(TOTAL), probs_of(99))
    assert made.rounds == [0, 1]
    assert torch.equal(made.last(1, torch.arange(TOTAL))[0], probs_of(99))
    fresh = make(mode, tmp_path)
    fresh.load_state_dict(made.state_dict())
    assert torch.equal(fresh.last(1, torch.arange(TOTAL))[0], probs_of(99))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_given_out_is_a_copy(mode: str, tmp_path: Path) -> None:
    made = filled(mode, tmp_path, 2)
    made.last(2, torch.arange(TOTAL)).zero_()
    made.of_sample(3).zero_()
    assert torch.equal(made.last(1, torch.arange(TOTAL))[0], probs_of(1))


@pytest.mark.parametrize("mode", MODES)
def test_state_survives_a_checkpoint(mode: str, tmp_path: Path) -> None:
    made = filled(mode, tmp_path, 5)
    fresh = make(mode, tmp_path)
    fresh.load_state_dict(through_a_checkpoint(made.state_dict()))
    assert fresh.rounds == [2, 3, 4]
    everything = torch.arange(TOTAL)
    assert torch.equal(fresh.last(3, everything), made.last(3, everything))
    fresh.append(5, everything, probs_of(5))
    assert fresh.rounds == [3, 4, 5]


@pytest.mark.parametrize("mode", MODES)
def test_a_state_does_not_change_with_later_rounds(mode: str, tmp_path: Path) -> None:
    made = filled(mode, tmp_path, 2)
    state = made.state_dict()
    made.append(2, torch.arange(TOTAL), probs_of(2))
    fresh = make(mode, tmp_path)
    fresh.load_state_dict(state)
    assert fresh.rounds == [0, 1]


@pytest.mark.parametrize("mode", ["files", "mapped"])
def test_files_are_written_once_and_the_state_names_them_only(mode: str, tmp_path: Path) -> None:
    def files() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_ino) for path in (tmp_path / "history").iterdir())

    made = filled(mode, tmp_path, 3)
    before = files()
    state = made.state_dict()
    made.last(3, torch.arange(TOTAL))
    make(mode, tmp_path).load_state_dict(state)
    assert files() == before
    assert [name for name, _ in before] == ["round_0000.npy", "round_0001.npy", "round_0002.npy"]
    assert state == {"rounds": [[0, 2]]}


def test_state_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    made = filled("files", tmp_path, 40, keep=None)
    assert made.state_dict() == {"rounds": [[0, 39]]}
    assert made.rounds == list(range(40))


def test_many_rounds_keep_no_files_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = filled("files", tmp_path, 40, keep=None)
    fresh = make("files", tmp_path, keep=None)
    fresh.load_state_dict(made.state_dict())
    kept = PredictionHistory.read(tmp_path / "history")
    assert torch.equal(kept.of_sample(3), fresh.of_sample(3))
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 10


def test_memory_is_not_written_to_disk(tmp_path: Path) -> None:
    filled("memory", tmp_path, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_files_only")
def test_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    made = PredictionHistory(2**21, CLASSES, keep=None, folder=tmp_path)
    with pytest.raises(
        OSError, match=r"the disk is full: round_0003.npy \(24.0 MiB\) .* is intact: mend this"
    ) as caught:
        made.append(3, torch.tensor([0]), probs_of(0, 1))
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert list(tmp_path.iterdir()) == []


def damage_content(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap_with_another_round(path: Path) -> None:
    path.write_bytes(path.with_name("round_0000.npy").read_bytes())


DAMAGES = {
    "content": damage_content,
    "other-round": swap_with_another_round,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "header-only": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "no-npy": lambda path: path.write_bytes(b"something else altogether"),
    "other-type": lambda path: path.write_bytes(path.read_bytes().replace(b"<f4", b"<i4")),
    "other-shape": lambda path: path.write_bytes(path.read_bytes().replace(b"(12, 3)", b"(3, 12)")),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mode", ["files", "mapped"])
def test_a_damaged_file_is_named(mode: str, damage: str, tmp_path: Path) -> None:
    state = filled(mode, tmp_path, 2).state_dict()
    path = tmp_path / "history" / "round_0001.npy"
    before = path.read_bytes()
    DAMAGES[damage](path)
    assert not path.exists() or path.read_bytes() != before
    with pytest.raises(DamagedError, match=r"history.round_0001\.npy"):
        make(mode, tmp_path).load_state_dict(state)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mode", ["files", "mapped"])
def test_damaged_rounds_can_be_done_without(mode: str, damage: str, tmp_path: Path) -> None:
    state = filled(mode, tmp_path, 4, keep=4).state_dict()
    path = tmp_path / "history" / "round_0002.npy"
    DAMAGES[damage](path)
    there = path.exists()
    fresh = make(mode, tmp_path, keep=4)
    assert fresh.load_state_dict(state, without_damaged=True) == [2]
    assert fresh.rounds == [0, 1, 3]
    assert torch.equal(fresh.of_sample(8), torch.stack([probs_of(r)[8] for r in (0, 1, 3)]))
    assert not path.exists()
    assert path.with_name("round_0002.npy.damaged").exists() == there
    again = make(mode, tmp_path, keep=4)
    assert again.load_state_dict(fresh.state_dict()) == []
    assert again.rounds == [0, 1, 3]
    again.append(4, torch.arange(TOTAL), probs_of(4))
    assert again.rounds == [0, 1, 3, 4]


def test_a_flipped_bit_is_never_read(tmp_path: Path) -> None:
    state = filled("files", tmp_path, 1).state_dict()
    path = tmp_path / "history" / "round_0000.npy"
    content = path.read_bytes()
    for position in range(len(content)):
        broken = bytearray(content)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        fresh = make("files", tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, about headers it finds odd
            try:
                fresh.load_state_dict(state)
            except DamagedError:
                continue
        # Only the padding of the header may be changed without harm.
        assert torch.equal(fresh.last(1, torch.arange(TOTAL))[0], probs_of(0))


@pytest.mark.parametrize("mode", ["files", "mapped"])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_pruning_spares_what_the_last_states_refer_to(keep: int, mode: str, tmp_path: Path) -> None:
    made = make(mode, tmp_path, keep)
    states: list[tuple[int, dict[str, Any]]] = []
    for number in range(8):
        made.append(number, torch.arange(TOTAL), probs_of(number))
        for newest, state in states[-2:]:
            fresh = make(mode, tmp_path, keep)
            fresh.load_state_dict(state)
            assert torch.equal(fresh.last(1, torch.arange(TOTAL))[0], probs_of(newest))
        states.append((number, through_a_checkpoint(made.state_dict())))
    assert len(list((tmp_path / "history").iterdir())) <= keep + 2


def test_keep_none_deletes_no_file(tmp_path: Path) -> None:
    filled("files", tmp_path, 9, keep=None)
    assert len(list((tmp_path / "history").iterdir())) == 9


def test_history_read_gives_what_a_run_left(tmp_path: Path) -> None:
    probs = torch.rand(3, 5, 4)
    written = PredictionHistory(5, 4, keep=None, folder=tmp_path)
    for number in range(3):
        written.append(number, torch.arange(5), probs[number])
    read = PredictionHistory.read(tmp_path)
    assert read.rounds == [0, 1, 2]
    assert torch.equal(read.of_sample(2), probs[:, 2])


def test_history_read_of_nothing_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="keep_history=true"):
        PredictionHistory.read(tmp_path)


def test_a_sample_that_came_late_has_the_first_prediction_there_is(tmp_path: Path) -> None:
    probs = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0)).softmax(2)
    first = PredictionHistory(3, 3, keep=None, folder=tmp_path)
    first.append(0, torch.arange(3), probs[0, :3])
    history = PredictionHistory(5, 3, keep=None, folder=tmp_path, begun=3)
    assert history.load_state_dict(first.state_dict()) == []
    # The last sample comes in round 1, but is predicted in round 2 only; sample 0 is labeled then.
    history.append(1, torch.tensor([0, 1, 2, 3]), probs[1, :4])
    history.append(2, torch.tensor([1, 2, 3, 4]), probs[2, 1:])
    found = history.last(3, torch.tensor([1, 3, 4]))
    assert found[:, 0].equal(probs[:3, 1])
    assert found[:, 1].equal(torch.stack([probs[1, 3], probs[1, 3], probs[2, 3]]))
    assert found[:, 2].equal(probs[2, 4].expand(3, -1))
    # No change counts nothing.
    scores = instability(found)
    assert scores[2] == 0
    assert scores[0] == instability(probs[:3, 1:2])[0]
    # A sample that is not late stays as it is: unknown where it was not predicted.
    assert history.last(3, torch.tensor([0]))[2].isnan().all()
    assert history.of_sample(3)[0].isnan().all()
    assert PredictionHistory.read(tmp_path).last(3, torch.tensor([1, 3, 4])).equal(found)


def test_a_file_of_too_few_rows_is_damaged_even_where_the_pool_grew(tmp_path: Path) -> None:
    few = PredictionHistory(2, 3, keep=None, folder=tmp_path)
    few.append(0, torch.arange(2), torch.full((2, 3), 1 / 3))
    for total, begun in ((5, 3), (5, 5), (5, None)):
        history = PredictionHistory(total, 3, keep=None, folder=tmp_path, begun=begun)
        with pytest.raises(DamagedError, match="it holds float32"):
            history.load_state_dict(few.state_dict())
