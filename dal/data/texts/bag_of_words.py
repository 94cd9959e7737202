"""Texts as the weights of the most frequent words: dense, for models that take features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from dal.data.store import ArrayStore, Store
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.words import checked_words
from dal.utils.memory import check_memory
from dal.utils.ranges import check_whole

PATTERN = r"\w+|[!?]"
"""Single letters and marks of emotion count as words too: "I", "!", "?"."""


class BagOfWords(TextEncoder):
    """The most frequent words as dense weights: what models of features take.

    Inputs are float32, (B, D), of length 1 (sublinear tf-idf); a text without any of the words is
    0 everywhere. Labels play no part in them.

    Args:
        num_features: Number of words D, at least 1, or as many as there are; N D numbers are kept
            in memory (GoEmotions: 180 MB with 1,024).
    """

    kind = "bag_of_words"
    _vectorizer: Any = None

    def __init__(self, num_features: int = 1024) -> None:
        check_whole("data.encoder.num_features", num_features, 1)
        self.num_features = num_features

    def _fresh(self, **more: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            max_features=self.num_features,
            sublinear_tf=True,
            token_pattern=PATTERN,
            dtype=np.float32,
            **more,
        )

    def fit(self, texts: Sequence[str]) -> None:
        """See `TextEncoder.fit`: which words are most frequent, and how many texts have each."""
        try:
            self._vectorizer = self._fresh().fit(texts)
        except ValueError as error:  # of scikit-learn, about stop words
            raise ValueError(
                f"no word stands in any of the {len(texts)} training texts; give texts with words"
            ) from error

    def encode(self, texts: Sequence[str]) -> Store:
        """See `TextEncoder.encode`."""
        width = len(self._vectorizer.vocabulary_)
        what = f"{len(texts)} texts of {width} words; lower data.encoder.num_features"
        check_memory(4 * len(texts) * width, what)
        if not texts:
            return ArrayStore(torch.zeros(0, width))
        return ArrayStore(torch.from_numpy(self._vectorizer.transform(texts).toarray()))

    def recipe(self) -> dict[str, Any]:
        """See `TextEncoder.recipe`."""
        return {
            "settings": {"num_features": self.num_features},
            "words": self._vectorizer.get_feature_names_out().tolist(),
            "idf": torch.from_numpy(self._vectorizer.idf_.copy()),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """See `TextEncoder.from_recipe`."""
        one = cls(**recipe["settings"])
        words = checked_words(recipe["words"], "words")
        idf: torch.Tensor = recipe["idf"]
        if idf.dtype != torch.float32 or idf.shape != (len(words),) or not idf.isfinite().all():
            raise ValueError(f"the weights of {len(words)} words are no numbers")
        one._vectorizer = one._fresh(vocabulary={word: n for n, word in enumerate(words)})
        one._vectorizer.idf_ = idf.numpy()
        return one
