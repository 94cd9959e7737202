"""Texts that a trained model predicts, as they were encoded for it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dal
from dal import checkpoint
from dal.cli import predict
from dal.data import Dataset, make_source
from dal.data.source import Source
from dal.data.texts.bag_of_words import BagOfWords
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import TextStore
from dal.data.texts.word_ids import WordIds
from dal.export import FILE, save_model
from dal.models import MLP, LogisticRegression
from dal.models.embedding_bag import EmbeddingBag

TEXTS = ["good day", "bad day", "a good film", "a bad film", "good good", "bad , bad !"] * 4
KINDS: list[tuple[Any, Any]] = [
    (LogisticRegression, NGrams()),
    (LogisticRegression, NGrams(hashed=64)),
    (EmbeddingBag, WordIds(length=4)),
    (MLP, BagOfWords(5)),
]


def saved(folder: Path, make: Any = LogisticRegression, encoder: Any = None) -> tuple[Any, Source]:
    """A model with weights that differ by word, and the data of its run."""
    data = Dataset(
        name="t",
        inputs=TextStore(TEXTS),
        targets=torch.arange(len(TEXTS)) % 2,
        class_names=("good", "bad"),
        recipe={"columns": ["said"], "id": None},
        encoder=encoder or NGrams(),
    )
    source = make_source(data, seed=0)
    torch.manual_seed(0)
    extra = () if source.vocab_size is None else (source.vocab_size,)
    model = make(source.input_shape, 2, *extra).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    save_model(folder, model, make, source)
    return model, source


@pytest.mark.parametrize(("make", "encoder"), KINDS)
def test_texts_are_predicted_as_they_were_in_the_run(
    tmp_path: Path, make: Any, encoder: Any
) -> None:
    model, source = saved(tmp_path, make, encoder)
    with torch.no_grad():
        expected = model(source.test.take(torch.arange(len(source.test)))).logits.softmax(1)
    texts = [str(source.test.show(n)) for n in range(len(source.test))]
    loaded = dal.load(tmp_path)
    torch.testing.assert_close(loaded.predict_proba(texts), expected)
    torch.testing.assert_close(loaded.predict_proba(np.array(texts)), expected)
    torch.testing.assert_close(loaded.predict_proba(np.array(texts, dtype=object)), expected)
    assert loaded.predict(tuple(texts)) == [source.class_names[n] for n in expected.argmax(1)]


@pytest.mark.parametrize(("make", "encoder"), KINDS)
def test_what_is_said_of_a_text_depends_on_no_other(
    tmp_path: Path, make: Any, encoder: Any
) -> None:
    saved(tmp_path, make, encoder)
    loaded = dal.load(tmp_path)
    long = " ".join(["a good day", "a bad film"] * 40)
    alone = loaded.predict_proba(["good day"])
    among = loaded.predict_proba([long, "good day", "unheard"])
    torch.testing.assert_close(among[1:2], alone)


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ("good", "give a list"),
        (["good", None], "text 1 is None"),
        (["good", float("nan")], "text 1 is nan"),
        ([], "no texts"),
        (["a\0"], "text 0 holds a NUL"),
        (["\ud800"], "text 0 holds a NUL character or half"),
    ],
)
def test_what_is_no_text_is_told(tmp_path: Path, given: Any, fact: str) -> None:
    saved(tmp_path)
    with pytest.raises((TypeError, ValueError), match=fact):
        dal.load(tmp_path).predict(given)


def test_empty_texts_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    assert len(dal.load(tmp_path).predict(["good", " "])) == 2
    assert "1 of 2 texts are empty, the first is text 1" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "os.system"},
        {"terms": ["a", "a"]},
        {"terms": None},
        {"counts": torch.zeros(2)},
        {"settings": {"shell": 1}},
        {"settings": {"longest": 10**12}},
        {"settings": 3},
        {"texts": "many"},
        {"terms": ["one"], "counts": torch.ones(1, dtype=torch.int32)},
    ],
)
def test_damaged_recipes_are_one_clear_error(tmp_path: Path, change: dict[str, Any]) -> None:
    saved(tmp_path)
    state = checkpoint.load(tmp_path / FILE)
    state["recipe"] |= change
    checkpoint.save(tmp_path / FILE, state)
    with pytest.raises(ValueError, match=r"model\.pt.*restore it"):
        dal.load(tmp_path)


@pytest.mark.parametrize(
    ("make", "encoder", "change"),
    [
        (EmbeddingBag, WordIds(length=4), {"settings": {"length": 10**12}}),
        (EmbeddingBag, WordIds(length=4), {"settings": {"length": 5}}),
        (LogisticRegression, NGrams(), {"counts": torch.ones(1, dtype=torch.int32), "terms": "a"}),
    ],
)
def test_recipes_of_other_inputs_than_the_model_takes_are_refused(
    tmp_path: Path, make: Any, encoder: Any, change: dict[str, Any]
) -> None:
    saved(tmp_path, make, encoder)
    state = checkpoint.load(tmp_path / FILE)
    state["recipe"] |= change
    checkpoint.save(tmp_path / FILE, state)
    with pytest.raises(ValueError, match=r"^\S+model\.pt: .*restore it$"):
        dal.load(tmp_path)


def test_a_model_that_says_no_numbers_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    state = checkpoint.load(tmp_path / FILE)
    state["weights"]["head.bias"][0] = torch.nan
    checkpoint.save(tmp_path / FILE, state)
    with pytest.raises(
        ValueError, match=r"of 2 of 2 samples is no number .*restore the file of the model"
    ):
        dal.load(tmp_path).predict(["good", "bad"])


def predicted(monkeypatch: pytest.MonkeyPatch, folder: Path, path: Path) -> list[dict[str, str]]:
    out = folder / "out.csv"
    arguments = ["dal predict", str(folder), str(path), "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    predict.main()
    with out.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.csv", 'n,said\n1,good day\n2," "\n3,"bad, day"\n'),
        ("new.tsv", "n\tsaid\n1\tgood day\n2\t\n3\tbad, day\n"),
        ("new.jsonl", '{"said": "good day"}\n{"said": ""}\n{"said": "bad, day"}\n'),
        ("new.txt", "good day\n\nbad, day\n"),
    ],
)
def test_files_of_texts_are_predicted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
) -> None:
    saved(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    rows = predicted(monkeypatch, tmp_path, tmp_path / name)
    assert [row["row"] for row in rows] == ["0", "1", "2"]
    expected = dal.load(tmp_path).predict(["good day", "bad, day"])
    assert [row["class"] for row in rows] == [expected[0], "", expected[1]]
    assert "1 of 3 have no class: 1 (it is empty)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "fact"), [("new.csv", "there is no column 'said'"), ("new.png", "learned from texts")]
)
def test_files_that_hold_no_such_texts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fact: str
) -> None:
    saved(tmp_path)
    (tmp_path / name).write_text("n,sayd\n1,good day\n")
    with pytest.raises(SystemExit, match=fact):
        predicted(monkeypatch, tmp_path, tmp_path / name)
