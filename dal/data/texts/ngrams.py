"""Texts as words and pairs of words with weights: sparse, and dense for models that take that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from dal.data.store import ArrayStore, Store
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.stores import RaggedStore

PATTERN = r"\w+|[!?]"
"""Single letters and marks of emotion count as words too: "I", "!", "?"."""


class _TfIdf(TextEncoder):
    """Weights (tf-idf, length 1) of the terms that occur in the training part's texts."""

    _vectorizer: Any = None

    def _settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def _fresh(self, **more: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            sublinear_tf=True, token_pattern=PATTERN, dtype=np.float32, **self._settings(), **more
        )

    def fit(self, texts: Sequence[str]) -> None:
        """See `TextEncoder.fit`: which terms there are, and in how many texts each occurs."""
        self._vectorizer = self._fresh().fit(texts)
        self.vocab_size = len(self._vectorizer.vocabulary_)

    def recipe(self) -> dict[str, Any]:
        """See `TextEncoder.recipe`."""
        terms = self._vectorizer.get_feature_names_out().tolist()
        return {
            "settings": dict(self._own()),
            "terms": terms,
            "idf": torch.from_numpy(self._vectorizer.idf_.copy()),
        }

    def _own(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """See `TextEncoder.from_recipe`."""
        one = cls(**recipe["settings"])
        numbers = {str(term): number for number, term in enumerate(recipe["terms"])}
        one._vectorizer = one._fresh(vocabulary=numbers)
        one._vectorizer.idf_ = recipe["idf"].numpy()
        one.vocab_size = len(numbers)
        return one


class NGrams(_TfIdf):
    """Words and rows of words as sparse weights: what linear models of texts take.

    Inputs are ``terms``, int64, (B, L), and their ``weights``, float32, (B, L), of length 1 for
    each text; both 0 beyond the terms that a text has.

    Args:
        longest: Words of the longest term, at least 1.
        min_texts: A term counts where so many texts of the training part have it.
    """

    kind = "ngrams"

    def __init__(self, longest: int = 2, min_texts: int = 2) -> None:
        self.longest, self.min_texts = longest, min_texts

    def _own(self) -> dict[str, Any]:
        return {"longest": self.longest, "min_texts": self.min_texts}

    def _settings(self) -> dict[str, Any]:
        return {"ngram_range": (1, self.longest), "min_df": self.min_texts}

    def encode(self, texts: Sequence[str]) -> Store:
        """See `TextEncoder.encode`."""
        rows = self._vectorizer.transform(texts)
        lengths = torch.from_numpy(np.diff(rows.indptr)).long()
        terms, weights = torch.from_numpy(rows.indices).int(), torch.from_numpy(rows.data)
        width = max(1, int(lengths.max()) if len(lengths) else 1)
        return RaggedStore({"terms": terms, "weights": weights}, lengths, width)


class BagOfWords(_TfIdf):
    """The most frequent words as dense weights: what models of features take.

    Inputs are float32, (B, D).

    Args:
        num_features: Number of words D, at least 1; N D numbers are kept in memory.
    """

    kind = "bag_of_words"

    def __init__(self, num_features: int = 1024) -> None:
        if num_features < 1:
            raise ValueError(f"num_features={num_features}; give at least 1")
        self.num_features = num_features

    def _own(self) -> dict[str, Any]:
        return {"num_features": self.num_features}

    def _settings(self) -> dict[str, Any]:
        return {"max_features": self.num_features}

    def encode(self, texts: Sequence[str]) -> Store:
        """See `TextEncoder.encode`."""
        return ArrayStore(torch.from_numpy(self._vectorizer.transform(texts).toarray()))
