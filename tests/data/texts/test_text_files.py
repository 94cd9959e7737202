"""Texts of one's own from files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from dal.data import Dataset, make_source, text
from dal.data.texts.ngrams import NGrams
from dal.data.texts.stores import TextStore

CSV = 'text,label\nI am happy,joy\n"sad, so ""sad""",grief\nhappy day,joy\nsad day,\n'


def write(folder: Path, name: str, content: str, encoding: str = "utf-8") -> str:
    (folder / name).write_text(content, encoding=encoding)
    return str(folder / name)


def texts_of(store: object) -> list[str]:
    assert isinstance(store, TextStore)
    return list(store.texts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_of_texts_and_one_label(tmp_path: Path, encoding: str) -> None:
    dataset = text(write(tmp_path, "mine.csv", CSV, encoding), "label")
    assert texts_of(dataset.inputs) == ["I am happy", 'sad, so "sad"', "happy day", "sad day"]
    assert dataset.class_names == ("grief", "joy")
    assert dataset.targets.tolist() == [1, 0, 1, -1]
    assert dataset.name == "mine"
    source = make_source(dataset, seed=0, kind="none")
    assert source.content(3) == source.train.show(3) == "sad day"


def test_several_columns_of_text_are_joined_by_an_empty_line(tmp_path: Path) -> None:
    rows = [{"title": "A", "body": "b\r\nc", "y": "1"}, {"title": "", "body": "d", "y": "2"}]
    path = write(tmp_path, "mine.jsonl", "\n".join(map(json.dumps, rows)))
    assert texts_of(text(path, "y", ["title", "body"]).inputs) == ["A\n\nb\r\nc", "d"]


def test_several_labels_with_semicolons_and_as_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "text\tlabel\nx y\tjoy;grief\ny z\t-\nz x\tjoy\nx\t\n")
    dataset = text(path, "label")
    assert dataset.targets.tolist() == [[1, 1], [0, 0], [0, 1], [-1, -1]]
    path = write(tmp_path, "b.csv", "text,joy,grief\nx y,1,0\ny z,1,1\n")
    dataset = text(path, ["joy", "grief"])
    assert dataset.class_names == ("joy", "grief")
    assert dataset.targets.tolist() == [[1, 0], [1, 1]]


def test_parts_by_a_column_by_files_and_in_a_folder_are_the_same(tmp_path: Path) -> None:
    head = "text,label,part\n"
    rows = {"train": "a b,x,train\nb c,y,train\n", "test": "c d,x,test\n", "dev": "d e,y,dev\n"}
    one = write(tmp_path, "one.csv", head + "".join(rows.values()))
    folder = tmp_path / "folder"
    folder.mkdir()
    files = [write(folder, f"{name}.csv", head + own) for name, own in rows.items()]
    found = [
        text(one, "label", split="part"),
        text(files[0], "label", test_path=files[1], validation_path=files[2]),
        text(str(folder), "label"),
    ]
    for dataset in found:
        assert texts_of(dataset.inputs) == ["a b", "b c"]
        assert texts_of(dataset.test_inputs) == ["c d"]
        assert texts_of(dataset.validation_inputs) == ["d e"]
        assert dataset.validation_targets is not None
        assert dataset.validation_targets.tolist() == [1]
    source = make_source(found[2], seed=0)
    assert source.sizes == {"train": 2, "test": 1, "validation": 1}


def test_a_folder_that_is_not_clear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder without a file train\.csv"):
        text(str(tmp_path), "label")
    write(tmp_path, "train.csv", CSV)
    write(tmp_path, "test.jsonl", '{"text": "a", "label": "joy"}')
    with pytest.raises(ValueError, match=r"files of several kinds \(test\.jsonl, train\.csv\)"):
        text(str(tmp_path), "label")
    write(tmp_path, "training.csv", CSV)
    with pytest.raises(ValueError, match=r"train\.csv and training\.csv, both train"):
        text(str(tmp_path), "label")
    with pytest.raises(ValueError, match=r"leave data\.test_path"):
        text(str(tmp_path), "label", test_path="x.csv")


def test_a_text_a_line_is_a_pool_without_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "pool.txt", "first, with a comma\n\nthird \u2028 still\n")
    dataset = text(path, None, class_names=["a", "b"])
    assert texts_of(dataset.inputs) == ["first, with a comma", "", "third \u2028 still"]
    assert dataset.targets.tolist() == [-1, -1, -1]
    path = write(tmp_path, "table.txt", "text\tlabel\nx y\ta\ny z\tb\n")
    assert texts_of(text(path, "label").inputs) == ["x y", "y z"]
    with pytest.raises(ValueError, match="is empty"):
        text(write(tmp_path, "none.txt", ""), None, class_names=["a", "b"])


def test_archives_of_strings(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, texts=["x y", "y z"], targets=["a", "b"], test_texts=["z"], test_targets=["a"])
    dataset = text(str(path), None)
    assert texts_of(dataset.inputs) == ["x y", "y z"]
    assert texts_of(dataset.test_inputs) == ["z"]
    assert dataset.targets.tolist() == [0, 1]
    for setting in ("split", "id", "test_path", "target"):
        with pytest.raises(ValueError, match=rf"targets and test part; set data\.{setting}=null"):
            text(str(path), **{"target": None, setting: "part"})  # type: ignore[arg-type]
    np.savez(path, inputs=np.zeros((2, 3)), targets=["a", "b"])
    with pytest.raises(ValueError, match="save texts as an array of strings"):
        text(str(path), None)


def test_names_of_texts_stand_before_them(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label,key\nx y,a,k1\ny z,b,k2\n")
    dataset = text(path, "label", id="key")
    assert list(dataset.contents or ()) == ["k1: x y", "k2: y z"]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (CSV, {"text": "txet"}, r"no column 'txet'; did you mean 'text'\? set data\.text"),
        (CSV, {"id": "key"}, r"no column 'key'; set data\.id"),
        (CSV, {"target": "x"}, r"no column 'x'; set data\.target"),
        (CSV, {"text": "label"}, r"data\.text and data\.target both name 'label'"),
        (CSV, {"split": "label"}, r"data\.split names 'label', which holds texts, labels or names"),
        (CSV, {"text": []}, r"data\.text names no column"),
        ("text,label\n1.5,a\n2,b\n", {}, r"the column 'text' holds numbers, such as 1\.5"),
        ("text,label\nx\0y,a\n", {}, "NUL"),
        ('text,label\n"x,a\n', {}, "line"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_remedy(
    tmp_path: Path, content: str, settings: dict[str, str], message: str
) -> None:
    path = write(tmp_path, "mine.csv", content)
    with pytest.raises(ValueError, match=message) as caught:
        text(path, **{"target": "label", **settings})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_bad_letters_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist"):
        text(str(tmp_path / "none.csv"), "label")
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\nschön,a\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"line 2: no UTF-8"):
        text(str(path), "label")
    path = tmp_path / "half.jsonl"
    path.write_text('{"text": "\\ud800", "label": "a"}\n')
    with pytest.raises(ValueError, match=r"line 1: 'text' holds a NUL character or half"):
        text(str(path), "label")


def test_odd_texts_are_said_in_a_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["text,label", "x y,a", '" ",a', "x y,b", "y z,a", "x y ,a", ",b"]
    path = write(tmp_path, "mine.csv", "\n".join(rows))
    test = write(tmp_path, "test.csv", "text,label\nw,a\ny z,a\n")
    text(path, "label", test_path=test)
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 4
    assert "2 of 6 train texts are empty, the first in row 2" in lines[0]
    assert "2 of 6 train texts stand there before, the first in the rows 1 and 3" in lines[1]
    assert (
        "1 of these texts have other labels than before, the first in the rows 1 and 3"
        in (lines[2])
    )
    assert (
        "1 of 2 test texts are train texts too, the first is row 2, which is train row 4"
        in (lines[3])
    )


def test_labels_that_no_training_row_has_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "mine.csv", "text,label\nx y,a\ny z,b\n")
    test = write(tmp_path, "test.csv", "text,label\nw,c\nv,a\nv,c\n")
    text(path, "label", test_path=test)
    assert "test rows have labels that no train row has (c), so no model" in caplog.text
    caplog.clear()
    text(write(tmp_path, "some.csv", "text,label\nx y,a\ny z,b\nz,\n"), "label", test_path=test)
    assert "no train row has" not in caplog.text  # the unlabeled row may have it
    head = "text,a,b\n"
    path = write(tmp_path, "many.csv", head + "x y,1,0\ny z,0,0\n")
    text(path, ["a", "b"], test_path=write(tmp_path, "many2.csv", head + "w,1,1\n"))
    assert "no train row has (b)" in caplog.text


def test_a_text_of_a_megabyte_is_read_and_makes_no_row_as_long(tmp_path: Path) -> None:
    long = " ".join(f"w{n}" for n in range(150_000))
    path = write(tmp_path, "mine.csv", f"text,label\n{long},a\n{long} x,b\nx y,a\n")
    dataset = text(path, "label", encoder=NGrams())
    source = make_source(dataset, seed=0, kind="none")
    assert source.input_shape == {"terms": (2048,), "weights": (2048,)}


def test_lists_of_texts_are_a_data_set() -> None:
    dataset = Dataset("mine", ["x y", "y z", "z x"], ["a", "b", ""])  # type: ignore[arg-type]
    assert texts_of(dataset.inputs) == ["x y", "y z", "z x"]
    assert list(dataset.contents or ()) == ["x y", "y z", "z x"]
    assert dataset.targets.tolist() == [0, 1, -1]
    with pytest.raises(TypeError, match="inputs row 1 is None, no text"):
        Dataset("mine", ["x y", None], ["a", "b"])  # type: ignore[arg-type, list-item]
    with pytest.raises(ValueError, match="inputs row 0 holds a NUL character or half"):
        Dataset("mine", ["\ud83d", "x"], ["a", "b"])  # type: ignore[arg-type]


def test_inputs_depend_on_the_training_texts_alone_and_not_on_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\nx y,a\ny z,b\nx y,a\n")
    other = write(tmp_path, "b.csv", "text,label\nx y,b\ny z,a\nx y,b\n")
    test = write(tmp_path, "test.csv", "text,label\nx y q q q,a\n")
    one = make_source(text(path, "label"), seed=0, kind="none")
    two = make_source(text(other, "label", test_path=test), seed=0)
    for name, tensor in one.train.take(torch.arange(3)).items():  # type: ignore[union-attr]
        assert torch.equal(tensor, two.train.take(torch.arange(3))[name])  # type: ignore[index]
    assert one.vocab_size == two.vocab_size


HEAD = "text,label\n"
ROWS = "good day,a\nbad day,b\n"
BAD = {
    "no_mark.csv": ((HEAD + ROWS).encode("utf-16-le"), "line 1: no text; save the file as"),
    "wide.csv": ((HEAD + ROWS).encode("utf-32"), "line 1: no text; save the file as"),
    "two_marks.csv": (f"\ufeff\ufeff{HEAD}{ROWS}".encode(), "no column 'text'; did you mean"),
    "half.csv": (HEAD.encode() + b"a \xed\xa0\x80,a\n", "line 2: no UTF-8; save the file as"),
    "binary.csv": (bytes(range(128, 256)) * 9, "line 1: no UTF-8; save the file as"),
    "open.csv": (f'{HEAD}"never closed,a\n{ROWS}'.encode(), "the row begins in line 2"),
    "quotes.csv": (f'{HEAD}"he said "hi"",a\n'.encode(), "line 2: ',' expected after"),
    "comma.csv": (f"{HEAD}hello, you,a\n".encode(), "must stand in double quotes"),
    "one.csv": (f"{HEAD}x,a\ny,a\n".encode(), r"fewer than 2 classes \(a\)"),
    "none.csv": (HEAD.encode(), "holds no rows; give a table with"),
    "empty.csv": (b"", "holds no rows; give a table with"),
    "list.jsonl": (b'{"text": ["a", "b"], "label": "a"}', "line 1: 'text' holds other values"),
    "lists.jsonl": (b'{"text": "a", "label": ["a", "b"]}', "several labels with ; between them"),
    "array.jsonl": (b'[{"text": "a"}]', "is no object; write one a line"),
    "numbers.jsonl": (b'{"text": 1, "label": "a"}\n', "holds numbers, such as 1, and no texts"),
    "whole.json": (b'[{"text": "a"}]', "is no kind of table that can be read; save it as"),
    "packed.npz": (b"\x80\x04K\x01.", r"truncated, or no \.npz archive"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line_that_names_them(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    target = None if name.endswith(".npz") else "label"
    with pytest.raises(ValueError, match=message) as caught:
        text(str(tmp_path / name), target)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archives_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    path = tmp_path / "mine.npz"
    np.savez(path, texts=np.array(["a", Trap()], dtype=object), targets=["a", "b"])
    with pytest.raises(ValueError, match=r"key 'texts' cannot be read.*not as objects"):
        text(str(path), None)
    assert not (tmp_path / "sprung").exists()
    np.savez(path, texts=np.array([b"a", b"b"]), targets=["a", "b"])
    with pytest.raises(ValueError, match="save texts as an array of strings"):
        text(str(path), None)


def test_line_ends_and_missing_keys_are_no_fault(tmp_path: Path) -> None:
    for ends in ("\r\n", "\r"):
        (tmp_path / "a.csv").write_bytes((HEAD + ROWS).replace("\n", ends).encode())
        assert texts_of(text(str(tmp_path / "a.csv"), "label").inputs) == ["good day", "bad day"]
    rows = '{"text": "a", "label": "x"}\n{"label": "y"}\n{"text": null, "label": "x"}\n'
    assert texts_of(text(write(tmp_path, "b.jsonl", rows), "label").inputs) == ["a", "", ""]
