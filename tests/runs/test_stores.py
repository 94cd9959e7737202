"""Whole runs on samples that are not one array in memory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dal
from dal.data import Dataset, Source, initial_labels, make_source
from dal.models import LogisticRegression, Output
from dal.query import Entropy, Margin
from dal.training.trainer import Trainer

COUNT = 240
RNG = np.random.default_rng(0)
LABELS = np.arange(COUNT) % 3
FEATURES = (RNG.standard_normal((COUNT, 4)) + 3 * LABELS[:, None]).astype(np.float32)


def run(source: Source, model: Any, folder: Path, strategy: Any = None) -> dal.Result:
    return dal.run(
        source,
        model,
        strategy or Margin(),
        initial=initial_labels(source.train.targets, seed=0, count=9),
        trainer=Trainer(epochs=3),
        settings=dal.Settings(budget=12, query_size=6, threads=1),
        run_dir=folder,
    )


def written(folder: Path) -> list[list[str]]:
    with (folder / "queries.csv").open() as file:
        return list(csv.reader(file))


def source_of(inputs: Any) -> Source:
    data = Dataset("mine", inputs, LABELS, standardize=not isinstance(inputs, dict))
    return make_source(data, seed=0, validation=20)


def test_a_run_on_a_file_is_that_on_the_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for name, inputs in (("memory", FEATURES), ("file", mapped)):
        run(source_of(inputs), LogisticRegression, tmp_path / name)
    assert written(tmp_path / "file") == written(tmp_path / "memory")
    assert len(written(tmp_path / "file")) == 13


def test_a_run_on_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FEATURES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    run(source_of(mapped), LogisticRegression, tmp_path / "run")
    np.save(tmp_path / "x.npy", FEATURES + 1)
    again = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="have changed since this run began"):
        run(source_of(again), LogisticRegression, tmp_path / "run")


class Sentences(nn.Module):
    """Takes two tensors by name, of the shapes it was told."""

    def __init__(self, input_shape: dict[str, tuple[int, ...]], num_classes: int) -> None:
        super().__init__()
        assert input_shape == {"ids": (4,), "mask": (4,)}
        self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, num_classes)

    def forward(self, inputs: dict[str, Tensor]) -> Output:
        words = self.table(inputs["ids"]) * inputs["mask"][..., None]
        features = words.sum(1)
        return Output(self.head(features), features)


@pytest.mark.parametrize("strategy", [Entropy(), dal.query.CoreSet()])
def test_a_run_on_tensors_by_name(tmp_path: Path, strategy: Any) -> None:
    ids = (LABELS[:, None] * 6 + RNG.integers(6, size=(COUNT, 4))).astype(np.int64)
    inputs = {"ids": ids, "mask": (RNG.random((COUNT, 4)) < 0.8).astype(np.float32)}
    source = source_of(inputs)
    result = run(source, Sentences, tmp_path / "run", strategy)
    assert result.status == "complete"
    loaded = dal.load(tmp_path / "run", model=Sentences)
    some = source.test.raw(torch.arange(10))
    assert isinstance(some, dict)
    logits = result.job.learner.model({name: tensor.clone() for name, tensor in some.items()})
    torch.testing.assert_close(loaded.predict_proba(some), logits.logits.softmax(1))


def test_models_of_one_tensor_say_so(tmp_path: Path) -> None:
    source = source_of({"ids": np.zeros((COUNT, 4)), "mask": np.zeros((COUNT, 4))})
    with pytest.raises(TypeError, match=r"logistic_regression takes one tensor, .* ids, mask"):
        run(source, LogisticRegression, tmp_path / "run")
