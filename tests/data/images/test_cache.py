"""The cache of pictures: what it knows of files, and what becomes of it in bad times."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from waiting import Limit

from dal.data.images.cache import Pictures, Seen
from dal.data.images.decode import Decoding, decode
from dal.data.images.parts import seal
from dal.data.images.stores import CachedPictures, LazyPictures

HOW = Decoding(12)


def write(path: Path, seed: int, size: tuple[int, int] = (20, 14)) -> None:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    path.parent.mkdir(exist_ok=True, parents=True)
    small.resize(size, Image.Resampling.BICUBIC).save(path)


def age(*paths: Path) -> None:
    """Files written a moment ago are read again; these were written a minute ago."""
    for path in paths:
        os.utime(path, (time.time() - 60, time.time() - 60 - (hash(path.name) % 1000) / 1e6))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "photos", 9)


def make(root: Path, count: int) -> Path:
    for number in range(count):
        write(root / f"{number:03d}.png", number)
    age(*root.iterdir())
    return root


def names_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def opened(root: Path, how: Decoding = HOW, **options: Any) -> Pictures:
    return Pictures(root, how, cache_dir=root.parent / "cache", **{"workers": 1, **options})


def pixels(found: Pictures, positions: Sequence[int]) -> Tensor:
    read = found.store(torch.tensor(positions)).read(torch.arange(len(positions)))
    assert isinstance(read, Tensor)
    return read


def check(root: Path, found: Pictures, names: Sequence[str], how: Decoding = HOW) -> None:
    """All files are there and have the pixels that they should have."""
    wanted = [decode((root / name).read_bytes(), how) for name in names]
    assert np.array_equal(pixels(found, range(len(names))), np.stack(wanted))


def arrays(root: Path) -> dict[str, int]:
    """Files of pixels in the cache, with what tells one that was written again."""
    return {path.name: path.stat().st_ino for path in (root.parent / "cache").rglob("*.npy")}


def facts(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").rglob("*.npz"))


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root.parent / "cache").rglob(".*") if path.is_file()]


def test_what_is_seen_of_files(root: Path) -> None:
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(root / "gray.png")
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("no picture")
    (root / "folder.jpg").mkdir()
    (root / "nowhere.jpg").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe.jpg")
    (root / "huge.jpg").touch()
    os.truncate(root / "huge.jpg", 2**36)
    names = names_in(root)
    seen = opened(root).look_at(names)
    bad = {names[position]: why for position, why in seen.faults.items()}
    assert sorted(bad) == [
        "empty.jpg", "folder.jpg", "huge.jpg", "nowhere.jpg", "pipe.jpg", "text.jpg",
    ]  # fmt: skip
    assert bad["folder.jpg"] == bad["pipe.jpg"] == "it is no regular file"
    assert bad["huge.jpg"] == "it has more than 2 GB"
    assert bad["empty.jpg"] == "it is empty"
    assert "no picture" in bad["text.jpg"]
    assert "no such file" in bad["nowhere.jpg"]
    assert [names[n] for n in np.flatnonzero(seen.gray)] == ["gray.png"]
    for position, name in enumerate(names):
        assert seen.usable[position] == (name not in bad)
        content = b"" if name in bad else (root / name).read_bytes()
        wanted = bytes(32) if name in bad else hashlib.sha256(content).digest()
        assert seen.digests[position].tobytes() == wanted
    again = opened(root).look_at(names)
    assert again.faults == seen.faults
    assert np.array_equal(again.digests, seen.digests)
    assert np.array_equal(again.gray, seen.gray)
    found = opened(root)
    found.look_at(names)
    with pytest.raises(ValueError, match=r"empty\.jpg: it is empty"):
        found.store(torch.tensor([0, names.index("empty.jpg")]))


def test_files_that_are_as_they_were_are_not_opened(root: Path) -> None:
    names = names_in(root)
    before = opened(root).look_at(names)
    kept = arrays(root)
    for name in names:
        times = (root / name).stat()
        (root / name).write_bytes(bytes(times.st_size))
        os.utime(root / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = opened(root)
    seen = found.look_at(names)
    assert not seen.faults
    assert np.array_equal(seen.digests, before.digests)
    assert arrays(root) == kept


def test_a_touched_moved_or_copied_file_is_not_decoded_again(root: Path) -> None:
    opened(root).look_at(names_in(root))
    kept = arrays(root)
    age(root / "001.png")
    (root / "002.png").rename(root / "moved.png")
    shutil.copy(root / "003.png", root / "copy.png")
    found = opened(root)
    assert not found.look_at(names_in(root)).faults
    check(root, found, names_in(root))
    assert sum(1 for _ in arrays(root)) == 1
    assert {np.load(path, mmap_mode="r").shape[0] for path in root.parent.rglob("*.npy")} == {9}
    assert len(kept) == 1


def test_a_changed_file_is_decoded_again(root: Path) -> None:
    names = names_in(root)
    before = opened(root).look_at(names)
    write(root / "004.png", 100)
    found = opened(root)
    seen = found.look_at(names)
    changed = (seen.digests != before.digests).any(1)
    assert np.flatnonzero(changed).tolist() == [4]
    check(root, found, names)


def test_a_file_that_changed_a_moment_ago_is_looked_at_again(root: Path) -> None:
    name = "fresh.bmp"
    write(root / name, 1)
    stamp = (root / name).stat()
    first = opened(root).look_at([name])
    write(root / name, 2)
    assert (root / name).stat().st_size == stamp.st_size
    os.utime(root / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    found = opened(root)
    assert not np.array_equal(found.look_at([name]).digests, first.digests)
    check(root, found, [name])


def test_many_small_additions_leave_few_parts_and_disturb_nobody(root: Path) -> None:
    names = names_in(root)
    early = opened(root)
    early.look_at(names)
    store = early.store(torch.arange(len(names)))
    for number in range(12):
        write(root / f"new{number}.png", 50 + number)
        found = opened(root)
        found.look_at(names_in(root))
    check(root, found, names_in(root))
    assert len(facts(root)) <= 4
    check(root, early, names)
    wanted = np.stack([decode((root / name).read_bytes(), HOW) for name in names])
    assert np.array_equal(store.read(torch.arange(len(names))), wanted)


def test_several_processes_decode_the_same_and_draw_nothing(tmp_path: Path) -> None:
    root, how = make(tmp_path / "photos", 30), Decoding(200)  # 8 pictures a chunk
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = opened(root, how, workers=3)
    assert found.look_at(names_in(root)).usable.all()
    assert torch.equal(torch.get_rng_state(), before)
    check(root, found, names_in(root), how)


def small_parts(monkeypatch: pytest.MonkeyPatch, size: int = 1) -> None:
    """Each chunk is a part of its own."""
    monkeypatch.setattr("dal.data.images.examine.PART_BYTES", size)
    monkeypatch.setattr("dal.data.images.new_part.PART_BYTES", size)


def test_pictures_in_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    root, how = make(tmp_path / "photos", 30), Decoding(200)
    (root / "011.png").write_bytes(b"")
    names = names_in(root)
    found = opened(root, how)
    assert list(found.look_at(names).faults) == [11]
    assert len(arrays(root)) == 4
    good = [position for position in range(30) if position != 11]
    order = torch.tensor(good)[torch.randperm(29)]
    wanted = [decode((root / names[position]).read_bytes(), how) for position in order]
    assert np.array_equal(pixels(found, order.tolist()), np.stack(wanted))


KILLED = """
    import sys, dal.data.images.examine as examine
    from pathlib import Path
    from dal.data.images.cache import Pictures
    from dal.data.images.decode import Decoding
    examine.PART_BYTES = 1
    root = Path(sys.argv[1])
    names = sorted(path.name for path in root.iterdir())
    print("ready", flush=True)
    Pictures(root, Decoding(200), cache_dir=root.parent / "cache", workers=2).look_at(names)
    print("done", flush=True)
"""


def test_a_killed_process_loses_the_last_parts_at_most(tmp_path: Path) -> None:
    root, how = make(tmp_path / "photos", 160), Decoding(200)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(root)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    limit = Limit(60, lambda: facts(root))
    while len(facts(root)) < 3 and process.poll() is None:
        limit.check()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.stdout.read() == b""
    process.wait(60)
    process.stdout.close()
    done = {path.name for path in facts(root)}
    assert 3 <= len(done) < 20
    found = opened(root, how)
    found.look_at(names_in(root))
    check(root, found, names_in(root), how)
    assert not leftovers(root)


def together(*tasks: Callable[[], Seen]) -> list[Seen]:
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [one.result() for one in [pool.submit(task) for task in tasks]]


@pytest.mark.parametrize("locks", [True, False])
def test_two_that_make_the_same_cache_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(37, "No locks available")

    if not locks:
        monkeypatch.setattr(fcntl, "flock", refused)
    small_parts(monkeypatch)
    root, how = make(tmp_path / "photos", 60), Decoding(200)
    both = opened(root, how), opened(root, how)
    names = names_in(root)
    first, second = together(*(lambda one=one: one.look_at(names) for one in both))
    assert np.array_equal(first.digests, second.digests)
    for found in (*both, opened(root, how)):
        found.look_at(names)
        check(root, found, names, how)
    if locks:
        assert len(arrays(root)) == 8  # once, a chunk of 8 each


@pytest.mark.usefixtures("small_files_only")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_with_one_clear_error(tmp_path: Path, workers: int) -> None:
    root = make(tmp_path / "photos", 30)
    few = names_in(root)[:3]
    opened(root, Decoding(500)).look_at(few)
    with pytest.raises(OSError, match=r"cannot keep .* free space, or set data\.cache_dir"):
        opened(root, Decoding(500), workers=workers).look_at(names_in(root))  # 22 MB
    assert not leftovers(root)
    found = opened(root, Decoding(500))
    found.look_at(few)
    check(root, found, few, Decoding(500))


def test_a_cache_that_cannot_be_written_is_one_clear_error(root: Path) -> None:
    (root.parent / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"set data\.cache_dir to a folder"):
        opened(root).look_at(names_in(root))


def test_lazy_pictures_need_no_cache(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root.parent / "cache").write_text("a file")
    (root / "bad.png").write_bytes(b"")
    names = names_in(root)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = opened(root, lazy=True)
            for _ in range(2):
                assert [*found.look_at(names).faults] == [names.index("bad.png")]
        assert caplog.text.count("cannot be written to (") == 1
        good = [n for n, name in enumerate(names) if name != "bad.png"]
        wanted = [decode((root / names[n]).read_bytes(), HOW) for n in good]
        assert np.array_equal(pixels(found, good), np.stack(wanted))
    with pytest.raises(OSError, match=r"or data\.lazy=true"):
        opened(root).look_at(names)


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 255
    path.write_bytes(content)


def resaved(path: Path, **changed: Any) -> None:
    """Facts as another program would save them."""
    with np.load(path) as found:
        np.savez(path, **{**found, **{key: change(found[key]) for key, change in changed.items()}})


FOREIGN: dict[str, Callable[[Path], None]] = {
    "floats": lambda path: np.save(path.with_suffix(".npy"), np.zeros((9, 3, 12, 12))),
    "other shape": lambda path: np.save(
        path.with_suffix(".npy"), np.zeros((9, 3, 24, 6), np.uint8)
    ),
    "other order": lambda path: np.save(
        path.with_suffix(".npy"), np.zeros((12, 12, 3, 9), np.uint8).T
    ),
    "short digests": lambda path: resaved(path, digests=lambda old: old[:, :16]),
    "shifted": lambda path: resaved(path, rows=lambda old: np.roll(old, 1)),
    "reversed": lambda path: resaved(path, rows=lambda old: old[::-1]),
    "beyond": lambda path: resaved(path, rows=lambda old: old + 4096),
    "other contents": lambda path: resaved(path, contents=lambda old: old[::-1]),
    "other types": lambda path: resaved(path, sizes=lambda old: old.astype(float)),
    "a number": lambda path: resaved(path, rows=lambda old: np.array(3)),
    "pipe of facts": lambda path: (path.unlink(), os.mkfifo(path))[1],
    "pipe of pixels": lambda path: (
        path.with_suffix(".npy").unlink(), os.mkfifo(path.with_suffix(".npy")),
    )[1],
    "folder": lambda path: (path.unlink(), path.mkdir())[1],
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_what_others_wrote_into_a_cache_is_not_taken(
    root: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = names_in(root)
    opened(root).look_at(names)
    FOREIGN[what](facts(root)[0])
    with caplog.at_level(logging.WARNING):
        found = opened(root)
        found.look_at(names)
    assert caplog.text.count("decoded again") == 1
    check(root, found, names)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = opened(root)
        found.look_at(names)
    check(root, found, names)
    in_facts = what not in ("floats", "other shape", "other order", "pipe of pixels", "folder")
    assert not (in_facts and caplog.text)


def test_facts_of_a_wrong_kind_are_damaged_even_if_they_are_sealed(root: Path) -> None:
    names = names_in(root)
    opened(root).look_at(names)
    (path,) = facts(root)
    for wrong in (np.arange(9, dtype=np.int32), np.arange(9)[::-1], np.arange(-1, 8)):
        with np.load(path) as saved:
            columns = {name: saved[name] for name in saved.files if name != "seal"}
        columns["rows"] = wrong
        np.savez(path, **columns, seal=seal(columns))
        found = opened(root)
        found.look_at(names)
        check(root, found, names)
        (path,) = facts(root)


def test_other_files_in_a_cache_are_left_alone(root: Path) -> None:
    opened(root).look_at(names_in(root)[:5])
    np.savez(facts(root)[0].with_name("mine.npz"), rows=np.arange(3))
    found = opened(root)
    found.look_at(names_in(root))
    check(root, found, names_in(root))
    assert "mine.npz" in [path.name for path in facts(root)]


@pytest.mark.parametrize("what", ["pixels", "cut", "header", "facts", "no pixels", "other"])
def test_what_is_damaged_is_told_and_decoded_again(
    root: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = names_in(root)
    opened(root).look_at(names)
    (known,) = facts(root)
    array = known.with_suffix(".npy")
    if what == "pixels":
        flip(array, 0.7)
    elif what == "cut":
        array.write_bytes(array.read_bytes()[:-99])
    elif what == "header":
        flip(array, 0)
    elif what == "facts":
        flip(known, 0.5)
    elif what == "no pixels":
        array.unlink()
    else:
        known.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        found = opened(root)
        found.look_at(names)
    assert "decoded again" in caplog.text
    check(root, found, names)
    found = opened(root)
    found.look_at(names)
    check(root, found, names)


def test_a_copied_cache_is_as_good(root: Path) -> None:
    opened(root).look_at(names_in(root))
    for path in (*facts(root), *(path.with_suffix(".npy") for path in facts(root))):
        age(path)
    kept = arrays(root)
    found = opened(root)
    found.look_at(names_in(root))
    check(root, found, names_in(root))
    assert arrays(root) == kept


@pytest.mark.parametrize("lazy", [False, None])
def test_of_files_that_are_gone_the_expected_pixels_are_used(root: Path, lazy: Any) -> None:
    names = names_in(root)
    meant = opened(root).look_at(names).digests
    wanted = np.stack([decode((root / name).read_bytes(), HOW) for name in names])
    (root / "002.png").unlink()
    (root / "005.png").write_bytes((root / "005.png").read_bytes()[:40])
    found = opened(root, lazy=lazy)
    seen = found.look_at(names, meant)
    assert sorted(seen.faults) == [2, 5]
    assert seen.usable.all()
    assert np.array_equal(seen.digests, meant)
    assert np.array_equal(pixels(found, range(9)), wanted)
    plain = found.look_at(names)
    assert np.flatnonzero(~plain.usable).tolist() == [2, 5]
    assert np.array_equal(plain.digests[2], meant[2])  # as it was last readable
    assert not plain.digests[5].any()
    unknown = np.full((9, 32), 7, dtype=np.uint8)
    assert np.flatnonzero(~found.look_at(names, unknown).usable).tolist() == [2, 5]


def test_lazy_pictures_use_the_cache_for_what_is_gone(root: Path) -> None:
    names = names_in(root)
    meant = opened(root).look_at(names).digests
    kept = decode((root / "002.png").read_bytes(), HOW)
    (root / "002.png").unlink()
    write(root / "new.png", 77)
    found = opened(root, lazy=True)
    assert found.look_at([*names, "new.png"], np.vstack([meant, meant[:1] * 0])).usable.all()
    assert isinstance(found.store(torch.arange(10)), LazyPictures)
    assert np.array_equal(pixels(found, [9, 2])[1], kept)


def test_pixels_that_do_not_fit_are_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = type(shutil.disk_usage(root))
    size = 9 * 3 * 12 * 12
    names = names_in(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2 * size - 1))
    with caplog.at_level(logging.INFO):
        found = opened(root)
        assert found.look_at(names).usable.all()
    assert "data.lazy=false keeps them" in caplog.text
    assert isinstance(found.store(torch.arange(9)), LazyPictures)
    assert not arrays(root)
    check(root, found, names)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2 * size))
    found = opened(root)
    found.look_at(names)
    assert isinstance(found.store(torch.arange(9)), CachedPictures)


def test_lazy_pictures_are_verified_once(root: Path) -> None:
    (root / "cut.png").write_bytes((root / "001.png").read_bytes()[:90])
    age(root / "cut.png")
    names = names_in(root)
    for _ in range(2):
        found = opened(root, lazy=True)
        assert [names[position] for position in found.look_at(names).faults] == ["cut.png"]
        assert not arrays(root)
        assert len(facts(root)) == 1


def test_names_of_all_kinds(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    odd = ["a b.png", "q\"u'o.png", "li\nne.png", "é.png", "é.png", os.fsdecode(b"\xff\xfe.png")]
    names = [f"{folder}/{name}" for folder in ("x", "x\ny") for name in odd]
    for number, name in enumerate(names):
        write(root / name, number)
    for _ in range(2):
        found = opened(root)
        assert found.look_at(names).usable.all()
        check(root, found, names)


def test_another_decoder_than_the_one_that_is_meant_is_told(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    how = Decoding(12, version="an older one")
    with caplog.at_level(logging.WARNING):
        found = opened(root, how)
        found.look_at(names_in(root))
    assert "an older one" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        opened(root, how).look_at(names_in(root))
    assert not caplog.text
    check(root, found, names_in(root))


def test_a_process_that_is_killed_while_it_decodes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "photos", 30)
    parent = os.getpid()

    def dies(*_: Any) -> Any:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("dal.data.images.examine.decode_gray", dies)
    with pytest.raises(RuntimeError, match=r"a process that decodes .* data\.workers=1"):
        opened(root, Decoding(200), workers=2).look_at(names_in(root))
    assert not leftovers(root)


def test_no_files_at_all(root: Path) -> None:
    found = opened(root)
    seen = found.look_at([])
    assert len(seen.usable) == 0
    assert len(found.store(torch.zeros(0, dtype=torch.int64))) == 0
