"""Pictures of one's own: a folder of files, some of them labeled."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from dal.data.dataset import Dataset
from dal.data.images.cache import Pictures
from dal.data.images.catalog import catalog
from dal.data.images.damage import tell_damaged
from dal.data.images.decode import Decoding, Look, UnreadableError, look
from dal.data.images.examine import open_file
from dal.data.images.known import (
    Samples,
    asked_about,
    found_now,
    grown,
    joined,
    listing_of,
    newcomers,
    recorded,
)
from dal.data.images.layout import PARTS, TRAIN, Catalog
from dal.data.images.names import counted, shown, some
from dal.data.images.oddities import odd_classes, odd_colors, twins
from dal.data.joined import ChangedStore, JoinedStore
from dal.data.prepare import check_normalization
from dal.data.source import is_known
from dal.data.store import Store
from dal.utils.kept import cache_folder
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole

log = logging.getLogger(__name__)

SAMPLED = 256
"""Files whose headers decide a size and a number of channels that are left open."""
LARGEST = 256
"""Pixels of a side up to which pictures of one size keep it."""
USUAL = 224
"""Pixels of a side otherwise."""
HEADER = 2**18
"""Bytes that hold most files' headers."""
REST = 2**28
"""Bytes behind these in which a header is looked for: some formats have it at the end."""
MOMENTS = {1: ((0.449,), (0.226,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and deviation by number of channels: ImageNet's, and for gray pictures the means of them."""

Fit = Literal["crop", "squash"]
OnDamage = Literal["skip", "fail"]


def image_folder(
    path: str,
    name: str | None = None,
    size: int | None = None,
    fit: Fit = "crop",
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    metadata: str | None = None,
    target: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    on_damage: OnDamage = "skip",
    lazy: bool | None = None,
    workers: int | None = None,
    cache_dir: str | None = None,
    known: Mapping[str, Any] | None = None,
) -> Dataset:
    """Pictures in a folder: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000, AVIF.

    Labels come from folders, or from a table:

    - ``<class>/...``: the first folder names the class, the pictures in it lie at any depth. An
      empty folder is a class without a picture yet.
    - ``train/<class>/...``, and ``validation/<class>/...`` or ``test/<class>/...`` where there are
      such parts (also ``training``; ``valid``, ``val``, ``dev``; ``testing``; in any case of
      letters). A validation or test picture without a label is left out.
    - Pictures in ``unlabeled/`` (or ``pool/``, ``active/``), at the top or in ``train/``, and those
      beside the folders of the classes have no label yet.
    - A table (CSV, JSON Lines, Parquet) with a column ``file_name``: the only such one at the top,
      one in each folder of a part, ``train.csv`` and ``test.csv`` at the top, or ``metadata``.
      Paths are as seen from the table, or from the folder. The labels are in the column
      ``label``, or the only other one, or those that ``target`` names: a class in each cell,
      several with ``;`` between them, or a column of 0 and 1 for each label. A column ``split`` may
      name the part of each row; else the folder does. A picture without a row, and one with an
      empty cell, has no label yet. With a table, folders name no classes.
    - Pictures alone: ``class_names`` says what they may be.

    A folder that ``class_names`` names is a class even if it is called ``test`` or ``pool``. Hidden
    files, and those that systems make, are not looked at; links to folders are followed, each
    folder being read once. Samples are sorted by path. Names of classes are in Unicode's composed
    form (NFC), and those of files as they are on the disk.

    What was found is logged in one line, and what is odd about it in another. Each file is looked
    at once, see `dal.data.images.cache.Pictures`: it becomes uint8 pixels of one size, which are
    kept in the cache. What cannot be read is set aside, and named with reasons in
    ``damaged.csv`` beside the pixels.

    Args:
        path: The folder.
        name: Short name, for records; None for that of the folder.
        size: Height and width in pixels; None for their own where the short sides of all (of 256
            looked at) have the same length of at most 256, else 224.
        fit: ``crop`` scales the short side and keeps the middle; ``squash`` scales both sides.
        channels: 3 for colors, 1 for gray; None for 1 where all (of 256 looked at) are gray.
        mean: Subtracted, in units of [0, 1], one number a channel; None for ImageNet's, and 0.449
            for gray pictures.
        std: Divided by, likewise; 0.226 for gray pictures.
        metadata: The table of labels, as seen from here or from the folder; None for one that lies
            in the folder, if any does.
        target: Its column of labels, or several of 0 and 1; None for ``label``, or the only one.
        class_names: Names of the classes, in the order of the columns of outputs; None for those
            that are found, sorted.
        on_damage: ``skip`` sets aside what cannot be read; ``fail`` refuses it.
        lazy: Read files as they are needed, instead of keeping pixels of all of them; None where
            these would take more than half of the free disk.
        workers: Processes that read files; None for one a core.
        cache_dir: Pixels are kept in ``images/`` below it; None for ``$DAL_CACHE_DIR``, else
            ``~/.cache/dal``.
        known: The `Dataset.listing` of an earlier start of the same run: its samples keep their
            order and their labels, whatever has become of their files, and files that came since
            stand behind them. A file that was moved is recognized by its content; one that is gone
            or damaged is had from the cache; one with other content is that now. New test and
            validation pictures are left out.

    Returns:
        uint8 pictures (N, channels, size, size) in a store that reads them from files.

    Raises:
        FileNotFoundError: There is no such folder or table.
        NotADirectoryError: The path is a file.
        OSError: A folder cannot be read, or the cache not written.
        ValueError: There are no pictures, fewer than two classes, no names of classes, a table that
            contradicts itself, a damaged file where ``on_damage`` is ``fail``, or a setting that is
            out of range.
    """
    _check_settings(size, fit, channels, on_damage)
    root = Path(path).expanduser()
    title = name or shown(root.resolve().name) or "pictures"
    found = catalog(root, _table(root, metadata), target, class_names)
    if known is None:
        _check_classes(found, title)
        classes, looks = found.class_names, _looked_at(root, found.names)
        how = _decoding(looks, size, fit, channels)
    else:
        classes, looks = tuple(known["class_names"]), []
        how = Decoding(**known["decoding"])
    mean, std = _moments(how.channels, mean, std)
    pictures = Pictures(
        root, how, cache_dir=cache_dir or cache_folder(), lazy=lazy, workers=workers
    )
    samples, odd = _samples(pictures, found_now(found, classes), known, on_damage, title)
    log.info("%s", _found(title, samples, found, looks))
    odd = [*found.odd, *odd, *odd_classes(samples, classes), *twins(samples)]
    odd += odd_colors(samples.gray, how.channels, channels is not None)
    if odd:
        log.warning("%s: %s", title, "; ".join(odd))
    parts = {part: samples.of(number) for number, part in enumerate(PARTS)}
    stores, begun = _stores(pictures, parts, None if known is None else known["begun"])
    targets = {part: parts[part].targets for part in stores}
    ways = {"size": how.size, "fit": how.fit, "channels": how.channels, "version": how.version}
    return Dataset(
        title,
        stores["train"],
        targets["train"],
        classes,
        test_inputs=stores.get("test"),
        test_targets=targets.get("test"),
        validation_inputs=stores.get("validation"),
        validation_targets=targets.get("validation"),
        mean=tuple(mean),
        std=tuple(std),
        contents=[shown(n) for part in ("train", "test", "validation") for n in parts[part].names],
        appended=len(parts["train"]) - begun["train"]["count"],
        listing={
            **listing_of(parts), "class_names": list(classes), "decoding": ways, "begun": begun,
        },
        recipe={"kind": "images", **ways},
    )  # fmt: skip


def _check_settings(size: int | None, fit: str, channels: int | None, on_damage: str) -> None:
    if size is not None:
        check_whole("data.size", size, 1, ", or null for what fits the pictures")
        check_memory(12 * size**2, f"data.size={size}, for one picture")
    for setting, value, choices in (
        ("fit", fit, get_args(Fit)),
        ("channels", channels, (1, 3, None)),
        ("on_damage", on_damage, get_args(OnDamage)),
    ):
        if value not in choices:
            written = ["null" if choice is None else str(choice) for choice in choices]
            raise ValueError(f"data.{setting}={value} is unknown; use {' or '.join(written)}")


def _check_classes(found: Catalog, title: str) -> None:
    """Refuse what nothing can be learned from.

    Raises:
        ValueError: With what to do.
    """
    pictures, classes = counted(len(found.names), "picture"), found.class_names
    aside = f" ({'; '.join(found.odd)})" if found.odd else ""
    if not found.names:
        raise ValueError(
            f"{title}: there is no picture to be used (names end like .jpg or .png){aside}; "
            "set data.path to the folder that they lie in"
        )
    if not classes:
        raise ValueError(
            f"{title}: {pictures}, and nothing says what they may be{aside}; name the classes, "
            "such as data.class_names=[cat,dog], or make a folder for each of them in it, empty "
            "ones too"
        )
    if len(classes) == 1:
        raise ValueError(
            f"{title}: one class only ({classes[0]}), and there is nothing to tell it from{aside}; "
            "make a folder for each class, empty ones too, set data.path to the folder in which "
            "they lie, or name all by data.class_names (folders called train, validation, test, "
            "pool and the like are classes only then)"
        )


def _table(root: Path, metadata: str | None) -> Path | None:
    if metadata is None:
        return None
    here, inside = Path(metadata).expanduser(), root / metadata
    return inside if inside.exists() and not here.is_file() else here


def _looked_at(root: Path, names: Sequence[str]) -> list[Look]:
    """The headers of some files, spread evenly; those that cannot be read are left out."""
    found = []
    for row in np.unique(np.linspace(0, len(names) - 1, min(len(names), SAMPLED)).astype(int)):
        with suppress(OSError, UnreadableError, MemoryError):  # told of when all are looked at
            found.append(_header(f"{root}/{names[row]}"))
    return found


def _header(path: str) -> Look:
    with open_file(path) as file:
        start = file.read(HEADER)
        try:
            return look(start)
        except UnreadableError:
            return look(start + file.read(REST))


def _decoding(looks: Sequence[Look], size: int | None, fit: Fit, channels: int | None) -> Decoding:
    """Size and channels, where they are left open, as the pictures have them."""
    short = {min(each.width, each.height) for each in looks}
    if size is None:
        size = short.pop() if len(short) == 1 and max(short) <= LARGEST else USUAL
    gray = bool(looks) and all(each.gray for each in looks)
    return Decoding(size, fit, 1 if channels == 1 or (channels is None and gray) else 3)


def _moments(
    channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    check_normalization(channels, mean, std, None)
    usual_mean, usual_std = MOMENTS[channels]
    return mean or usual_mean, std or usual_std


def _samples(
    pictures: Pictures,
    now: Samples,
    known: Mapping[str, Any] | None,
    on_damage: OnDamage,
    title: str,
) -> tuple[Samples, list[str]]:
    """Look at all files; gives those that are samples, and what is odd about the others."""
    before = now.at(np.arange(0)) if known is None else recorded(known)
    names, _ = asked_about(before, now)
    new = np.zeros((len(names) - len(before), 32), np.uint8)
    seen = pictures.look_at(names, np.concatenate([before.digests, new]))
    faults = {names[row]: seen.faults[row] for row in sorted(seen.faults)}
    odd = tell_damaged(pictures.folder, faults, {*now.names}, {*before.names}, on_damage == "fail")
    before, fresh, changes = grown(before, now, seen)
    if known is not None:
        fresh, left = newcomers(fresh)
        changes += left
    samples = joined(before, fresh)
    if not (samples.parts == TRAIN).any():
        why = [f"{shown(name)}: {fault}" for name, fault in faults.items()][:1]
        raise ValueError(
            f"{title}: no picture to train on is left of {len(now):,} "
            f"({''.join(why) or 'all lie in other parts'}); add some"
        )
    return samples, odd + changes


def _stores(
    pictures: Pictures, parts: Mapping[str, Samples], known: Mapping[str, Any] | None
) -> tuple[dict[str, Store], dict[str, Any]]:
    """Where the pictures of each part are; those that came late as a store of their own.

    Returns:
        The stores of parts that have samples; and for each of these how many it had when the run
        began, and the digest of them.
    """
    stores, begun = dict[str, Store](), dict[str, Any]()
    for name, part in parts.items():
        if not len(part):
            continue
        rows = torch.from_numpy(part.positions)
        count = len(part) if known is None else known[name]["count"]
        first: Store = pictures.store(rows[:count])
        now = first.digest()
        begun[name] = {"count": count, "digest": now} if known is None else known[name]
        if now != begun[name]["digest"]:
            first = ChangedStore(first, begun[name]["digest"])
        late = [pictures.store(rows[count:])] if count < len(part) else []
        stores[name] = JoinedStore([first, *late]) if late else first
    return stores, begun


def _found(title: str, samples: Samples, found: Catalog, looks: Sequence[Look]) -> str:
    """What was found, in a line."""
    known = is_known(samples.targets).numpy()
    counts = [int((known & (samples.parts == number)).sum()) for number in range(len(PARTS))]
    parts = [f"{part} {n:,}" for part, n in zip(PARTS, counts, strict=True) if n]
    line = f"{title}: {counted(len(samples), 'picture')} in {len(found.class_names)} classes"
    line += f" ({', '.join(parts)})" if parts else f" ({some(found.class_names, 5)})"
    if unlabeled := int((~known).sum()):
        line += f", {unlabeled:,} unlabeled"
    if found.labels_from:
        line += f", labels from {found.labels_from}"
    if looks:
        line += f"; {_sizes(looks)}"
    return line


def _sizes(looks: Sequence[Look]) -> str:
    """Width and height of pictures: of most of them, or from the smallest to the largest."""
    counts = Counter((each.width, each.height) for each in looks)
    (width, height), most = counts.most_common(1)[0]
    if 2 * most > len(looks):
        return f"{width}x{height}{' mostly' * (most < len(looks))}"
    by_area = sorted(counts, key=lambda side: side[0] * side[1])
    return " to ".join(f"{width}x{height}" for width, height in (by_area[0], by_area[-1]))
