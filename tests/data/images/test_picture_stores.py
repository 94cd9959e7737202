"""Pixels from a cache and from files: the same rows, whatever was announced."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dal.data.images.cache import Pictures
from dal.data.images.decode import Decoding, decode
from dal.data.images.stores import CachedPictures, LazyPictures
from dal.data.joined import JoinedStore
from dal.data.store import Store

HOW = Decoding(16)
COUNT = 50
SHUFFLED = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))


def write(path: Path, seed: int, size: tuple[int, int] = (30, 20)) -> None:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(COUNT):
        write(root / f"{number:02d}.jpg", number)
    return root


def pictures(folder: Path, lazy: bool, how: Decoding = HOW) -> tuple[Pictures, list[str]]:
    names = sorted(path.name for path in folder.iterdir())
    cache = folder.parent / ("lazy" if lazy else "cache")
    found = Pictures(folder, how, cache_dir=cache, lazy=lazy, workers=2)
    assert found.look_at(names).usable.all()
    return found, names


def store(folder: Path, lazy: bool, positions: Tensor = SHUFFLED, how: Decoding = HOW) -> Store:
    found = pictures(folder, lazy, how)[0].store(positions)
    assert isinstance(found, LazyPictures if lazy else CachedPictures)
    return found


def expected(folder: Path, positions: Tensor, how: Decoding = HOW) -> np.ndarray:
    files = sorted(folder.iterdir())
    return np.stack([decode(files[position].read_bytes(), how) for position in positions])


def read(found: Store, rows: Tensor) -> Tensor:
    pixels = found.read(rows)
    assert isinstance(pixels, Tensor)
    return pixels


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_in_any_order_and_repeatedly(folder: Path, lazy: bool) -> None:
    found = store(folder, lazy)
    whole = torch.from_numpy(expected(folder, SHUFFLED))
    assert len(found) == COUNT
    for rows in (torch.arange(COUNT), torch.tensor([5, 41, 5, 0]), torch.tensor([49])):
        pixels = read(found, rows)
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels, whole[rows])
    assert read(found, torch.zeros(0, dtype=torch.int64)).shape == (0, 3, 16, 16)
    assert found.spec == (3, 16, 16)
    shown = found.show(7)
    assert isinstance(shown, Tensor)
    assert torch.equal(shown, whole[7])
    assert not found.resident("cpu")


def test_pixels_in_several_parts(folder: Path) -> None:
    for start in (0, 30, 45):
        files = sorted(folder.iterdir())[: start + 1]
        found = Pictures(folder, HOW, cache_dir=folder.parent / "cache")
        found.look_at([path.name for path in files])
    found = Pictures(folder, HOW, cache_dir=folder.parent / "cache")
    found.look_at(sorted(path.name for path in folder.iterdir()))
    pixels = read(found.store(SHUFFLED), torch.arange(COUNT))
    assert np.array_equal(pixels, expected(folder, SHUFFLED))


def test_what_is_cached_is_not_decoded_again(folder: Path) -> None:
    store(folder, False)
    names = sorted(path.name for path in folder.iterdir())
    found = Pictures(folder, HOW, cache_dir=folder.parent / "cache", lazy=True)
    found.look_at(names)
    assert isinstance(found.store(SHUFFLED), CachedPictures)


def test_the_digest_is_of_contents_order_and_decoding(folder: Path, tmp_path: Path) -> None:
    digest = store(folder, False).digest()
    assert store(folder, True).digest() == digest
    other = tmp_path / "elsewhere" / "copy"
    other.mkdir(parents=True)
    for path in folder.iterdir():
        (other / f"x{path.name}").write_bytes(path.read_bytes())
    assert store(other, False).digest() == digest
    assert store(folder, False, torch.arange(COUNT)).digest() != digest
    assert store(folder, False, how=Decoding(16, "squash")).digest() != digest
    write(folder / "07.jpg", 999)
    assert store(folder, False).digest() != digest


def batches(seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return list(torch.randperm(COUNT, generator=rng).split(7))


def test_announced_batches_are_decoded_ahead_and_have_the_same_bits(folder: Path) -> None:
    found, whole = store(folder, True), torch.from_numpy(expected(folder, SHUFFLED))
    for seed in range(3):
        found.expect(iter(batches(seed)))
        for rows in batches(seed):
            assert torch.equal(read(found, rows), whole[rows])


def test_what_was_announced_and_what_is_read_may_differ(folder: Path) -> None:
    found, whole = store(folder, True), torch.from_numpy(expected(folder, SHUFFLED))
    told = batches(0)
    found.expect(told)
    other = torch.tensor([3, 3, 9])
    for rows in (other, told[0], other, told[3], told[1], told[2][:3], told[2]):
        assert torch.equal(read(found, rows), whole[rows])
    found.expect(batches(1))
    assert torch.equal(read(found, told[3]), whole[told[3]])
    assert torch.equal(read(found, batches(1)[0]), whole[batches(1)[0]])


def test_only_a_few_batches_are_decoded_ahead(folder: Path) -> None:
    found = store(folder, True)
    asked: list[int] = []

    def announced() -> Iterator[Tensor]:
        for number in range(10_000):
            asked.append(number)
            yield torch.full((4,), number % COUNT)

    found.expect(announced())
    for number in range(5):
        read(found, torch.full((4,), number))
    assert len(asked) < 20
    found.expect([])


def test_joined_stores_read_ahead_too(folder: Path) -> None:
    whole = torch.from_numpy(expected(folder, torch.arange(COUNT)))
    found = pictures(folder, True)[0]
    halves = [found.store(torch.arange(20)), found.store(torch.arange(20, COUNT))]
    joined = JoinedStore(halves)
    joined.expect(batches(0))
    for rows in batches(0):
        assert torch.equal(read(joined, rows), whole[rows])


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("what", ["gone", "damaged", "other", "pipe", "huge"])
def test_a_file_that_changes_meanwhile_is_named(folder: Path, ahead: bool, what: str) -> None:
    found = store(folder, True, torch.arange(COUNT))
    kept = (folder / "31.jpg").read_bytes()
    if what == "gone":
        (folder / "31.jpg").unlink()
    elif what == "damaged":
        (folder / "31.jpg").write_bytes(kept[:200])
    elif what == "pipe":
        (folder / "31.jpg").unlink()
        os.mkfifo(folder / "31.jpg")
    elif what == "huge":
        os.truncate(folder / "31.jpg", 2**36)
    else:
        write(folder / "31.jpg", 1000)
    told = list(torch.arange(COUNT).split(10))
    if ahead:
        found.expect(told)
    for rows in told[:3]:
        read(found, rows)
    with pytest.raises(ValueError, match=r"31\.jpg: it .*; restore it and run the same command"):
        read(found, told[3])
    (folder / "31.jpg").unlink(missing_ok=True)
    (folder / "31.jpg").write_bytes(kept)  # another time, but the same content
    whole = torch.from_numpy(expected(folder, torch.arange(COUNT)))
    assert torch.equal(read(found, told[3]), whole[told[3]])
    assert torch.equal(read(found, told[4]), whole[told[4]])


def test_one_store_leaves_no_work_behind(folder: Path) -> None:
    for number in range(6):
        write(folder / f"big{number}.png", number, (900, 900))
    before = threads()
    found = store(folder, True, torch.arange(COUNT + 6))
    found.expect(torch.arange(COUNT, COUNT + 6).split(1))
    del found
    start = time.monotonic()
    while threads() - before and time.monotonic() - start < 20:
        time.sleep(0.01)
    assert not threads() - before


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pictures")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_small_cache_moves_to_the_device(folder: Path) -> None:
    found = store(folder, False)
    assert found.resident("cuda")
    pixels = found.read(torch.arange(COUNT, device="cuda"), "cuda")
    assert isinstance(pixels, Tensor)
    assert np.array_equal(pixels.cpu(), expected(folder, SHUFFLED))
