"""Runs on texts of a tiny pretrained network: from its folder to the texts that it predicts."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_texts
import torch

import dal
from dal.data import Dataset, initial_labels, make_source
from dal.data.source import Source
from dal.data.texts.stores import TextStore
from dal.data.texts.tokenizer import Tokenizer
from dal.learners import Dropout
from dal.models import TransformersNetwork
from dal.query import (
    BALD,
    Badge,
    CoreSet,
    ExpectedGradientLength,
    Margin,
    MultilabelMargin,
    Strategy,
)
from dal.training.optim import adamw
from dal.training.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_texts.folder(tmp_path_factory.mktemp("network") / "tiny")


def source(folder: Path, multilabel: bool = False) -> Source:
    """Texts that are glad or sad; of several labels also of a cat or of none."""
    texts, labels = tiny_texts.texts(160)
    targets, names = torch.tensor(labels), ("sad", "glad")
    if multilabel:
        about = [int("cat" in text.split()) for text in texts]
        targets, names = torch.stack([targets, torch.tensor(about)], 1), ("glad", "cat")
    encoder = Tokenizer(str(folder), length=tiny_texts.LENGTH)
    dataset = Dataset("moods", TextStore(texts), targets, names, encoder=encoder)
    return make_source(dataset, seed=0, validation=20)


def run(
    folder: Path,
    strategy: Strategy,
    run_dir: Path | None = None,
    multilabel: bool = False,
    precision: Any = "float32",
    **settings: Any,
) -> dal.Result:
    data = source(folder, multilabel)
    options = {"batch_size": 32, "threads": 1, "figures": False} | settings
    return dal.run(
        data,
        partial(TransformersNetwork, path=str(folder), length=tiny_texts.LENGTH),
        strategy,
        initial=initial_labels(data.train.targets, seed=0, count=20),
        trainer=Trainer(epochs=8, batch_size=8, optimizer=adamw(lr=0.005), precision=precision),
        committee=Dropout(4) if isinstance(strategy, BALD) else None,
        settings=dal.Settings(query_size=10, budget=20, **options),
        run_dir=run_dir,
    )


@pytest.mark.parametrize("multilabel", [False, True], ids=["classes", "labels"])
def test_a_run_learns_and_its_model_predicts_texts_without_the_folder(
    folder: Path, tmp_path: Path, multilabel: bool
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "tiny"))
    strategy = MultilabelMargin() if multilabel else Margin()
    settings: dict[str, Any] = {"thresholds": "fitted"} if multilabel else {}
    result = run(own, strategy, tmp_path / "run", multilabel, **settings)
    assert [row["labels"] for row in result.rows] == [20, 30, 40]
    shutil.rmtree(own)
    loaded, test = dal.load(tmp_path / "run"), source(folder, multilabel).test
    read = test.take(torch.arange(len(test)))
    texts = [str(test.show(n)) for n in range(len(test))]
    found = loaded.predict_proba(texts)
    torch.testing.assert_close(loaded.predict_proba(read), found)
    glad = found[:, 0] if multilabel else found[:, 1]
    right = (glad > glad.median()).long() == (test.targets[:, 0] if multilabel else test.targets)
    assert right.float().mean() > 0.8
    if not multilabel:
        assert loaded.predict(["I am so happy", "the awful rain"]) == ["glad", "sad"]


@pytest.mark.parametrize(
    "strategy", [BALD(), Badge(), CoreSet(), ExpectedGradientLength(scope="last")]
)
def test_strategies_by_all_that_the_network_gives(folder: Path, strategy: Strategy) -> None:
    rows = run(folder, strategy).rows
    assert [row["labels"] for row in rows] == [20, 30, 40]


def test_half_precision_learns_the_same_texts(folder: Path) -> None:
    whole, half = (run(folder, Margin(), precision=p).rows for p in ("float32", "bfloat16"))
    assert half != whole
    assert abs(half[-1]["test/accuracy"] - whole[-1]["test/accuracy"]) < 0.15
