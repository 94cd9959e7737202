"""Features of texts against the singular value decomposition of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from dal.data.dataset import Dataset
from dal.data.source import Source, Split
from dal.data.splits import make_source
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.encoder import TextEncoder
from dal.data.texts.lsa import embed_of, lsa
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import TextStore
from dal.utils.inputs import Inputs

WORDS = [f"word{number}" for number in range(15)]


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Each of one of five topics with their own words, and a word of any: five large directions."""
    rng = torch.Generator().manual_seed(seed)
    anything = torch.randint(len(WORDS), (count,), generator=rng).tolist()
    topics = [WORDS[3 * topic : 3 * topic + 3] for topic in range(5)]
    return [" ".join([*topics[n % 5], WORDS[word]]) for n, word in enumerate(anything)]


def source_of(texts: Sequence[str], encoder: TextEncoder | None = None) -> Source:
    targets = torch.arange(len(texts)) % 2
    dataset = Dataset("texts", TextStore(texts), targets, ("no", "yes"), encoder=encoder)
    return make_source(dataset, seed=0, kind="none")


def dense(source: Source) -> np.ndarray:
    """The weights of all texts' terms, by a plain loop."""
    inputs = source.train.take(torch.arange(len(source.train)))
    assert isinstance(inputs, dict)
    assert source.vocab_size is not None
    rows = np.zeros((len(source.train), source.vocab_size))
    for row, terms, weights in zip(rows, inputs["terms"], inputs["weights"], strict=True):
        for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
            row[term] += weight
    return rows


def by_svd(rows: np.ndarray, size: int, fitted_on: int) -> np.ndarray:
    vectors = np.linalg.svd(rows[:fitted_on], full_matrices=False)[2][:size]
    for vector in vectors:
        vector *= np.sign(vector[np.abs(vector).argmax()])
    points = rows @ vectors.T
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1)


def test_features_are_projections_onto_singular_vectors_of_length_one() -> None:
    source = source_of([*make_texts(60), "", "zebra"])
    assert source.vocab_size is not None
    got = lsa(source.train, source.begun, source.vocab_size, 5)
    assert got.shape == (62, 5)
    assert got.dtype == torch.float32
    assert got.numpy() == pytest.approx(by_svd(dense(source), 5, 62), abs=1e-3)
    assert got[60:].abs().max() == 0  # no terms, and none that another text has
    assert got[:60].norm(dim=1).tolist() == pytest.approx([1] * 60)


def test_texts_that_came_late_change_no_earlier_features() -> None:
    grown = replace(source_of(make_texts(49)), appended=9)
    early = replace(grown, train=grown.train.part(torch.arange(40)), appended=0)
    assert torch.equal(grown.embedding[:40], early.embedding)
    assert grown.embedding.shape == (49, early.embedding.shape[1])
    assert grown.vocab_size is not None
    got = lsa(grown.train, grown.begun, grown.vocab_size, 5).numpy()
    assert got == pytest.approx(by_svd(dense(grown), 5, 40), abs=1e-3)


def test_no_more_dimensions_than_texts_or_terms() -> None:
    source = source_of(["one two", "two one", "one"])
    assert source.embedding.shape == (3, min(3, int(source.vocab_size or 0)))


def test_same_bits_whatever_the_number_of_threads_and_of_texts_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    want = source_of(make_texts(300)).embedding
    monkeypatch.setattr("dal.data.texts.lsa.BLOCK_NUMBERS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(source_of(make_texts(300)).embedding, want)
    finally:
        torch.set_num_threads(threads)


def test_a_part_of_the_training_part_has_an_embedding_of_its_own() -> None:
    source = source_of(make_texts(40))
    assert len(source.embedding) == 40
    part = replace(source, train=source.train.part(torch.arange(0, 40, 2)))
    assert len(part.embedding) == 20


@pytest.mark.parametrize(
    ("inputs", "vocab_size"),
    [
        (torch.ones(3, 2), None),
        ({"terms": torch.ones(3, 2).long(), "weights": torch.ones(3, 2)}, None),
        ({"tokens": torch.ones(3, 2).long(), "mask": torch.ones(3, 2).bool()}, 5),
    ],
)
def test_inputs_that_are_no_terms_have_none(inputs: Inputs, vocab_size: int | None) -> None:
    assert embed_of(Split.of(inputs, torch.zeros(3).long()), vocab_size) is None


def test_dense_words_need_none() -> None:
    assert source_of(make_texts(40), encoder=BagOfWords(5)).embed is None
    assert source_of(make_texts(40), encoder=NGrams(1)).embed is not None
