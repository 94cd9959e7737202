"""What is asked: the samples of a query, kept in a file, and the answers that are possible."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dal.data.class_names import SEPARATOR
from dal.utils.safe_files import make_folder, saving, write_text_atomically

LONGEST_NAME = 40
"""Letters of a person's name, at most."""
LONGEST = 600.0
"""Seconds that one answer counts for, at most: nobody looks at one sample any longer."""

Given = Mapping[str, Any]
"""An answer: ``{"labels": [3]}``, ``{"none": true}`` or ``{"unsure": true}``."""


@dataclass(frozen=True)
class Question:
    """The samples of one query.

    Attributes:
        key: Its name, such as ``round_0003``.
        round: Its round; negative before the first.
        indices: Positions in the training part, most wanted first.
        again: Those of them that have been answered before and are asked once more.
        probs: The model's probabilities of each, (b, C); None where they are not shown.
    """

    key: str
    round: int
    indices: list[int]
    again: list[int] = field(default_factory=list)
    probs: list[list[float]] | None = None

    def id_of(self, index: int) -> str:
        """What the page calls a sample."""
        return f"{self.key}-{index}"

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each index stands in the question."""
        return {index: place for place, index in enumerate(self.indices)}

    def write(self, folder: Path) -> None:
        """Keep it in the folder.

        Raises:
            OSError: The disk is full or not writable.
        """
        make_folder(folder)
        path = folder / f"{self.key}.json"
        with saving(path):
            write_text_atomically(path, json.dumps(asdict(self)) + "\n", sync=True)

    @classmethod
    def read(cls, path: Path, samples: int, classes: int) -> Self | None:
        """What stands in a file; None where there is none, or it holds no question.

        Args:
            path: The file.
            samples: N, how many samples there are.
            classes: C.
        """
        try:
            found = cls(**json.loads(path.read_text())) if path.is_file() else None
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        whole = found is not None and found.key == path.stem and found._is_whole(samples, classes)
        return found if whole else None

    def _is_whole(self, samples: int, classes: int) -> bool:
        """Whether all is of its type and within its range."""
        whole = (
            type(self.round) is int
            and self.key == key_of(self.round)
            and _are_distinct(self.indices, range(samples))
            and _are_distinct(self.again, frozenset(self.indices))
        )
        if not whole or self.probs is None:
            return whole
        return (
            isinstance(self.probs, list)
            and len(self.probs) == len(self.indices)
            and all(isinstance(row, list) and len(row) == classes for row in self.probs)
            and all(type(p) in (int, float) and 0 <= p <= 1 for row in self.probs for p in row)
        )


def _are_distinct(numbers: Any, among: Container[int]) -> bool:
    return (
        isinstance(numbers, list)
        and all(type(number) is int and number in among for number in numbers)
        and len(set(numbers)) == len(numbers)
    )


def key_of(round_number: int) -> str:
    """The name of the question of a round."""
    return f"{'round' if round_number >= 0 else 'initial'}_{abs(round_number):04d}"


def checked_answer(answer: Any, classes: int, multilabel: bool) -> Given | None:
    """An answer as a page sent it; None for one that was taken back.

    Args:
        answer: See `Given`.
        classes: C.
        multilabel: A sample may have any number of the labels.

    Raises:
        ValueError: It is none, in words for the page.
    """
    if answer is None:
        return None
    given = answer if isinstance(answer, Mapping) and len(answer) == 1 else {}
    if given.get("none") is True or given.get("unsure") is True:
        return dict(given)
    labels = given.get("labels")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise ValueError("the answer has no list of labels, and says neither none nor unsure")
    if any(not 0 <= label < classes for label in labels):
        raise ValueError(f"a label is no class; the classes have the numbers 0 to {classes - 1}")
    if len(set(labels)) != len(labels) or (not multilabel and len(labels) != 1):
        raise ValueError("give each label once" if multilabel else "give one label")
    return {"labels": sorted(labels)}


def checked_name(name: Any) -> str:
    """A person's name without blanks around it.

    Raises:
        ValueError: It is none that a table of answers could hold, in words for the page.
    """
    if not isinstance(name, str) or not (name := unicodedata.normalize("NFC", name.strip())):
        raise ValueError("give a name, so that answers can be told apart")
    if len(name) > LONGEST_NAME or not name.isprintable() or SEPARATOR in name:
        raise ValueError(
            f"give a name of at most {LONGEST_NAME} letters, without {SEPARATOR!r}, line breaks "
            "and signs that cannot be seen, which joined emoji hold"
        )
    return name


def checked_nonce(nonce: Any) -> str:
    """What tells an answer that is sent again from another one.

    Raises:
        ValueError: It is none, in words for the page.
    """
    if not isinstance(nonce, str) or not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", nonce):
        raise ValueError("the answer has no nonce of 8 to 64 letters from A-Z, a-z, 0-9, _ and -")
    return nonce


def seconds_of(sent: Any) -> float:
    """The seconds that an answer took, in [0, `LONGEST`], whatever a page says they were."""
    known = isinstance(sent, int | float) and not isinstance(sent, bool) and sent > 0
    return round(float(min(sent, LONGEST)), 3) if known else 0.0


def named(answer: Given | None, class_names: Sequence[str]) -> dict[str, Any] | None:
    """An answer with class names in the place of numbers, as the log holds it."""
    if answer is None or "labels" not in answer:
        return None if answer is None else dict(answer)
    return {"labels": [class_names[label] for label in answer["labels"]]}


def numbered(answer: Any, class_names: Sequence[str], multilabel: bool) -> Given | None:
    """The answer that `named` wrote, checked as one that a page sends.

    Raises:
        ValueError: It is none, or a label is no class.
    """
    labels = answer.get("labels") if isinstance(answer, Mapping) else None
    if isinstance(labels, list):
        unknown = [name for name in labels if name not in class_names]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a class")
        answer = {**answer, "labels": [class_names.index(name) for name in labels]}
    return checked_answer(answer, len(class_names), multilabel)
