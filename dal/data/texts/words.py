"""The words of a text."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SIGNS = "!?\u2600-\u27bf\U0001f300-\U0001faff"
WORDS = rf"[{_SIGNS}{_ALONE}]|[^\W{_ALONE}]+"
"""Letters and digits in a row; marks of emotion ("!", "?", emoji) and the characters of languages
that write no blanks between words (Chinese, Japanese) one by one."""

_words = re.compile(WORDS).findall


def words_of(text: str) -> list[str]:
    """The words of a text in their order, in lower case."""
    found: list[str] = _words(text.lower())
    return found


def checked_words(words: object, what: str) -> list[str]:
    """A list of different words from a file that may be anybody's.

    Raises:
        TypeError: It is something else.
        ValueError: A word stands there twice.
    """
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{what} is no list of words")
    if len(set(words)) != len(words):
        raise ValueError(f"{what} holds a word twice")
    return words


def checked_counts(counts: object, length: int, most: object, what: str) -> Tensor:
    """Whole numbers from 0 to ``most`` from a file that may be anybody's: int32, (length,).

    Raises:
        TypeError, ValueError: They are something else.
    """
    if not isinstance(counts, Tensor) or counts.dtype != torch.int32 or not isinstance(most, int):
        raise TypeError(f"{what} holds no whole numbers")
    if counts.shape != (length,) or (length and not 0 <= int(counts.min()) <= int(counts.max())):
        raise ValueError(f"{what} has shape {tuple(counts.shape)} for {length} words")
    if length and int(counts.max()) > most:
        raise ValueError(f"{what} counts {int(counts.max())} of {most} texts")
    return counts


def most_frequent(counts: Iterable[tuple[str, int]], least: int, most: int | None) -> list[str]:
    """The words that count, those in most texts first, equally frequent ones by their letters.

    Args:
        counts: In how many texts each word stands.
        least: A word counts from so many texts on.
        most: So many words count, at most; None for any number.
    """
    kept = sorted((-count, word) for word, count in counts if count >= least)
    return [word for _, word in kept[:most]]
