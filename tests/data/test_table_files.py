"""Tables in files: recognized as programs save them, or refused by file and line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from dal.data.table_files import read_blocks, read_table

WRITTEN = {"name": ["größe", "b, c", "two\nlines"], "n": ["1.50", "", "007"]}
TABLES = {
    "a.csv": 'name,n\ngröße,1.50\n"b, c",\n"two\nlines",007\n'.encode(),
    "excel.csv": '\ufeffname;n;;\r\ngröße;1.50;;\r\n"b, c";;;\r\n"two\nlines";007\r\n'.encode(),
    "sep.txt": 'sep=;\r\nname;n\r\ngröße;1.50\r\n\r\nb, c;\r\n"two\nlines";007'.encode(),
    "tabs.tsv": 'name\tn\ngröße\t1.50\nb, c\t\n"two\nlines"\t007\n'.encode("utf-16"),
    "commas.csv": '"name","n"\n"größe","1.50"\n"b, c",""\n"two\nlines","007"\n'.encode(),
    "a.jsonl": (
        '{"name": "größe", "n": 1.50}\n\n{"name": "b, c", "n": null}\n'
        '{"n": "007", "name": "two\\nlines"}\n'
    ).encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_programs_save_is_recognized(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(TABLES[name])
    table = read_table(path)
    assert table == WRITTEN
    assert list(table) == ["name", "n"]


def test_cells_are_kept_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('file, label \n a.png,"say ""cat"""\n=1+1,-\n')
    assert read_table(path) == {"file": [" a.png", "=1+1"], "label": ['say "cat"', "-"]}


def test_a_table_of_one_column_needs_no_separator(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("file\na b.png\nc.png\n")
    assert read_table(path) == {"file": ["a b.png", "c.png"]}


def test_keys_that_come_late_or_are_missing_are_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    rows: list[dict[str, object]] = [
        {"a": 1},
        {"a": True, "b": "x"},
        {},
        {"c": 12345678901234567890},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = {
        "a": ["1", "true", "", ""],
        "b": ["", "x", "", ""],
        "c": ["", "", "", "12345678901234567890"],
    }
    assert read_table(path) == expected


def test_blocks_are_the_whole_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{n},{n * n}\n" for n in range(10)))
    blocks = list(read_blocks(path, 4))
    assert [len(block["a"]) for block in blocks] == [4, 4, 2]
    assert [cell for block in blocks for cell in block["b"]] == read_table(path)["b"]


def test_parquet_is_read_as_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {
        "whole": pa.array([1, None, 3]),
        "real": pa.array([0.1, 2.5, 1e20]),
        "narrow": pa.array([0.1, None, 0.25], pa.float32()),
        "text": ["x", "", None],
        "is": [True, False, None],
        "word": pa.array(["q", "q", "r"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    assert read_table(path) == {
        "whole": ["1", "", "3"],
        "real": ["0.1", "2.5", "1e+20"],
        "narrow": ["0.1", "", "0.25"],
        "text": ["x", "", ""],
        "is": ["true", "false", ""],
        "word": ["q", "q", "r"],
    }
    parquet.write_table(pa.table({"a": [[1, 2], [3]]}), path)
    with pytest.raises(ValueError, match=r"a\.parquet, the column 'a' holds list"):
        read_table(path)
    parquet.write_table(pa.table({"a": ["x"] * 3000 + ["x\0"]}), path)
    with pytest.raises(ValueError, match=r"a\.parquet, the column 'a' holds a NUL .* in row 3001"):
        read_table(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.parquet, damaged"):
        read_table(path)


REFUSED = {
    "too many.csv": (b"a,b\n1,2\n3,4,5\n", "line 3: 3 cells for 2 columns"),
    "twice.csv": (b"\na,b,a\n1,2,3\n", "line 2: two columns are named 'a'; rename one"),
    "nameless.csv": (b",a\n0,1\n", r"line 1: column 1 has no name; .*index=False"),
    "behind.csv": (b"a,b,\n0,1,\n0,1,2\n", "line 3: '2' stands in a column without a name"),
    "open.csv": (b'a,b\n0,1\n"0,1\n2,3\n', "line 4: unexpected end.*row begins in line 3"),
    "either.csv": (b"a,b;c\n1,2;3\n", "line 1: 'a,b;c' may be divided by commas or by semicolons"),
    "latin.csv": ("a;b\n1;2\nß;ü\n".encode("cp1252"), "line 3: no UTF-8"),
    "no mark.csv": ("a;b\n1;2\n".encode("utf-16-le"), "line 1: no text; save .*UTF-8"),
    "nul.csv": (b"a,b\n1,x\n2,x\0\n", "line 3: no text; save .*NUL"),
    "nul.txt": (b'sep=;\na;b\n1;"x\n\0"\n', "line 4: no text; save .*NUL"),
    "nul.jsonl": (b'{"a": "x"}\n{"a": "x\\u0000"}\n', "line 2: 'a' holds a NUL character"),
    "half.jsonl": (b'{"a": "\\ud83d\\ude00"}\n{"a": "\\ud800"}\n', "line 2: 'a' holds .*surrogate"),
    "deep.jsonl": (b'{"a": 1}\n{"a": ' + b"[" * 10**5, "line 2: values within values"),
    "header.csv": (b"a,b\n", "holds no rows"),
    "empty.csv": (b"", "holds no rows"),
    "broken.jsonl": (b'{"a": 1}\n{"a": \n', "line 2: no JSON"),
    "list.jsonl": (b"[1]\n", r"line 1: '\[1\]' is no object"),
    "nested.jsonl": (
        b'{"a": 1}\n\n{"a": {"b": 1}}\n',
        "line 3: 'a' holds other values; write one text",
    ),
    "key.jsonl": (b'{"a": 1, "a": 2}\n', "line 1: two columns are named 'a'"),
    "a.xlsx": (b"PK", "is no kind of table that can be read; save it as one of .csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_meant_otherwise_is_refused_by_line(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}(, | ){message}"):
        read_table(path)


def test_parquet_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[parquet\]", or save the table as'):
        read_table(path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.csv does not exist"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="is a folder"):
        read_table(tmp_path)
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv is no regular file; save"):
        read_table(tmp_path / "a.csv")
