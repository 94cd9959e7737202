"""What goes with texts, and what is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.data import Dataset, make_source
from dal.data.foreign import Ood
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.ngrams import NGrams
from dal.data.texts.word_ids import WordIds
from dal.features import Torchvision

TRAIN = ["a good day", "a bad day", "good film", "bad film", "good good", "bad bad"]
HELD = ["a good unheard day", "unheard unheard"]
ENCODERS: list[Any] = [NGrams(min_texts=1), BagOfWords(), WordIds(min_texts=1)]


def texts(**more: Any) -> Dataset:
    given = {"inputs": TRAIN, "targets": ["x", "y"] * 3, "class_names": ("x", "y")}
    return Dataset("mine", **(given | more))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("part", ["test", "validation"])
def test_words_of_other_parts_are_not_learned(encoder: Any, part: str) -> None:
    held = {f"{part}_inputs": HELD, f"{part}_targets": ["x", "y"]}
    alone = make_source(texts(encoder=encoder), seed=0, kind="none")
    beside = make_source(texts(encoder=encoder, **held), seed=0, kind="none")
    assert alone.recipe is not None
    assert beside.recipe is not None
    assert alone.vocab_size == beside.vocab_size
    words = [value for value in beside.recipe.values() if isinstance(value, list)]
    assert any("good" in own for own in words)
    assert not any("unheard" in word for own in words for word in own)
    assert {k: v for k, v in beside.recipe.items() if isinstance(v, list)} == {
        k: v for k, v in alone.recipe.items() if isinstance(v, list)
    }


@pytest.mark.parametrize("encoder", ENCODERS)
def test_texts_that_a_division_takes_out_are_not_learned_from(encoder: Any) -> None:
    every = [f"only{n} word" for n in range(20)]
    data = Dataset("mine", every, ["x", "y"] * 10, ("x", "y"), encoder=encoder)  # type: ignore[arg-type]
    source = make_source(data, seed=0)
    assert source.recipe is not None
    known = {word for own in source.recipe.values() if isinstance(own, list) for word in own}
    for part, expected in ((source.train, True), (source.test, False)):
        assert part is not None
        for n in range(len(part)):
            assert (str(part.show(n)).split()[0] in known) is expected


PROGRAM = """
import torch
from dal.data import Dataset, make_source
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.ngrams import NGrams
from dal.data.texts.word_ids import WordIds
texts = [f"w{n % 7} w{n % 5} x{n % 11} y" for n in range(60)]
for encoder in (NGrams(), NGrams(most=9), NGrams(hashed=64), BagOfWords(8), WordIds(most=9)):
    data = Dataset("mine", texts, ["x", "y"] * 30, ("x", "y"), encoder=encoder)
    print(make_source(data, seed=0).fingerprint())
"""


def test_other_processes_make_the_same_inputs() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == 5


def test_networks_for_images_do_not_embed_texts(tmp_path: Path) -> None:
    features = Torchvision("resnet18", str(tmp_path / "none.pt"), cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"samples of mine are texts.*features=none"):
        features(texts(), torch.device("cpu"))


def test_foreign_texts_are_those_of_classes() -> None:
    source = make_source(
        texts(targets=["x", "y", "z"] * 2, class_names=("x", "y", "z")), seed=0, kind="none"
    )
    with pytest.raises(ValueError, match=r"mine holds texts.*difficulty\.ood\.classes"):
        Ood(data=texts())(source, seed=0)
    held = Ood(classes=["z"])(source, seed=0)
    assert held.is_foreign.tolist() == [False, False, True] * 2
    assert [held.train.show(n) for n in range(6)] == TRAIN


def test_changed_and_added_texts_are_another_fingerprint() -> None:
    one = make_source(texts(), seed=0, kind="none").fingerprint()
    for inputs in ([*TRAIN[:-1], "good bad"], [*TRAIN[1:], TRAIN[0]], [*TRAIN, "good"]):
        targets = [["x", "y"][n % 2] for n in range(len(inputs))]
        other = make_source(texts(inputs=inputs, targets=targets), seed=0, kind="none")
        assert other.fingerprint() != one
