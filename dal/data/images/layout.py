"""What folders mean: parts of the data, classes, and pictures that nobody has labeled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dal.data.images.names import class_name

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNLABELED = -1
_WORDS: Mapping[str, int] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled", "pool", "active"), UNLABELED),
}


@dataclass(frozen=True)
class Catalog:
    """The pictures of a folder, and what is known of them before any is opened.

    Attributes:
        names: Paths as seen from the folder, sorted, those of all parts.
        parts: int8, (N,), the number of each one's part in `PARTS`.
        targets: int64, (N,) or (N, C), see `dal.data.dataset.Dataset.targets`.
        class_names: The C class names.
        odd: What people should know, in phrases.
        labels_from: The table that labels are from, as people see it; empty for the folders.
    """

    names: list[str]
    parts: npt.NDArray[np.int8]
    targets: Tensor
    class_names: tuple[str, ...]
    odd: list[str] = field(default_factory=list)
    labels_from: str = ""


@dataclass(frozen=True)
class Place:
    """What the folder of a picture says of it.

    Attributes:
        part: Its part; None where it is in none, beside the folders of the parts.
        label: Its class, or None.
        folder: The folder that is of this class, or of no part.
    """

    part: int | None
    label: str | None = None
    folder: str = ""


def word(name: str, classes: Collection[str] = ()) -> int | None:
    """The part that a folder, or a cell of a table, is named after; None for none.

    Args:
        name: Such as ``train``, ``Val`` or ``unlabeled``.
        classes: Names that are classes, whatever else they mean.

    Returns:
        `TRAIN`, `VALIDATION`, `TEST`, `UNLABELED` or None.
    """
    return None if class_name(name) in classes else _WORDS.get(name.strip().lower())


def place(folder: str, classes: Collection[str], has_train: bool) -> Place:
    """What a folder says of the pictures in it.

    Args:
        folder: As seen from the folder of the data; empty for this itself.
        classes: See `word`.
        has_train: There is a folder for the training part, so class folders beside it are none.
    """
    steps = folder.split("/") if folder else []
    part, depth = TRAIN, 0
    if steps and (found := word(steps[0], classes)) is not None:
        part, depth = found, 1
    elif steps and has_train:
        return Place(None, folder=steps[0])
    if part == UNLABELED:
        return Place(TRAIN)
    if len(steps) == depth or word(steps[depth], classes) == UNLABELED:
        return Place(part)
    return Place(part, class_name(steps[depth]), "/".join(steps[: depth + 1]))
