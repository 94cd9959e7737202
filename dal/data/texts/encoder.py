"""What makes inputs of texts; what it learns for that, it learns from the training part's texts."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from dal.data.store import Store


class TextEncoder(ABC):
    """Makes inputs of texts.

    Attributes:
        kind: Its name in recipes.
        vocab_size: V: the numbers of words, terms or tokens in its inputs are from 0 to V - 1; None
            where inputs hold none such, or before `fit`.
    """

    kind: ClassVar[str]
    vocab_size: int | None = None

    def fitted(self, texts: Sequence[str]) -> Self:
        """A copy that has learned from texts: those of the training part; labels play no part."""
        one = copy.copy(self)
        one.fit(texts)
        return one

    @abstractmethod
    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training part's texts, for instance which words there are."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Store:
        """Inputs of texts, a row a text; a text's row depends on no other text."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """All that `from_recipe` takes, in plain values and tensors."""

    @classmethod
    @abstractmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """An encoder that does the same.

        Args:
            recipe: From a file that may be anybody's: plain values, none of which is built, run or
                opened.

        Raises:
            ValueError, KeyError, TypeError: It is none of this kind.
        """
