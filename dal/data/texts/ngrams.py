"""Texts as words and rows of words with weights, kept sparse: what linear models of texts take."""

from __future__ import annotations

import logging
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.texts.encoder import TextEncoder
from dal.data.texts.stores import RaggedStore
from dal.data.texts.words import checked_counts, checked_words, most_frequent, words_of
from dal.utils.ranges import check_whole

log = logging.getLogger(__name__)

MOST_COLUMNS = 2**26
"""Columns of hashed terms, at most."""
LONGEST = 64
"""Words of a term, at most."""


class NGrams(TextEncoder):
    """Words and rows of words as sparse weights: what linear models of texts take.

    Inputs are ``terms``, int64, (B, L), in ascending order, and their ``weights``, float32, (B, L);
    both are 0 beyond the terms that a text has. A term's weight is 1 + ln(how often it stands in
    the text), times 1 + ln((1 + texts) / (1 + texts that have it)) of the training part, and the
    weights of a text have the length 1 (sublinear tf-idf). Labels play no part.

    Args:
        longest: Words of the longest term, from 1 to 64: 2 for words and pairs of words.
        min_texts: A term counts where so many texts of the training part have it, at least 1.
        most: The terms that most texts have, so many of them; None for all.
        hashed: Terms share so many columns by a checksum of their letters, and none is kept by its
            name: for texts of so many terms that a list of them would be too large. A column counts
            as a term does. None gives each term its own.
        length: Different terms of a text, at most; of one that has more, the heaviest are kept.

    Raises:
        ValueError: A number is out of range.

    Reference:
        G. Salton, C. Buckley, "Term-weighting approaches in automatic text retrieval", Information
        Processing & Management 24, 1988; K. Weinberger et al., "Feature hashing for large scale
        multitask learning", ICML 2009, for ``hashed``, here without signs.
    """

    kind = "ngrams"

    def __init__(
        self,
        longest: int = 2,
        min_texts: int = 2,
        most: int | None = None,
        hashed: int | None = None,
        length: int = 2048,
    ) -> None:
        own = "data.encoder."
        check_whole(f"{own}longest", longest, 1, most=LONGEST)
        for name, number in {"min_texts": min_texts, "length": length}.items():
            check_whole(own + name, number, 1)
        for name, limit in {"most": most, "hashed": hashed}.items():
            if limit is not None:
                check_whole(own + name, limit, 1, ", or null")
        if hashed is not None and (hashed > MOST_COLUMNS or most is not None):
            raise ValueError(
                f"{own}hashed={hashed} takes at most {MOST_COLUMNS} columns, and no {own}most; "
                "lower the one, and leave the other out"
            )
        self.longest, self.min_texts, self.most = longest, min_texts, most
        self.hashed, self.length = hashed, length
        self._settings = {
            "longest": longest, "min_texts": min_texts, "most": most, "hashed": hashed,
            "length": length,
        }  # fmt: skip

    def fit(self, texts: Sequence[str]) -> None:
        """See `TextEncoder.fit`: which terms there are, and in how many texts each stands."""
        counts = Counter[Any]()
        for text in texts:
            counts.update(set(self._terms(text)))
        if self.hashed is None:
            kept = most_frequent(counts.items(), self.min_texts, self.most)
            terms = sorted(kept)
            numbers = torch.tensor([counts[term] for term in terms], dtype=torch.int32)
        else:
            terms = None
            numbers = torch.zeros(self.hashed, dtype=torch.int32)
            numbers[list(counts)] = torch.tensor(list(counts.values()), dtype=torch.int32)
            numbers[numbers < self.min_texts] = 0
        if not numbers.any():
            raise ValueError(
                f"no word stands in {self.min_texts} or more of the {len(texts)} training texts, "
                "so there is nothing to learn from; set data/encoder=ngrams "
                "data.encoder.min_texts=1, or give more texts"
            )
        self._learned(terms, numbers, len(texts))

    def _learned(self, terms: list[str] | None, counts: Tensor, texts: int) -> None:
        """Take over what was learned.

        Args:
            terms: The V terms, in ascending order; None where they are hashed.
            counts: int32, (V,), in how many texts each stands; 0 for columns that do not count.
            texts: How many texts there were.
        """
        self._names, self._counts, self._texts = terms, counts, texts
        self._numbers = None if terms is None else {term: n for n, term in enumerate(terms)}
        self._counting = (counts > 0).numpy().tobytes()
        self.vocab_size = len(counts)
        values, of = np.unique(counts.numpy(), return_inverse=True)
        # Logarithms of Python are the same on all processors.
        self._idf = np.array([1 + math.log((1 + texts) / (1 + int(n))) for n in values])[of]

    def _terms(self, text: str) -> Iterable[Any]:
        """The terms of a text as they stand there, or the columns that they share."""
        words = words_of(text)
        rows = [words[n:] for n in range(self.longest)]
        terms = words + [
            " ".join(term)
            for n in range(2, self.longest + 1)
            for term in zip(*rows[:n], strict=False)
        ]
        if self.hashed is None:
            return terms
        return [crc32(term.encode("utf-8", "surrogatepass")) % self.hashed for term in terms]

    def encode(self, texts: Sequence[str]) -> RaggedStore:
        """See `TextEncoder.encode`."""
        terms, counts, lengths = array("q"), array("q"), array("q")
        for text in texts:
            found = Counter(self._known(text))
            terms.extend(found)
            counts.extend(found.values())
            lengths.append(len(found))
        return self._weighed(*(np.array(one, dtype=np.int64) for one in (terms, counts, lengths)))

    def _known(self, text: str) -> Iterable[int]:
        terms = self._terms(text)
        if self._numbers is not None:
            return [n for n in map(self._numbers.get, terms) if n is not None]
        return [n for n in terms if self._counting[n]]

    def _weighed(
        self, terms: NDArray[np.int64], often: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> RaggedStore:
        """What texts hold, behind each other, as rows of terms in ascending order with weights."""
        rows = np.repeat(np.arange(len(lengths)), lengths)
        values, of = np.unique(often, return_inverse=True)
        weights = np.array([1 + math.log(value) for value in values.tolist()])[of]
        weights *= self._idf[terms]
        if (cut := int((lengths > self.length).sum())) > 0:
            log.info(
                "%d of %d texts have more than %d different terms; their heaviest are kept",
                cut,
                len(lengths),
                self.length,
            )
            order = np.lexsort((terms, -weights, rows))
            place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            kept = order[place < self.length]
            terms, weights, rows = terms[kept], weights[kept], rows[kept]
            lengths = np.minimum(lengths, self.length)
        order = np.lexsort((terms, rows))
        terms, weights = terms[order], weights[order]
        squares = np.bincount(rows, weights**2, len(lengths))
        weights /= np.sqrt(squares)[rows]
        _say_silent(lengths)
        values_of = {
            "terms": torch.from_numpy(terms.astype(np.int32)),
            "weights": torch.from_numpy(weights.astype(np.float32)),
        }
        return RaggedStore(values_of, torch.from_numpy(lengths), int(lengths.max(initial=1)))

    def recipe(self) -> dict[str, Any]:
        """See `TextEncoder.recipe`."""
        return {
            "settings": dict(self._settings),
            "terms": self._names,
            "counts": self._counts,
            "texts": self._texts,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """See `TextEncoder.from_recipe`."""
        one = cls(**recipe["settings"])
        terms = recipe["terms"]
        if one.hashed is None:
            terms = checked_words(terms, "terms")
        elif terms is not None:
            raise ValueError("hashed terms have names")
        size = one.hashed or len(terms)
        counts = checked_counts(recipe["counts"], size, recipe["texts"], "counts")
        one._learned(terms, counts, recipe["texts"])
        return one


def _say_silent(lengths: NDArray[np.int64]) -> None:
    """Say how many texts hold nothing that is known."""
    silent = np.flatnonzero(lengths == 0)
    if len(silent):
        log.info(
            "%d of %d texts hold no term that was learned, the first is number %d of them",
            len(silent),
            len(lengths),
            int(silent[0]) + 1,
        )
