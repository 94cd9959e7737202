"""GoEmotions: short texts with any of 28 emotions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dal.data.dataset import Dataset
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.stores import TextStore

_FOLDER = Path("multilabel_text") / "goemotions"
_FILES = ("train.tsv", "test.tsv", "labels.txt")
_DEV = "dev.tsv"


def goemotions(root: str, dev: bool = False, encoder: TextEncoder | None = None) -> Dataset:
    """Comments from Reddit: 43,410 training and 5,427 test texts, any of 28 emotions (multi-label).

    Texts hold profanity.

    Args:
        root: Folder that holds ``multilabel_text/goemotions`` with ``train.tsv``, ``test.tsv``,
            ``labels.txt`` (or that folder itself) and perhaps ``dev.tsv``; they are not downloaded.
        dev: Validate on the 5,426 texts of ``dev.tsv``, as who compares with published figures
            does. False leaves them out: in active learning they are thousands of labels that nobody
            paid for, and ``split.validation`` takes a part of another size from the training part.
        encoder: Makes inputs of the texts; None for what the model takes.

    Returns:
        Texts and int64 targets (N, 28) of 0 and 1, with the official test part, and with the
        official validation part where that is asked for.

    Raises:
        FileNotFoundError: If a file is missing; names it and the folder.
        ValueError: If a file is damaged.

    Reference:
        D. Demszky, D. Movshovitz-Attias, J. Ko, A. Cowen, G. Nemade, S. Ravi, "GoEmotions: a
        dataset of fine-grained emotions", ACL 2020.
    """
    folder = _find(Path(root), (*_FILES, *[_DEV] * dev))
    names = tuple(_lines(folder / "labels.txt"))
    texts, targets = _read(folder / "train.tsv", len(names))
    test_texts, test_targets = _read(folder / "test.tsv", len(names))
    validation_texts, validation_targets = _read(folder / _DEV, len(names)) if dev else (None, None)
    return Dataset(
        name="goemotions",
        inputs=TextStore(texts),
        targets=targets,
        class_names=names,
        test_inputs=TextStore(test_texts),
        test_targets=test_targets,
        validation_inputs=None if validation_texts is None else TextStore(validation_texts),
        validation_targets=validation_targets,
        encoder=encoder,
    )


def _find(root: Path, names: Sequence[str]) -> Path:
    """The folder with the files."""
    folder = root if all((root / name).is_file() for name in _FILES) else root / _FOLDER
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"GoEmotions lacks {', '.join(missing)} in {folder}; put them there by hand (the "
            "original train, test and label files of the data set), or set data_dir"
        )
    return folder


def _lines(path: Path) -> list[str]:
    try:
        # Comments hold separators that splitlines would take for line ends.
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is no text file ({error})") from error


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged: {reason}; replace it with an intact copy")


def _read(path: Path, num_labels: int) -> tuple[list[str], Tensor]:
    """Texts, and which labels each has, from lines of text, label numbers and comment id."""
    lines = _lines(path)
    texts: list[str] = []
    targets = torch.zeros(len(lines), num_labels, dtype=torch.int64)
    for number, line in enumerate(lines):
        columns = line.split("\t")
        labels = columns[1].split(",") if len(columns) == 3 else []
        if not labels or not all(x.isdecimal() and int(x) < num_labels for x in labels):
            raise _damaged(
                path,
                f"line {number + 1} must hold a text, label numbers 0 to {num_labels - 1} and a "
                "comment id, with tabs between them",
            )
        texts.append(columns[0])
        targets[number, [int(label) for label in labels]] = 1
    return texts, targets
