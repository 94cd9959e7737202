"""Dense bags of words: the numbers that data=goemotions always had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from dal.data.texts.bag_of_words import BagOfWords

TEXTS = ["I am so happy today!", "what a sad sad day", "fine, so fine", ""]


def test_bags_are_those_of_scikit_learn_to_the_bit() -> None:
    reference = TfidfVectorizer(
        max_features=5, sublinear_tf=True, token_pattern=r"\w+|[!?]", dtype=np.float32
    )
    wanted = reference.fit_transform(TEXTS).toarray()
    encoder = BagOfWords(5).fitted(TEXTS)
    found = encoder.encode(TEXTS).read(torch.arange(4))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), wanted)
    assert encoder.vocab_size is None  # no numbers of words stand in dense inputs


def test_the_most_frequent_words_are_kept() -> None:
    found = BagOfWords(1).fitted(TEXTS[:2]).encode(TEXTS[:2]).read(torch.arange(2))
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [[0], [1]]  # "sad", which occurs twice


def test_recipe_makes_the_same_inputs() -> None:
    encoder = BagOfWords(5).fitted(TEXTS)
    again = BagOfWords.from_recipe(encoder.recipe())
    assert again.encode(TEXTS).digest() == encoder.encode(TEXTS).digest()


def test_texts_without_words_and_no_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no word stands in any of the 2"):
        BagOfWords().fitted(["", "..."])
    with pytest.raises(ValueError, match=r"data.encoder.num_features=0"):
        BagOfWords(0)
