"""Lines and objects that arrive become the inputs that files of the same rows become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dal.data import Dataset, Source, make_source, text
from dal.data import table as own_table
from dal.data.lines import Parser
from dal.data.reading import inputs_like

TABLE = "id,size,color,kind\n" + "".join(
    f"r{n},{n / 4},{'red' if n % 2 else 'blue'},{'a' if n % 3 else 'b'}\n" for n in range(20)
)
ROWS = "id,size,color\nx,7.5,red\ny,,blue\nz,1e3,green\n"
TEXTS = "text,label\n" + "".join(f"word{n % 4} more words {n},{'ab'[n % 2]}\n" for n in range(20))


def table(folder: Path, **options: Any) -> Source:
    path = folder / "table.csv"
    path.write_text(TABLE)
    options = {"target": "kind", "id": "id", "missing": "fill", **options}
    return make_source(own_table(str(path), **options), seed=0)


def texts(folder: Path) -> Source:
    path = folder / "texts.csv"
    path.write_text(TEXTS)
    return make_source(text(str(path), target="label"), seed=0)


def arrays(inputs: Tensor) -> Source:
    return make_source(Dataset("d", inputs, torch.arange(len(inputs)) % 2, ("a", "b")), seed=0)


def lines(written: str) -> list[bytes]:
    return [line.encode() for line in written.splitlines()]


def test_rows_are_what_a_file_of_them_is(tmp_path: Path) -> None:
    source = table(tmp_path)
    path = tmp_path / "new.csv"
    path.write_text(ROWS)
    (block,) = inputs_like(source.recipe, path).read(100)
    assert isinstance(block.inputs, Tensor)
    came = Parser(source).lines(lines(ROWS), 1)
    assert isinstance(came.inputs, Tensor)
    assert torch.equal(came.inputs, block.inputs)
    assert came.cells == {
        "id": ["x", "y", "z"],
        "size": ["7.5", "", "1e3"],
        "color": ["red", "blue", "green"],
    }
    names = ("id", "size", "color")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in ROWS.splitlines()[1:]]
    for found in (
        Parser(source).lines([json.dumps(row).encode() for row in rows], 1),
        Parser(source).objects(rows, 1),
    ):
        assert isinstance(found.inputs, Tensor)
        assert torch.equal(found.inputs, block.inputs)
        assert found.cells == came.cells


def test_the_header_is_kept_and_may_come_again(tmp_path: Path) -> None:
    parser = Parser(table(tmp_path))
    first, *rest = lines(ROWS)
    assert parser.lines([first], 1).inputs is None
    assert parser.head == first.decode()
    other = Parser(table(tmp_path))
    other.head = parser.head
    one, two = parser.lines(rest, 2), other.lines([first, *rest], 1)
    assert isinstance(one.inputs, Tensor)
    assert isinstance(two.inputs, Tensor)
    assert torch.equal(one.inputs, two.inputs)


def test_another_writers_header_says_which_cell_is_which_from_then_on(tmp_path: Path) -> None:
    parser = Parser(table(tmp_path))
    came = parser.lines(lines("size,color\n1,red\ncolor;note;size\nred;size, color;2\n"), 1)
    assert not came.faults
    assert came.cells["size"] == ["1", "2"]
    assert came.cells["color"] == ["red", "red"]
    assert parser.head == "color;note;size"
    came = parser.lines(lines("size;color;size\n"), 5)  # no header, and no row
    assert [*came.faults] == [0]


def test_lines_that_are_no_rows_are_told_and_left_out(tmp_path: Path) -> None:
    parser = Parser(table(tmp_path, missing="fill"))
    given = lines("size,color\n1,red\n1,red,2\nbig,red\n\n2,blue\n")
    came = parser.lines([*given, b"\xff,red", b'{"other": 1}', b'{"size": [1]}'], 1)
    assert isinstance(came.inputs, Tensor)
    assert len(came.inputs) == 2
    assert list(came.faults) == [2, 6, 7, 8, 3]
    assert "line 3: 3 cells for 2 columns" in came.faults[2]
    assert came.faults[6] == "line 7: no UTF-8"
    assert "none of the columns size, color" in came.faults[7]
    assert "holds other values" in came.faults[8]
    assert "no number" in came.faults[3]
    with pytest.raises(ValueError, match="line 1: it lacks the columns color"):
        Parser(table(tmp_path)).lines([b"size,kind"], 1)


@pytest.mark.parametrize("written", ["one word0 text\nmore\n", "text\none word0 text\nmore\n"])
def test_texts_are_a_line_each_or_a_column(tmp_path: Path, written: str) -> None:
    source = texts(tmp_path)
    parser = Parser(source)
    came = parser.lines(lines(written), 1)
    assert came.inputs == ["one word0 text", "more"]
    store = parser.encode(came.inputs)
    assert store.show(0) == "one word0 text"
    assert store.spec == source.train.store.spec
    assert Parser(source).objects(["one word0 text", "more"], 1).inputs == came.inputs
    assert Parser(source).objects([3], 5).faults == {0: "sample 5: 3 is no text; give a str"}


def test_numbers_are_samples_of_an_array() -> None:
    parser = Parser(arrays(torch.rand(20, 3)))
    came = parser.lines([b"1, 2,3.5", b"[1, 2, 3.5]", b"1,2", b"1,x,3", b"[1,"], 1)
    assert isinstance(came.inputs, Tensor)
    assert came.inputs.tolist() == [[1, 2, 3.5]] * 2
    assert came.inputs.dtype == torch.float32
    assert "shape (2,)" in came.faults[2]
    assert came.faults[3] == "line 4: 'x' is no number"
    assert "no list" in came.faults[4]


def test_pixels_stay_pixels() -> None:
    parser = Parser(arrays(torch.randint(0, 256, (20, 1, 2, 2), dtype=torch.uint8)))
    given = [np.array([[[0, 255], [3, 4]]]), torch.tensor([0, 255, 3, 4])]
    came = parser.objects(given, 1)
    assert isinstance(came.inputs, Tensor)
    assert came.inputs.dtype == torch.uint8
    assert came.inputs.flatten(1).tolist() == [[0, 255, 3, 4]] * 2
    wrong = [[0, 256, 3, 4], [0, 0.5, 3, 4], [[0, 1], [3, 4]], "text", None]
    came = parser.objects([*wrong, [1, 2, 3, 4]], 7)
    said = [came.faults[place].partition(":")[0] for place in range(5)]
    assert said == [f"sample {number}" for number in range(7, 12)]
    assert isinstance(came.inputs, Tensor)
    assert came.inputs.flatten().tolist() == [1, 2, 3, 4]
