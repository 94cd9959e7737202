"""GoEmotions from its files: small ones made here, and the real ones where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dal.data import goemotions, make_source
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import TextStore
from dal.task import Multilabel

TRAIN = ["I am so happy today!\t0\tid1", "what a sad sad day\t1,2\tid2", "fine\t2\tid3"]
TEST = ["so sad\t1\tid4"]


def write(folder: Path, train: list[str] = TRAIN, test: list[str] = TEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.tsv").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "test.tsv").write_text("\n".join(test) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("joy\nsadness\nneutral", encoding="utf-8")
    return folder


@pytest.mark.parametrize("inside", [True, False])
def test_goemotions_texts_and_rows(tmp_path: Path, inside: bool) -> None:
    write(tmp_path / "multilabel_text" / "goemotions" if inside else tmp_path)
    dataset = goemotions(str(tmp_path), encoder=NGrams(min_texts=1))
    assert dataset.class_names == ("joy", "sadness", "neutral")
    assert dataset.targets.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert dataset.test_targets is not None
    assert dataset.test_targets.tolist() == [[0, 1, 0]]
    assert isinstance(dataset.inputs, TextStore)
    assert list(dataset.inputs.texts) == ["I am so happy today!", "what a sad sad day", "fine"]
    assert isinstance(dataset.test_inputs, TextStore)
    assert list(dataset.test_inputs.texts) == ["so sad"]
    source = make_source(dataset, seed=0)
    assert source.task == Multilabel(3)
    assert source.sizes == {"train": 3, "validation": 0, "test": 1}


def test_goemotions_quotes_and_odd_separators_are_text(tmp_path: Path) -> None:
    odd = ['"one\x85two\u2028three\t0\tid', *TRAIN]
    assert len(goemotions(str(write(tmp_path, odd))).targets) == 4


@pytest.mark.parametrize(
    "line", ["no label\tid", "text\t3\tid", "text\tjoy\tid", "text\t\tid", "text\t-1\tid", ""]
)
def test_goemotions_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    folder = write(tmp_path, [TRAIN[0], line, TRAIN[1]])
    with pytest.raises(ValueError, match=r"train\.tsv is damaged: line 2 must hold"):
        goemotions(str(folder))


def test_goemotions_that_is_no_text_is_damaged(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "test.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"test\.tsv is damaged: it is no text file"):
        goemotions(str(tmp_path))


def test_goemotions_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "multilabel_text" / "goemotions")
    (folder / "test.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks test\.tsv in .*multilabel_text") as caught:
        goemotions(str(tmp_path))
    assert str(folder) in str(caught.value)


def test_goemotions_real_files() -> None:
    root = os.environ.get("DAL_DATA_DIR")
    if root is None or not (Path(root) / "multilabel_text" / "goemotions").exists():
        pytest.skip("DAL_DATA_DIR does not name a folder with GoEmotions")
    dataset = goemotions(root)
    assert len(dataset.store) == 43_410
    assert dataset.test_store is not None
    assert dataset.test_targets is not None
    assert len(dataset.test_store) == 5_427
    assert len(dataset.class_names) == 28
    assert dataset.class_names[-1] == "neutral"
    sizes = torch.bincount(dataset.targets.sum(1))
    assert sizes.tolist() == [0, 36_308, 6_541, 532, 28, 1]
    assert torch.bincount(dataset.test_targets.sum(1)).tolist() == [0, 4_590, 774, 61, 2]
    assert dataset.targets[0].nonzero().tolist() == [[27]]
