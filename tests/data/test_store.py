"""Stores: read by rows wherever the samples are, and told from each other without being read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import content
from torch import Tensor

from dal.data import Dataset, Imbalanced, Noisy, Ood, Repeated, make_source, npz
from dal.data.hard_pools import harden
from dal.data.joined import ChangedStore, JoinedStore
from dal.data.mapped import MappedStore, is_mapped
from dal.data.source import Split
from dal.data.store import ArrayStore, Store, blocks, update
from dal.utils.digest import digest_file
from dal.utils.kept import kept

NUMBERS = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
LABELS = np.arange(60) % 3
SOME = torch.tensor([5, 41, 5, 0, 59])


def mapped(folder: Path, array: np.ndarray = NUMBERS, name: str = "x.npy") -> Any:
    np.save(folder / name, array)
    return np.load(folder / name, mmap_mode="r")


def bytes_read() -> int:
    """Bytes that this process has asked files for."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


def wait_until_old() -> None:
    """Files that were written a moment ago are read again."""
    time.sleep(0.15)


def stores(folder: Path) -> list[Store]:
    whole = torch.from_numpy(NUMBERS)
    longer = mapped(folder, np.vstack([NUMBERS[:9], NUMBERS]), "y.npy")
    shorter = MappedStore(mapped(folder, NUMBERS[:50], "z.npy"), "z")
    return [
        ArrayStore(whole),
        MappedStore(mapped(folder), "x"),
        MappedStore(longer, "y", slice(9, None)),
        JoinedStore([ArrayStore(whole[:20]), ArrayStore(whole[20:21]), ArrayStore(whole[21:])]),
        JoinedStore([shorter, ArrayStore(whole[50:])]),
    ]


def test_every_store_gives_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    for store in stores(tmp_path):
        assert len(store) == 60
        assert torch.equal(content(store), torch.from_numpy(NUMBERS))
        read = store.read(SOME)
        assert isinstance(read, Tensor)
        assert np.array_equal(read, NUMBERS[SOME])
        assert store.spec == (3,)
        shown = store.show(41)
        assert isinstance(shown, Tensor)
        assert np.array_equal(shown, NUMBERS[41])
        assert [len(block) for block in blocks(store, size=25)] == [25, 25, 10]
        nothing = store.read(SOME[:0])
        assert isinstance(nothing, Tensor)
        assert nothing.shape == (0, 3)


def test_what_is_in_memory_is_resident_and_files_are_not(tmp_path: Path) -> None:
    arrays, file, part, joined, mixed = stores(tmp_path)
    assert arrays.resident("cpu")
    assert joined.resident("cpu")
    assert not any(store.resident("cpu") for store in (file, part, mixed))


def test_tensors_by_name_and_their_shapes() -> None:
    inputs = {"ids": torch.arange(12).view(6, 2), "length": torch.arange(6)}
    store = JoinedStore([ArrayStore(inputs), ArrayStore(inputs)])
    read = store.read(torch.tensor([7, 0]))
    assert isinstance(read, dict)
    assert read["ids"].tolist() == [[2, 3], [0, 1]]
    assert read["length"].tolist() == [1, 0]
    assert store.spec == {"ids": (2,), "length": ()}
    with pytest.raises(ValueError, match="rows"):
        ArrayStore({"ids": torch.zeros(2), "length": torch.zeros(3)})


def test_rows_on_a_device_are_chosen_without_a_look_at_them() -> None:
    """What a recorded step of CUDA does, on a device that has no values to look at."""
    joined = JoinedStore([ArrayStore(torch.zeros(4, 3)), ArrayStore(torch.zeros(2, 3))])
    read = joined.read(torch.zeros(5, dtype=torch.int64, device="meta"), "meta")
    assert isinstance(read, Tensor)
    assert read.shape == (5, 3)


@pytest.mark.parametrize(
    ("array", "shape", "dtype"),
    [
        (np.zeros((4, 5, 6), np.uint8), (1, 5, 6), torch.uint8),
        (np.zeros((4, 5, 6, 3), np.uint8), (3, 5, 6), torch.uint8),
        (np.zeros((4, 3, 5, 6), np.float16), (3, 5, 6), torch.float16),
        (np.zeros((4, 7), np.uint8), (7,), torch.float32),
        (np.zeros((4, 7), np.float64), (7,), torch.float32),
        (np.zeros((4, 7), ">f4"), (7,), torch.float32),
    ],
)
def test_files_of_all_kinds(
    tmp_path: Path, array: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    store = MappedStore(mapped(tmp_path, array), "x")
    assert store.spec == shape
    assert content(store).dtype == dtype
    assert content(store).is_contiguous()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 6), np.int64), "images of type int64"),
        (np.zeros((0, 5)), "is empty"),
        (np.zeros((4, 5), np.complex64), "type complex64"),
        (np.zeros(4), "has shape"),
    ],
)
def test_files_of_no_samples_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MappedStore(mapped(tmp_path, array), "x")


def test_a_bad_number_is_named_by_its_row(tmp_path: Path) -> None:
    array = NUMBERS.astype(np.float64)
    array[47, 1] = 1e300
    with pytest.raises(ValueError, match="in row 47 first"):
        Dataset("mine", mapped(tmp_path, array), LABELS)


def test_a_large_file_is_read_once_and_not_at_every_start(tmp_path: Path) -> None:
    size = 2**24
    sparse = np.lib.format.open_memmap(
        tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(size // 16, 4)
    )
    del sparse
    np.save(tmp_path / "y.npy", np.arange(size // 16) % 2)
    wait_until_old()

    def start() -> tuple[str, int]:
        before = bytes_read()
        found = npz(str(tmp_path / "x.npy"), targets=str(tmp_path / "y.npy"))
        fingerprint = make_source(found, seed=0, validation=0.1).fingerprint()
        return fingerprint, bytes_read() - before

    first, again = start(), start()
    assert first[0] == again[0]
    assert first[1] >= size
    assert again[1] < size / 100


def test_a_copy_is_recognized_and_a_change_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = MappedStore(mapped(tmp_path / "one"), "x").digest()
    assert MappedStore(mapped(tmp_path / "two"), "x").digest() == first
    os.utime(tmp_path / "two" / "x.npy", (1, 1))
    assert MappedStore(mapped(tmp_path / "two"), "x").digest() == first
    path = tmp_path / "one" / "x.npy"
    wait_until_old()
    assert digest_file(path) == digest_file(tmp_path / "two" / "x.npy")
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if it had not been touched
    assert digest_file(path) != digest_file(tmp_path / "two" / "x.npy")


def test_a_file_that_was_replaced_gives_no_digest_to_what_was_there_before(tmp_path: Path) -> None:
    store = MappedStore(mapped(tmp_path), "x")
    mapped(tmp_path, NUMBERS + 1, "new.npy")
    (tmp_path / "new.npy").replace(tmp_path / "x.npy")
    assert np.array_equal(content(store), NUMBERS)
    with pytest.raises(
        ValueError, match=r"x\.npy was replaced, or written to, after it was opened"
    ):
        store.digest()


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path) -> None:
    array = np.ones((5000, 8), np.float32)
    store, last = MappedStore(mapped(tmp_path, array), "x"), torch.tensor([4999])
    torch.testing.assert_close(store.read(last), torch.ones(1, 8))
    np.save(tmp_path / "new.npy", 2 * array)
    (tmp_path / "new.npy").replace(tmp_path / "x.npy")  # what is open stays as it was
    torch.testing.assert_close(store.read(last), torch.ones(1, 8))
    store = MappedStore(np.load(tmp_path / "x.npy", mmap_mode="r"), "x")
    torch.testing.assert_close(store.read(last), 2 * torch.ones(1, 8))
    wait_until_old()
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"x\.npy was written to while it was in use; restore"):
        store.read(last)
    store = MappedStore(np.load(tmp_path / "x.npy", mmap_mode="r"), "x")
    os.truncate(tmp_path / "x.npy", 4096)  # the system kills whoever reads the rest
    with pytest.raises(ValueError, match=r"x\.npy was written to while it was in use; restore"):
        store.read(last)


def test_parts_of_a_file_have_digests_of_their_own(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    digests = {
        MappedStore(array, "x").digest(),
        MappedStore(array, "x", slice(30)).digest(),
        MappedStore(array, "x", slice(30, None)).digest(),
        MappedStore(array[::2], "x").digest(),
    }
    assert len(digests) == 4


def test_digests_tell_mappings_of_one_file_apart_by_where_they_begin(tmp_path: Path) -> None:
    page = 4 * os.sysconf("SC_PAGE_SIZE")
    path = tmp_path / "raw"
    np.random.default_rng(0).integers(0, 256, 2 * page + 500, np.uint8).tofile(path)

    def rows(offset: int, count: int = 20) -> MappedStore:
        array = np.memmap(path, np.uint8, "r", offset=offset, shape=(count, 8))
        return MappedStore(array, "raw")

    assert len({rows(offset).digest() for offset in (0, 100, page, page + 100)}) == 4
    later = np.memmap(path, np.uint8, "r", offset=page - 80, shape=(30, 8))[10:]
    assert MappedStore(later, "raw").digest() == rows(page).digest()


def test_without_a_cache_files_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("DAL_CACHE_DIR", str(tmp_path / "taken"))
    path = tmp_path / "x.npy"
    np.save(path, NUMBERS)
    wait_until_old()
    assert digest_file(path) == digest_file(path)


def test_what_is_kept_and_damaged_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAL_CACHE_DIR", str(tmp_path))
    assert kept("a key", lambda: [0.5, 12]) == [0.5, 12]
    (path,) = (tmp_path / "kept").iterdir()
    whole = path.read_text()
    assert kept("a key", list) == [0.5, 12]
    for text in (whole.replace("12", "13"), whole[:-9], "[" * 100_000, "[]", whole.upper()):
        path.write_text(text)
        assert kept("a key", lambda: [0.5, 12]) == [0.5, 12]
        assert path.read_text() == whole


def source_of(inputs: Any, **settings: Any) -> Any:
    data = Dataset("mine", inputs, torch.from_numpy(LABELS), ("a", "b", "c"), **settings)
    return make_source(data, seed=3, validation=6)


def test_dividing_copies_nothing(tmp_path: Path) -> None:
    inputs = torch.from_numpy(NUMBERS)
    whole = source_of(inputs)
    parts = [whole.train, whole.test, whole.validation, Imbalanced(3.0)(whole, seed=0).train]
    parts += [Noisy(0.5)(whole, seed=0).train, Repeated(2, 0.0)(whole, seed=0).train]
    for part in parts:
        assert part.store.inputs is inputs
        assert torch.equal(part.inputs, inputs[part.rows])


def test_files_stay_on_the_disk_and_give_what_arrays_give(tmp_path: Path) -> None:
    """Through division, standardization, hard pools and foreign samples."""
    other = Dataset("other", torch.randn(9, 3), torch.arange(9) % 2, ("a", "b"))
    pools = [Imbalanced(2.0), Ood(data=other), Repeated(1, 0.1), Noisy(0.2)]
    sources = [
        harden(source_of(inputs, standardize=True), pools, seed=4)
        for inputs in (torch.from_numpy(NUMBERS), mapped(tmp_path))
    ]
    for name in ("train", "test", "validation"):
        a, b = (getattr(source, name) for source in sources)
        everything = torch.arange(len(a))
        assert torch.equal(a.take(everything), b.take(everything))
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.positions, b.positions)
        assert not b.store.resident("cpu")
    file = sources[1].train.store.parts[0]
    assert isinstance(file, MappedStore)
    assert len(file) == 60


def test_only_arrays_opened_for_reading_stay_on_the_disk(tmp_path: Path) -> None:
    array = mapped(tmp_path)
    assert is_mapped(array)
    assert is_mapped(array[3:9])
    assert not is_mapped(NUMBERS)
    assert not is_mapped(np.load(tmp_path / "x.npy", mmap_mode="c"))
    data = Dataset("mine", np.load(tmp_path / "x.npy", mmap_mode="c"), LABELS)
    assert isinstance(data.inputs, Tensor)


def test_digests_of_memory_count_bytes_and_those_of_files_the_file(tmp_path: Path) -> None:
    seen: list[bytes] = []

    class Taker:
        def update(self, data: Any) -> None:
            seen.append(bytes(data))

    update(Taker(), ArrayStore(torch.from_numpy(NUMBERS)), SOME)
    assert seen[-1] == NUMBERS[SOME].tobytes()
    seen.clear()
    store = MappedStore(mapped(tmp_path), "x")
    update(Taker(), store, SOME)
    assert store.digest().encode() in seen
    assert SOME.numpy().tobytes() in seen


def test_mean_and_deviation_of_a_file_are_taken_once_and_belong_to_its_content(
    tmp_path: Path,
) -> None:
    def prepare() -> Any:
        return source_of(mapped(tmp_path, array), standardize=True).train.prepare

    array = NUMBERS
    first = prepare()
    assert first == source_of(torch.from_numpy(NUMBERS), standardize=True).train.prepare
    assert prepare() == first
    array = NUMBERS * 2
    assert prepare().mean == tuple(2 * value for value in first.mean)


class Told(ArrayStore):
    """Remembers what it is told to expect."""

    told: tuple[list[int], ...] = ()

    def expect(self, batches: Iterable[Tensor]) -> None:
        self.told = tuple(batch.tolist() for batch in batches)


def test_stores_within_others_are_told_what_is_read_of_them() -> None:
    whole = torch.from_numpy(NUMBERS)
    first, second = Told(whole[:20]), Told(whole[20:])
    store = JoinedStore([first, ArrayStore(whole[:5]), second])
    split = Split(store, torch.tensor([0, 40, 19, 22, 25]), torch.zeros(5, dtype=torch.int64))
    batches = [torch.tensor([1, 0]), torch.tensor([2, 2]), torch.tensor([3, 4])]
    split.expect(iter(batches))
    assert first.told == ([0], [19, 19])
    assert second.told == ([15], [0])
    for batch in batches:
        split.take(batch)


def test_a_run_goes_on_with_samples_that_were_changed(tmp_path: Path) -> None:
    first = MappedStore(mapped(tmp_path), "x")
    other = MappedStore(mapped(tmp_path, NUMBERS + 1, "y.npy"), "y")
    changed = ChangedStore(other, first.digest())
    assert torch.equal(content(changed), content(other))
    assert torch.equal(torch.as_tensor(changed.show(3)), content(other)[3])
    assert len(changed) == 60
    assert not changed.resident("cpu")
    assert first.identity() == changed.identity() == first.digest()
    assert changed.digest() == other.digest() != first.digest()

    def fingerprint(*parts: Store) -> str:
        data = Dataset("mine", JoinedStore(parts), torch.arange(120) % 3, ("a", "b", "c"))
        return make_source(data, seed=0).fingerprint()

    assert fingerprint(changed, other) == fingerprint(first, other)
    assert fingerprint(other, other) != fingerprint(first, other)
