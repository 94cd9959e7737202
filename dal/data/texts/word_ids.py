"""Texts as the numbers of their words in their order: what networks of texts take."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from dal.data.texts.encoder import TextEncoder
from dal.data.texts.stores import MOST_PLACES, RaggedStore
from dal.data.texts.words import checked_words, most_frequent, words_of
from dal.utils.ranges import check_whole

log = logging.getLogger(__name__)

PADDING, UNKNOWN_WORD, FIRST = 0, 1, 2
"""The numbers that mean no word of their own, and the first that does."""


class WordIds(TextEncoder):
    """The numbers of a text's words: what networks of texts take.

    Inputs are ``tokens``, int64, (B, L), 0 beyond the words that a text has and 1 for words that
    were not learned; and ``mask``, bool, (B, L), true where there is a word. Every text has at
    least one: one without any is one word that was not learned. Words that more texts have have
    lower numbers. Labels play no part.

    Args:
        length: L, the first words of a text that are read, from 1 to 2^20.
        min_texts: A word counts where so many texts of the training part have it, at least 1.
        most: The words that most texts have, so many of them; None for all.

    Raises:
        ValueError: A number is out of range.
    """

    kind = "word_ids"

    def __init__(self, length: int = 64, min_texts: int = 2, most: int | None = 30_000) -> None:
        check_whole("data.encoder.length", length, 1, most=MOST_PLACES)
        check_whole("data.encoder.min_texts", min_texts, 1)
        if most is not None:
            check_whole("data.encoder.most", most, 1, ", or null")
        self.length, self.min_texts, self.most = length, min_texts, most

    def fit(self, texts: Sequence[str]) -> None:
        """See `TextEncoder.fit`: which words there are."""
        counts = Counter[str]()
        for text in texts:
            counts.update(set(words_of(text)))
        words = most_frequent(counts.items(), self.min_texts, self.most)
        if not words:
            raise ValueError(
                f"no word stands in {self.min_texts} or more of the {len(texts)} training texts, "
                "so there is nothing to learn from; set data/encoder=word_ids "
                "data.encoder.min_texts=1, or give more texts"
            )
        self._learned(words)

    def _learned(self, words: list[str]) -> None:
        self._words = words
        self._numbers = {word: number for number, word in enumerate(words, FIRST)}
        self.vocab_size = FIRST + len(words)

    def encode(self, texts: Sequence[str]) -> RaggedStore:
        """See `TextEncoder.encode`."""
        tokens, lengths, cut = array("i"), array("q"), 0
        number = self._numbers.get
        for text in texts:
            words = words_of(text)
            cut += len(words) > self.length
            own = [number(word, UNKNOWN_WORD) for word in words[: self.length]] or [UNKNOWN_WORD]
            tokens.extend(own)
            lengths.append(len(own))
        if cut:
            log.info(
                "%d of %d texts have more than %d words, of which the first %d are read",
                cut,
                len(texts),
                self.length,
                self.length,
            )
        values = {"tokens": torch.from_numpy(np.array(tokens, dtype=np.int32))}
        counts = torch.from_numpy(np.array(lengths, dtype=np.int64))
        return RaggedStore(values, counts, self.length, masked=True)

    def recipe(self) -> dict[str, Any]:
        """See `TextEncoder.recipe`."""
        settings = {"length": self.length, "min_texts": self.min_texts, "most": self.most}
        return {"settings": settings, "words": self._words}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """See `TextEncoder.from_recipe`."""
        one = cls(**recipe["settings"])
        one._learned(checked_words(recipe["words"], "words"))
        return one
