"""Numbers of words."""

from __future__ import annotations

import logging

import pytest
import torch

from dal.data.texts.word_ids import WordIds

TEXTS = ["b a b", "A c", "a b d", ""]


def test_words_of_more_texts_have_lower_numbers() -> None:
    encoder = WordIds(length=3, min_texts=1).fitted(TEXTS)
    assert encoder.recipe()["words"] == ["a", "b", "c", "d"]
    assert encoder.vocab_size == 6
    read = encoder.encode([*TEXTS, "z a"]).read(torch.arange(5))
    assert isinstance(read, dict)
    assert read["tokens"].tolist() == [[3, 2, 3], [2, 4, 0], [2, 3, 5], [1, 0, 0], [1, 2, 0]]
    assert read["mask"].sum(1).tolist() == [3, 2, 3, 1, 2]


def test_longer_texts_are_cut_and_said(caplog: pytest.LogCaptureFixture) -> None:
    encoder = WordIds(length=2, min_texts=1).fitted(TEXTS)
    with caplog.at_level(logging.INFO):
        store = encoder.encode(TEXTS)
    assert store.lengths.tolist() == [2, 2, 2, 1]
    assert "2 of 4 texts have more than 2 words" in caplog.text


def test_rare_words_are_unknown_ones() -> None:
    assert WordIds().fitted(TEXTS).recipe()["words"] == ["a", "b"]
    assert WordIds(most=1).fitted(TEXTS).recipe()["words"] == ["a"]
    with pytest.raises(ValueError, match=r"no word stands in 3 or more"):
        WordIds(min_texts=3).fitted(["a", "b"])


def test_recipe_makes_the_same_inputs() -> None:
    encoder = WordIds(min_texts=1).fitted(TEXTS)
    again = WordIds.from_recipe(encoder.recipe())
    assert again.encode(TEXTS).digest() == encoder.encode(TEXTS).digest()
    assert again.vocab_size == encoder.vocab_size


@pytest.mark.parametrize("name", ["length", "min_texts", "most"])
def test_settings_out_of_range_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"data.encoder.{name}=0"):
        WordIds(**{name: 0})


def test_rows_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"length=1000000000000; give at most 1048576"):
        WordIds(length=10**12)
