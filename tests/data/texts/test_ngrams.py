"""Terms and their weights, against scikit-learn's own."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from dal.data.texts.ngrams import NGrams
from dal.data.texts.words import WORDS

TEXTS = [
    "I am so happy today! so, so happy",
    "what a sad sad day",
    "happy day",
    "",
    "今日は happy 😀😀!",
    "never seen",
]


def dense(encoder: NGrams, texts: list[str]) -> torch.Tensor:
    store = encoder.encode(texts)
    read = store.read(torch.arange(len(texts)))
    assert isinstance(read, dict)
    assert encoder.vocab_size is not None
    found = torch.zeros(len(texts), encoder.vocab_size)
    return found.scatter_add_(1, read["terms"], read["weights"])


@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize("min_texts", [1, 2])
def test_terms_and_weights_are_those_of_scikit_learn(longest: int, min_texts: int) -> None:
    reference = TfidfVectorizer(
        token_pattern=WORDS, sublinear_tf=True, ngram_range=(1, longest), min_df=min_texts
    ).fit(TEXTS)
    encoder = NGrams(longest=longest, min_texts=min_texts).fitted(TEXTS)
    assert encoder.recipe()["terms"] == reference.get_feature_names_out().tolist()
    new = [*TEXTS, "happy unknown happy", "so so sad sad day"]
    wanted = reference.transform(new).toarray()
    torch.testing.assert_close(dense(encoder, new), torch.from_numpy(wanted).float())


def test_most_keeps_the_terms_of_most_texts_equal_ones_by_their_letters() -> None:
    texts = ["a b", "a c", "a b", "c d"]
    assert NGrams(1, 1, most=3).fitted(texts).recipe()["terms"] == ["a", "b", "c"]
    assert NGrams(1, 1, most=2).fitted(texts).recipe()["terms"] == ["a", "b"]


def test_of_a_text_of_many_terms_the_heaviest_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["rare common other", "common", "common other"]
    with caplog.at_level(logging.INFO):
        store = NGrams(1, 1, length=2).fitted(texts).encode(texts)
    assert "1 of 3 texts have more than 2 different terms" in caplog.text
    read = store.read(torch.arange(3))
    assert isinstance(read, dict)
    assert read["terms"].tolist() == [[1, 2], [0, 0], [0, 1]]  # of common, other, rare
    assert read["weights"].square().sum(1).tolist() == pytest.approx([1, 1, 1])


def test_equally_heavy_terms_are_kept_from_the_first_on() -> None:
    store = NGrams(1, 1, length=2).fitted(["d c b a"]).encode(["d c b a"])
    assert store.values["terms"][:2].tolist() == [0, 1]


def test_hashed_terms_keep_no_list_and_say_the_same_as_terms_of_their_own() -> None:
    own, hashed = NGrams(2, 1).fitted(TEXTS), NGrams(2, 1, hashed=2**16).fitted(TEXTS)
    assert hashed.recipe()["terms"] is None
    assert hashed.vocab_size == 2**16
    one, other = dense(own, TEXTS), dense(hashed, TEXTS)
    torch.testing.assert_close(one @ one.T, other @ other.T)  # no two terms share a column here


def test_a_row_depends_on_no_other_text() -> None:
    encoder = NGrams(2, 1).fitted(TEXTS)
    together = dense(encoder, TEXTS)
    for row, text in enumerate(TEXTS):
        assert torch.equal(dense(encoder, [text])[0], together[row])


def test_what_holds_no_term_is_zero_and_said(caplog: pytest.LogCaptureFixture) -> None:
    encoder = NGrams(1, 1).fitted(["a b"])
    with caplog.at_level(logging.INFO):
        assert dense(encoder, ["a", "", " \t\n", "z"]).sum(1).gt(0).tolist() == [1, 0, 0, 0]
    assert "3 of 4 texts hold no term that was learned, the first is number 2" in caplog.text


def test_texts_without_a_term_in_common_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"no word stands in 2 or more.*min_texts=1"):
        NGrams().fitted(["a", "b"])


@pytest.mark.parametrize("settings", [{}, {"hashed": 64}, {"most": 3}, {"length": 1}])
def test_recipe_makes_the_same_inputs(settings: Any) -> None:
    encoder = NGrams(min_texts=1, **settings).fitted(TEXTS)
    again = NGrams.from_recipe(encoder.recipe())
    assert encoder.encode(TEXTS).digest() == again.encode(TEXTS).digest()
    assert encoder.vocab_size == again.vocab_size


@pytest.mark.parametrize(
    "wrong",
    [
        {"longest": 0},
        {"longest": 65},
        {"min_texts": 0},
        {"most": 0},
        {"hashed": 0},
        {"length": 0},
        {"hashed": 2**30},
        {"hashed": 8, "most": 3},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"data.encoder.{next(iter(wrong))}"):
        NGrams(**wrong)


def test_many_terms_take_little_memory() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 500, 20)) for _ in range(200)]
    store = NGrams().fitted(texts).encode(texts)
    assert sum(one.nbytes for one in store.values.values()) < 200 * 40 * 8 + 100
