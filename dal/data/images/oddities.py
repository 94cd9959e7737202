"""What is odd about pictures, in phrases for one line of the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dal.data.class_names import ALIKE, alike
from dal.data.images.known import Samples
from dal.data.images.layout import TEST, TRAIN
from dal.data.images.names import counted, fact, some
from dal.data.source import is_known


def odd_classes(samples: Samples, class_names: Sequence[str]) -> list[str]:
    """Classes without pictures, only in parts that nothing learns from, or alike but for case."""
    odd = []
    everywhere, train = (_counts(part.targets, len(class_names)) for part in (
        samples, samples.of(TRAIN)))  # fmt: skip
    if everywhere.any():
        pairs = list(zip(class_names, everywhere, train, strict=True))
        if empty := [name for name, count, _ in pairs if not count]:
            odd.append(f"no picture yet of {some(empty, 10)}")
        if unseen := [name for name, count, learned in pairs if count and not learned]:
            odd.append(f"only test or validation pictures of {some(unseen, 10)}")
    if same := alike(class_names):
        odd.append(f"{ALIKE}: {some(same)}")
    return odd


def _counts(targets: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """How many samples have each label."""
    known = targets[is_known(targets)]
    if known.ndim == 2:
        return known.sum(0).numpy()
    return np.bincount(known.numpy(), minlength=classes)


def twins(samples: Samples) -> list[str]:
    """Files with the same content."""
    starts = np.ascontiguousarray(samples.digests[:, :8]).view(np.uint64)[:, 0]
    _, which, counts = np.unique(starts, return_inverse=True, return_counts=True)
    same: dict[bytes, list[int]] = defaultdict(list)
    for row in np.flatnonzero(counts[which] > 1).tolist():
        same[samples.digests[row].tobytes()].append(row)
    within: list[str] = []
    across: list[str] = []
    unlike: list[str] = []
    for rows in (rows for rows in same.values() if len(rows) > 1):
        parts = {int(samples.parts[row]) for row in rows}
        names = " = ".join(samples.names[row] for row in rows[:2])
        (across if {TRAIN, TEST} <= parts else within).append(names)
        targets = samples.targets[rows]
        known = targets[is_known(targets)]
        if len(known) and not (known == known[0]).all():
            unlike.append(names)
    found = (
        (within, "picture", "there more than once"),
        (across, "test picture", "in the training part as well"),
        (unlike, "picture", "with two different labels"),
    )
    return [fact(names, noun, words) for names, noun, words in found if names]


def odd_colors(gray: npt.NDArray[np.bool_], channels: int, asked: bool) -> list[str]:
    """Gray pictures among colored ones, or colors that are lost."""
    count = int(gray.sum())
    if channels == 3 and 0 < count < len(gray):
        return [f"{counted(count, 'gray picture')} among colored ones"]
    if channels == 1 and count < len(gray) and not asked:
        colored = counted(len(gray) - count, "colored picture")
        return [f"{colored} read as gray; data.channels=3 keeps colors"]
    return []
