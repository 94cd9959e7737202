"""Files are read as the training data of a model were, or refused with what it takes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dal.data import table
from dal.data.images.decode import VERSION, Decoding, decode
from dal.data.reading import Block, inputs_like

IMAGES = {"kind": "images", "size": 8, "fit": "crop", "channels": 3, "version": VERSION}
ARRAYS = (
    r"the model learned from arrays; give an .npz or .npy file of inputs like those "
    r"\(numpy.save\), or of their features where"
)
PICTURES = "the model learned from pictures; give a folder"
TABLES = "the model learned from a table; give one with its columns"


def whole(blocks: Iterable[Block]) -> tuple[list[str], Tensor, dict[int, str]]:
    """All names, inputs and faults of some blocks."""
    names: list[str] = []
    inputs: list[Tensor] = []
    faults: dict[int, str] = {}
    for block in blocks:
        faults |= {len(names) + row: why for row, why in block.faults.items()}
        names += block.names
        if block.inputs is not None:
            assert isinstance(block.inputs, Tensor)
            inputs.append(block.inputs)
    return names, torch.cat(inputs), faults


def pictures(folder: Path, names: list[str]) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return paths


def test_arrays_are_read_for_any_model(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x_train=array, y_train=np.arange(7), more=np.zeros(2))
    for name in ("a.npy", "a.npz"):
        for recipe in (None, IMAGES):
            samples = inputs_like(recipe, tmp_path / name)
            names, inputs, faults = whole(samples.read(3))
            assert (samples.title, samples.count, faults) == ("row", 7, {})
            assert names == [str(row) for row in range(7)]
            assert inputs.tolist() == array.tolist()
    np.savez(tmp_path / "b.npz", pictures=array)
    with pytest.raises(ValueError, match=r"b\.npz: it lacks the key 'inputs' .*it holds pictures"):
        inputs_like(None, tmp_path / "b.npz")
    np.save(tmp_path / "labels.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"has shape \(3,\); save features as \(N, D\)"):
        inputs_like(None, tmp_path / "labels.npy")
    np.save(tmp_path / "one.npy", np.array(7.0))
    np.savez(tmp_path / "one.npz", inputs=np.array(7.0))
    for name in ("one.npy", "one.npz"):
        with pytest.raises(ValueError, match=r"has shape \(\); save features as \(N, D\)"):
            inputs_like(None, tmp_path / name)


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    path = tmp_path / "train.csv"
    path.write_text("id,age,color,y\n1,30,red,a\n2,40,blue,b\n3,,red,a\n")
    return table(str(path), "y", id="id", missing="fill").recipe


def test_tables_are_read_by_their_recipe(
    tmp_path: Path, recipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text(
        '{"color": "red", "age": 1.5, "id": "x"}\n{"color": "green", "age": null, "id": "y"}\n'
        '{"color": "blue", "age": "old", "id": "z"}\n{"color": "", "age": 2, "id": "z"}\n'
    )
    samples = inputs_like(recipe, path)
    names, inputs, faults = whole(samples.read(3))
    assert (samples.title, samples.count) == ("id", None)
    assert names == ["x", "y", "z", "z"]
    assert inputs.tolist() == [[1.5, 0, 1], [35, 0, 0], [2, 0, 1]]
    assert faults == {2: "'old' in the column 'age' is no number"}
    assert "1 rows of" in caplog.text
    assert "something in the column 'color' that no training row has" in caplog.text


def test_rows_with_gaps_are_faults_where_gaps_were_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("age,color,y\n30,red,a\n40,blue,b\n")
    recipe = table(str(path), "y").recipe
    path.write_text("age,color\n,red\n30,\n30,blue\n")
    names, inputs, faults = whole(inputs_like(recipe, path).read(10))
    assert names == ["0", "1", "2"]
    assert inputs.tolist() == [[30, 1, 0]]
    assert faults == {0: "the column 'age' is empty", 1: "the column 'color' is empty"}


def test_a_table_that_lacks_columns_is_refused(tmp_path: Path, recipe: Any) -> None:
    path = tmp_path / "new.csv"
    path.write_text("Age,color\n30,red\n")
    samples = inputs_like(recipe, path)
    assert samples.title == "row"  # without the column of ids
    with pytest.raises(ValueError, match=r"new\.csv: it lacks the column age, .*it has Age, color"):
        whole(samples.read(3))


def test_pictures_are_decoded_as_those_of_the_run(tmp_path: Path) -> None:
    names = ["a.png", "b/c.png", "b/ä.png", "z.png"]
    paths = pictures(tmp_path / "photos", names)
    (tmp_path / "photos" / "b" / "damaged.jpg").write_bytes(b"no picture")
    (tmp_path / "photos" / "notes.txt").write_text("no picture either")
    how = Decoding(8, "crop", 3)
    expected = torch.stack([torch.from_numpy(decode(p.read_bytes(), how)) for p in paths])
    samples = inputs_like(IMAGES, tmp_path / "photos")
    found, inputs, faults = whole(samples.read(2))
    assert (samples.title, samples.count) == ("file", 5)
    assert found == ["a.png", "b/c.png", "b/damaged.jpg", "b/ä.png", "z.png"]
    assert list(faults) == [2]
    assert torch.equal(inputs, expected)
    assert not (Path(os.environ["DAL_CACHE_DIR"]) / "images").exists()

    one = whole(inputs_like(IMAGES, paths[1]).read(9))
    assert one[0] == ["c.png"]
    assert torch.equal(one[1], expected[1:2])
    some = whole(inputs_like(IMAGES, [paths[3], str(paths[0]), tmp_path / "gone.png"]).read(9))
    assert some[0] == [str(path) for path in (paths[3], paths[0], tmp_path / "gone.png")]
    assert torch.equal(some[1], expected[[3, 0]])
    assert list(some[2]) == [2]
    listing = tmp_path / "photos" / "list.csv"
    listing.write_text("file_name,label\nz.png,x\nb/ä.png,\n")
    listed = whole(inputs_like(IMAGES, listing).read(9))
    assert listed[0] == ["z.png", "b/ä.png"]
    assert torch.equal(listed[1], expected[[3, 2]])


def test_a_reader_may_stop_within_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{n}.png" for n in range(9)])
    blocks = inputs_like(IMAGES, tmp_path).read(2)
    assert next(blocks).names == ["0.png", "1.png"]
    blocks.close()  # type: ignore[attr-defined]


def test_pictures_of_another_decoder_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = pictures(tmp_path, ["a.png"])
    whole(inputs_like(IMAGES | {"version": "an older one"}, path).read(1))
    assert "those that the model learned from were by an older one" in caplog.text


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("arrays", "folder", f"folder is a folder, but {ARRAYS}"),
        ("arrays", "train.csv", f"train.csv is a file .csv, but {ARRAYS}"),
        ("table", "folder", f"folder is a folder, but {TABLES}"),
        ("table", "a.png", f"a.png is a file .png, but {TABLES}"),
        ("images", "a.pdf", f"a.pdf is a file .pdf, but {PICTURES}"),
        ("images", "folder", "folder holds no pictures"),
        ("images", "train.csv", "train.csv has no column file_name"),
        ("table", "gone.csv", f"gone.csv does not exist; {TABLES}"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    tmp_path: Path, recipe: Any, kind: str, name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    pictures(tmp_path, ["a.png"])
    (tmp_path / "a.pdf").touch()
    recipes = {"arrays": None, "table": recipe, "images": IMAGES}
    error = FileNotFoundError if "exist" in message else ValueError
    with pytest.raises(error, match=message):
        inputs_like(recipes[kind], tmp_path / name)


def test_a_list_is_one_of_pictures(recipe: Any) -> None:
    with pytest.raises(ValueError, match=f"a list of files was given, but {TABLES}"):
        inputs_like(recipe, ["a.csv", "b.csv"])
