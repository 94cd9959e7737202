"""What a run leaves of each of its labels."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import dal
from dal.data import Dataset, Source, initial_labels, make_source
from dal.models import MLP
from dal.query import Random
from dal.recording.by_label import label_table
from dal.training.trainer import Trainer

NAMES = ("joy|fun", "anger", "rare")


def source_of(several: bool) -> Source:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 4, generator=generator)
    targets: Tensor = (inputs[:, :3] > torch.tensor([0.0, 0.5, 1.2])).long()
    if not several:
        targets = targets.argmax(1)
    return make_source(Dataset("d", inputs, targets, NAMES), seed=0)


def run_of(source: Source, folder: Path) -> None:
    dal.run(
        source,
        MLP,
        Random(),
        initial=initial_labels(source.train.targets, seed=0, count=20),
        trainer=Trainer(epochs=20),
        settings=dal.Settings(budget=20, query_size=10, threads=1, figures=False),
        run_dir=folder,
        config={"seed": 0},
    )


@pytest.mark.parametrize("several", [True, False], ids=["several", "one"])
def test_every_label_with_what_the_last_model_is_worth_on_it(tmp_path: Path, several: bool) -> None:
    source = source_of(several)
    run_of(source, tmp_path)
    found = json.loads((tmp_path / "by_label.json").read_text())
    assert (found["round"], found["labels"]) == (2, 40)
    assert list(found["classes"]) == list(NAMES)
    assert source.test is not None
    predicted = dal.load(tmp_path).predict(source.test.inputs)
    said = [
        [int(name in row) for name in NAMES] if several else NAMES.index(str(row))
        for row in predicted
    ]
    wanted = precision_recall_fscore_support(
        source.test.targets.numpy(), said, labels=[0, 1, 2], zero_division=0
    )
    for column, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        shown = [found["classes"][name][column] for name in NAMES]
        assert shown == pytest.approx(values.tolist())
    known = [found["classes"][name]["known"] for name in NAMES]
    own = source.train.targets
    assert known == (own.sum(0) if several else torch.bincount(own)).tolist()
    with (tmp_path / "queries.csv").open(newline="") as file:
        asked = Counter(n for row in csv.DictReader(file) for n in row["label"].split(";"))
    start = own[initial_labels(own, seed=0, count=20)]
    initial = (start.sum(0) if several else torch.bincount(start, minlength=3)).tolist()
    labeled = [found["classes"][name]["labeled"] for name in NAMES]
    assert labeled == [n + asked[name] for n, name in zip(initial, NAMES, strict=True)]
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"tensors": 0}).Reload()
    curve = events.Scalars("4_test_by_label/f1/anger")
    assert [point.step for point in curve] == [20, 30, 40]
    assert curve[-1].value == pytest.approx(found["classes"]["anger"]["f1"])
    tables = events.Tensors("4_test_by_label/table/text_summary")
    assert "joy\\|fun" in tables[-1].tensor_proto.string_val[0].decode()


def test_the_worst_labels_come_first_and_the_rest_is_counted() -> None:
    found = {f"l{n}": {"support": n, "f1": n / 10, "threshold": 0.25} for n in (3, 1, 2)}
    found["l1"].pop("threshold")
    assert label_table(found, 2).splitlines() == [
        "| label | support | F1 | threshold |",
        "| --- | ---: | ---: | ---: |",
        "| l1 | 1 | 0.100 |  |",
        "| l2 | 2 | 0.200 | 0.250 |",
        "",
        "and 1 more of a higher F1: `by_label.json`",
    ]
    assert "more of" not in label_table(found, 3)
