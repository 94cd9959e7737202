"""Tables of answers as spreadsheet programs save them: recognized, or refused by line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dal.oracles.table import read_answers

WRITTEN = [(8, "größe"), (3, ""), (5, "a, b")]
TABLES = {
    "as written": b'index,score,label\n8,0.9,gr\xc3\xb6\xc3\x9fe\n3,0.5,\n5,0.25,"a, b"\n',
    "CRLF, mark": (
        b'\xef\xbb\xbfindex,score,label\r\n8,0.9,gr\xc3\xb6\xc3\x9fe\r\n3,0.5,\r\n5,0.25,"a, b"\r\n'
    ),
    "semicolons, decimal commas": (
        "index;score;label\r\n8;0,9;größe\r\n3;0,5;\r\n5;0,25;a, b\r\n".encode()
    ),
    "sep line": "sep=;\r\nindex;score;label\r\n8;0,9;größe\r\n3;0,5;\r\n5;0,25;a, b".encode(),
    "sep line for commas": 'sep=,\nindex,score,label\n8,0.9,größe\n3,0.5,\n5,0.25,"a, b"'.encode(),
    "tabs, UTF-16": (
        "index\tscore\tlabel\r\n8\t0,9\tgröße\r\n3\t0,5\t\r\n5\t0,25\ta, b\r\n".encode("utf-16")
    ),
    "old Macintosh": "index;score;label\r8;0,9;größe\r3;0,5;\r5;0,25;a, b\r".encode(),
    "all quoted": '"index","label"\n"8","größe"\n"3",""\n"5","a, b"\n'.encode(),
    "empty lines and cells": (
        '\nIndex , label ,,\n8, größe ,,\n,,,\n\n3,,,\n5,"a, b"\n'.encode()  # short last line
    ),
    "other columns and order": (
        'label,content,index\ngröße,x.png,8\n,,3\n"a, b",\'t is,5\n'.encode()
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_programs_save_is_recognized(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "round_0000.csv"
    path.write_bytes(TABLES[kind])
    assert [(row.index, row.label) for row in read_answers(path)] == WRITTEN


def test_annotators_and_seconds_are_read_where_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "round_0000.csv"
    path.write_text("Seconds;index;label; annotator\n2,5;8;a; eva \n;3;b;\n0;5;;max\n")
    rows = read_answers(path)
    assert [(row.label, row.annotator) for row in rows] == [("a", "eva"), ("b", ""), ("", "max")]
    seconds = [row.seconds for row in rows]
    assert seconds == pytest.approx([2.5, math.nan, 0.0], nan_ok=True)
    path.write_text("index,label\n8,a\n")
    (row,) = read_answers(path)
    assert row.annotator == ""
    assert math.isnan(row.seconds)


def test_rows_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "round_0000.csv"
    path.write_text("sep=;\nindex;label\n\n8;a\n3;b\n")
    assert [row.line for row in read_answers(path)] == [4, 5]


REFUSED = {
    "unquoted comma": ("index,score,label\n8,0.9,joy\n3,0.5,joy,fear\n", "line 3: 4 cells for 3"),
    "empty surplus cell": ("index,score,label\n8,0,9,\n", "line 2: 4 cells for 3 columns"),
    "unquoted semicolon": ("index;label\n8;joy;fear\n", "line 2: 3 cells.*holds a semicolon must"),
    "cell without a column": ("index,label,,\n8,joy,fear,\n", "line 2: 'fear' stands in a column"),
    "label twice": ("index,label,label\n8,cat,dog\n", "line 1: .*column label 2 times"),
    "Label twice": ("index,label,Label\n8,cat,dog\n", "line 1: .*column label 2 times"),
    "index twice": ("index,index,label\n8,9,dog\n", "line 1: .*column index 2 times"),
    "open quote": ('index,label\n8,"cat\n3,dog\n', "line 3: unexpected end of data"),
    "quote inside": ('index,label\n8,"cat"dog\n', "line 2: ',' expected after '\"'"),
    "sep line of another": ("sep=;\nindex,label\n8,cat\n", "line 2: .*column index 0 times"),
    "both separators": ("index,score,label;\n8,0.9,;cat\n", "line 1: .*with commas"),
    "no header": ("8,cat\n", "line 1: '8,cat' does not name the columns index and label"),
    "nothing": ("", "line 1: '' does not name"),
    "no number": ("index,label\n8,cat\n3.0,dog\n", "line 3: '3.0' in the column index is no whole"),
    "annotator twice": (
        "index,label,annotator,Annotator\n8,cat,a,b\n",
        "line 1: .*annotator 2 times",
    ),
    "negative seconds": (
        "index,label,seconds\n8,cat,2\n3,dog,-1\n",
        "line 3: '-1' in the column seconds is no number of 0 or more; mend that line",
    ),
    "seconds as text": (
        "index;label;seconds\n8;cat;0:35\n",
        "line 2: '0:35' in the column seconds",
    ),
    "seconds no number": ("index,label,seconds\n8,,nan\n", "line 2: 'nan' in the column seconds"),
    "endless seconds": ("index,label,seconds\n8,,inf\n", "line 2: 'inf' in the column seconds"),
    "other digits": ("index,label\n٣,cat\n", "line 2: '٣' in the column index"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_could_be_meant_otherwise_is_refused_by_line(tmp_path: Path, kind: str) -> None:
    text, message = REFUSED[kind]
    path = tmp_path / "round_0000.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"round_0000\.csv, {message}"):
        read_answers(path)
    assert path.read_text(encoding="utf-8") == text


def test_another_encoding_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "round_0000.csv"
    path.write_bytes("index;label\n8;cat\n3;größe\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"line 3: no UTF-8; save the file as 'CSV UTF-8'"):
        read_answers(path)
