"""A pool of 200,000 picture files: looked at, decoded, passed over, started again, read lazily.

    python -m benchmarks.large_data --folder /tmp/large_data

makes the files in a folder, unless they are there, and lets processes of their own do the work,
in turns where things are compared. The bare loops do with Pillow and torch what a user would write
first. `cpu` is the processor time of all processes, which other work on the machine touches less.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.heading import hardware
from dal.data import make_source
from dal.data.images.cache import Pictures
from dal.data.images.decode import Decoding
from dal.data.images.folder import image_folder
from dal.data.prepare import Prepare
from dal.data.source import Split
from dal.data.store import ArrayStore, Store
from dal.inference.pool_pass import auto_batch_size, pool_pass
from dal.models import LogisticRegression, ResNet18
from dal.query import Margin
from dal.query.needs import Scores
from dal.task import Multiclass

SMALL, PHOTO = (64, 64), (1600, 1200)
CLASSES, KINDS = 10, 500
WORKERS = len(os.sched_getaffinity(0))
HOW = Decoding(64)
PHOTO_HOW = Decoding(224)


def make(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEG files of smooth random colors, in folders of classes; no two have the same content."""
    if folder.exists():
        return
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(min(KINDS, count)):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        kinds.append(buffer.getvalue())
    unfinished = folder.with_suffix(".making")
    shutil.rmtree(unfinished, ignore_errors=True)
    for number in range(CLASSES):
        (unfinished / f"class_{number}").mkdir(parents=True)
    for number in range(count):
        content = kinds[number % len(kinds)]
        comment = b"\xff\xfe\x00\x0a" + number.to_bytes(8)  # a segment of 8 bytes, as JPEG has them
        name = f"class_{number % CLASSES}/{number:07d}.jpg"
        (unfinished / name).write_bytes(content[:2] + comment + content[2:])
    unfinished.rename(folder)


def names_in(folder: Path) -> list[str]:
    """The files, as `Pictures` takes them."""
    return sorted(f"{one.parent.name}/{one.name}" for one in folder.glob("*/*.jpg"))


def bare(paths: list[str]) -> int:
    """The loop that one process goes through."""
    total = 0
    for path in paths:
        with Image.open(path) as image:
            total += len(np.asarray(image.convert("RGB")))
    return total


def bare_kept(paths: list[str]) -> int:
    """The same, with the pixels written into a file."""
    room = Path(paths[0]).parents[2] / f"bare_{os.getpid()}"
    with room.open("wb") as file:
        for path in paths:
            with Image.open(path) as image:
                file.write(np.asarray(image.convert("RGB")).data)
    room.unlink()
    return len(paths)


def scan_bare(folder: Path, keep: bool = False) -> dict[str, float]:
    """Every file opened and decoded."""
    paths = [f"{folder}/{name}" for name in names_in(folder)]
    shares = [paths[number::WORKERS] for number in range(WORKERS)]
    with clock() as found, multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(bare_kept if keep else bare, shares, chunksize=1)
        pool.close()
        pool.join()
    return found


def scan(folder: Path) -> dict[str, float]:
    """The same by dal, into an empty cache."""
    names = names_in(folder)
    shutil.rmtree(cache_of(folder), ignore_errors=True)
    with clock() as found:
        seen = opened(folder).look_at(names)
    assert seen.usable.all()
    return found


def scan_memory(folder: Path) -> dict[str, float]:
    """Memory of the same; watching it takes time."""
    with own_memory() as found:
        scan(folder)
    return found


def second(folder: Path) -> dict[str, float]:
    """From the data function to the first batch, all files being known."""
    with own_memory() as found, clock() as times:
        source = make_source(image_folder(str(folder), cache_dir=str(cache_of(folder))), seed=0)
        source.train.take(torch.arange(min(256, len(source.train))))
    return found | times


def opened(folder: Path) -> Pictures:
    """With its cache beside it."""
    return Pictures(folder, HOW, cache_dir=cache_of(folder), workers=WORKERS)


def cache_of(folder: Path) -> Path:
    """Where the pixels are."""
    return folder.with_suffix(".cache")


def passed(folder: Path, model: str, memory: bool) -> dict[str, float]:
    """Margin of all files, from the cache or from memory; of some, by a large network."""
    pictures, names = opened(folder), names_in(folder)
    if model == "resnet18":
        names = names[:: max(len(names) // 1000, 1)]
    pictures.look_at(names)
    store = pictures.store(torch.arange(len(names)))
    if memory:
        store = ArrayStore(store.read(torch.arange(len(names))))
    network = network_of(model, HOW)
    with clock() as found:
        score(network, store, Prepare())
    return found


def score(network: nn.Module, store: Store, prepare: Prepare) -> None:
    """One pass."""
    split = Split.of(store, torch.zeros(len(store), dtype=torch.int64), prepare)
    results, _ = pool_pass(
        network,
        split.take,
        torch.arange(len(split)),
        frozenset({Scores(Margin())}),
        Multiclass(CLASSES),
        device=torch.device("cpu"),
        batch_size=auto_batch_size(int(np.prod(store.spec)), torch.device("cpu")),
        expect=split.expect,
    )
    assert results


def photos(folder: Path, model: str) -> dict[str, float]:
    """A lazy pass over photos."""
    names = names_in(folder)
    pictures = Pictures(folder, PHOTO_HOW, cache_dir=cache_of(folder), workers=WORKERS, lazy=True)
    pictures.look_at(names)
    store = pictures.store(torch.arange(len(names)))
    network = network_of(model, PHOTO_HOW)
    with clock() as found:
        score(network, store, Prepare())
    return found


def network_of(model: str, how: Decoding) -> nn.Module:
    """A network that takes next to nothing, or one that is usual."""
    make: Callable[..., nn.Module] = LogisticRegression
    if model == "resnet18":
        make = partial(ResNet18, stem="imagenet")
    return make((3, how.size, how.size), CLASSES)


class Files(Dataset[torch.Tensor]):
    """What a user would write."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.paths[number]) as image:
            image.draft("RGB", (448, 448))
            width, height = image.size
            short = min(width, height)
            left, top = (width - short) / 2, (height - short) / 2
            box = (left, top, left + short, top + short)
            small = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR, box)
        return torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy())


def photos_bare(folder: Path, model: str) -> dict[str, float]:
    """The same pass by a loop over a DataLoader."""
    loader = DataLoader(
        Files([f"{folder}/{name}" for name in names_in(folder)]), batch_size=32, num_workers=WORKERS
    )
    network = network_of(model, PHOTO_HOW).eval()
    with clock() as found, torch.inference_mode():
        for batch in loader:
            network(batch.float() / 255)
    return found


@contextmanager
def clock() -> Iterator[dict[str, float]]:
    """Seconds of a block, and processor time of all processes."""
    found: dict[str, float] = {}
    begun, start = os.times(), time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - start
    found["cpu"] = sum(os.times()[:4]) - sum(begun[:4])


@contextmanager
def own_memory() -> Iterator[dict[str, float]]:
    """Peak of the memory that is this process's and its children's own, in GB, beyond that before.

    Pages of mapped files do not count, and shared pages count once.
    """
    before, highest, end = _own(), [0], threading.Event()

    def watch() -> None:
        while not end.wait(0.05):
            highest[0] = max(highest[0], _own())

    thread = threading.Thread(target=watch)
    thread.start()
    found: dict[str, float] = {}
    try:
        yield found
    finally:
        end.set()
        thread.join()
        found["memory, GB"] = (max(highest[0], before) - before) / 1e9


def _own() -> int:
    pid, total = os.getpid(), 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (str(pid), *children):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended just now
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss_Anon"))
    return total


COMPARED: Mapping[str, Mapping[str, Callable[[Path], dict[str, float]]]] = {
    "scan": {
        "bare": scan_bare,
        "bare, pixels kept": partial(scan_bare, keep=True),
        "dal": scan,
    },
    "memory of the scan": {"dal": scan_memory},
    "second start": {"dal": second},
    "pass, linear": {
        "memory": partial(passed, model="linear", memory=True),
        "cache": partial(passed, model="linear", memory=False),
    },
    "pass, resnet18, 1,000": {
        "memory": partial(passed, model="resnet18", memory=True),
        "cache": partial(passed, model="resnet18", memory=False),
    },
    "photos, linear": {
        "bare": partial(photos_bare, model="linear"),
        "dal": partial(photos, model="linear"),
    },
    "photos, resnet18": {
        "bare": partial(photos_bare, model="resnet18"),
        "dal": partial(photos, model="resnet18"),
    },
}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--what", choices=COMPARED, nargs="*", default=list(COMPARED))
    parser.add_argument("--measure", nargs=2, help="do it, in this process")
    given = parser.parse_args()
    folders = {kind: given.folder / kind for kind in ("small", "photos")}
    if given.measure:
        what, side = given.measure
        folder = folders["photos" if what.startswith("photos") else "small"]
        print(json.dumps(COMPARED[what][side](folder)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    make(folders["small"], given.count, SMALL)
    make(folders["photos"], given.photos, PHOTO)
    print(f"{hardware(torch.device('cpu'))}; torch {torch.__version__}; {given.count:,} files")
    for what in given.what:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in COMPARED[what]}
        load = os.getloadavg()[0]
        for _ in range(given.repeat):
            for side, results in found.items():
                own = ["--folder", str(given.folder), "--measure", what, side]
                command = [sys.executable, "-m", "benchmarks.large_data", *own]
                lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                results.append(json.loads(lines.splitlines()[-1]))
        print(f"{what} (load {load:.1f} to {os.getloadavg()[0]:.1f})")
        for side, results in found.items():
            print(f"  {side}: " + "; ".join(_spread(name, results) for name in results[0]))


def _spread(name: str, results: list[dict[str, float]]) -> str:
    values = [one[name] for one in results]
    return f"{name} {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
