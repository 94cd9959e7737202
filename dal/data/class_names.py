"""How answers are written by name, and which names of classes can be told from them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from dal.pool import REJECTED

ABSTAINED = "?"
"""How people write that no label can be given."""
NO_LABEL = "-"
"""How people write that none of the labels holds, or that a sample is of none of the classes."""
SEPARATOR = ";"
"""Stands between the names of a sample's labels."""

ALIKE = "classes that differ in upper and lower case or blanks only"


def target_name(target: int | list[int], names: Sequence[str]) -> str:
    """A target as people read and write it.

    Args:
        target: A class number, `REJECTED` for none of the classes; or C numbers, 1 where a label
            holds and 0 where not; otherwise negative where nobody could tell.
        names: The C class names.

    Returns:
        The name of the class; the names of the labels with ``;`` between them; ``-`` for none of
        them; ``?`` where nobody could tell.
    """
    if isinstance(target, int):
        return names[target] if target >= 0 else NO_LABEL if target == REJECTED else ABSTAINED
    if min(target) < 0:
        return ABSTAINED
    held = [name for name, holds in zip(names, target, strict=True) if holds]
    return SEPARATOR.join(held) or NO_LABEL


def names_written(text: str, class_names: Sequence[str], several: bool) -> list[str] | None:
    """The names of classes that a person wrote, which need not be any of those there are.

    Args:
        text: What was written, without blanks around it.
        class_names: A name that is one of these is meant as that one.
        several: A sample may have several of them, written with ``;`` between them.

    Returns:
        None for ``?``; an empty list for ``-``, none of the classes.
    """
    if text == ABSTAINED:
        return None
    if text == NO_LABEL and text not in class_names:
        return []
    if not several:
        return [text]
    return [name.strip() for name in text.strip(SEPARATOR).split(SEPARATOR)]


def check_class_names(names: Sequence[str], multilabel: bool, where: str) -> None:
    """Refuse names that an answer, or a file of answers, would not give back.

    Args:
        names: The class names.
        multilabel: A sample may have any number of the labels.
        where: What they belong to, for the error.

    Raises:
        ValueError: Naming the first such name and what is wrong with it.
    """
    found: set[str] = set()
    for number, name in enumerate(names):
        if fault := _fault(name, multilabel):
            raise ValueError(
                f"{where}: class {number} is named {name!r}, but {fault}; choose another name"
            )
        if name in found:
            raise ValueError(f"{where}: two classes are named {name!r}; choose another name")
        found.add(name)


def alike(names: Sequence[str]) -> list[str]:
    """Names that may be meant as one, such as ``Cat and cat``: they differ in case or blanks only.

    Args:
        names: The class names.

    Returns:
        Those of each kind, in their order, with `ALIKE` to say of them.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault("".join(name.casefold().split()), []).append(name)
    return [" and ".join(same) for same in found.values() if len(same) > 1]


def _fault(name: str, multilabel: bool) -> str:
    """What is wrong with a name, or an empty string."""
    if not name.strip():
        return "an empty label is one that nobody has given yet"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        return "line breaks and tabs do not stay within one cell of a table"
    if name != name.strip():
        return "blanks around a label are not seen, and taken away where people write it"
    if name == ABSTAINED:
        return f"{ABSTAINED!r} is written where no label can be given"
    if SEPARATOR in name:
        return f"{SEPARATOR!r} stands between several labels of a sample"
    if multilabel and name == NO_LABEL:
        return f"{NO_LABEL!r} is written where none of the labels holds"
    return ""
