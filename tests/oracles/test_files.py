"""Oracles: the simulated one, and people who answer through files."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.data import Dataset, make_source
from dal.oracles import FilesOracle, SimulatedOracle
from dal.pool import REJECTED
from dal.query import Query

NAMES = ("cat", "dog", "größe")
QUERY = Query(torch.tensor([8, 3, 5]), torch.tensor([0.9, 0.5, 0.25]))


def answered(folder: Path, text: str, encoding: str = "utf-8") -> tuple[FilesOracle, dict]:
    oracle = FilesOracle(folder, NAMES)
    ticket = oracle.submit(QUERY, 2)
    (folder / "round_0002.csv").write_text(text, encoding=encoding)
    return oracle, ticket


def rows(*labels: str) -> str:
    lines = [f"{i},0.5,{label}" for i, label in zip([8, 3, 5], labels, strict=True)]
    return "\n".join(["index,score,label", *lines, ""])


def test_simulated_answers_in_the_order_of_the_query() -> None:
    oracle = SimulatedOracle(torch.arange(10) * 10)
    answers = oracle.collect(json.loads(json.dumps(oracle.submit(QUERY, 0))))
    assert answers.indices.tolist() == [8, 3, 5]
    assert answers.targets.tolist() == [80, 30, 50]
    assert answers.abstained.tolist() == [False] * 3
    assert answers.cost.tolist() == [1.0] * 3
    assert answers.seconds is answers.annotators is None


def test_simulated_refuses_unknown_labels() -> None:
    with pytest.raises(ValueError, match=r"training samples without label: 2, number 1 first"):
        SimulatedOracle(torch.tensor([0, -1, 2, -1]))


def test_file_lists_the_query_with_empty_labels(tmp_path: Path) -> None:
    ticket = FilesOracle(tmp_path / "answers", NAMES).submit(QUERY, 2)
    text = (tmp_path / "answers" / "round_0002.csv").read_text(encoding="utf-8")
    assert text.splitlines() == ["index,score,label", "8,0.9,", "3,0.5,", "5,0.25,"]
    assert json.loads(json.dumps(ticket)) == ticket


def test_the_answers_so_far_are_those_of_the_rows_that_have_a_label(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, NAMES)
    ticket = oracle.submit(QUERY, 2)
    assert oracle.collect(ticket) is None
    path = tmp_path / "round_0002.csv"
    path.write_text(rows("cat", " ", "dog"), encoding="utf-8")
    assert collected(oracle, ticket) == [(8, 0, "files"), (5, 1, "files")]
    path.write_text(rows("cat", "größe", "dog"), encoding="utf-8")
    assert collected(oracle, ticket) == [(8, 0, "files"), (3, 2, "files"), (5, 1, "files")]


def collected(oracle: FilesOracle, ticket: dict, again: bool = False) -> list[tuple[int, Any, str]]:
    answers = oracle.revisit(ticket) if again else oracle.collect(ticket)
    assert answers is not None
    assert answers.annotators is not None
    assert answers.seconds is not None
    assert len(answers.seconds) == len(answers.cost) == len(answers.abstained)
    told = zip(
        answers.indices.tolist(), answers.targets.tolist(), answers.annotators, strict=True
    )  # fmt: skip
    return list(told)


def test_none_of_these_classes_is_an_answer_and_no_abstention(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("-", "?", "dog"))
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist() == [REJECTED, -1, 1]
    assert answers.abstained.tolist() == [False, True, False]


def test_a_class_may_be_named_by_a_dash(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, ("+", "-"))
    ticket = oracle.submit(QUERY, 2)
    (tmp_path / "round_0002.csv").write_text(rows("-", "+", "-"))
    assert [target for _, target, _ in collected(oracle, ticket)] == [1, 0, 1]


def test_rows_of_different_annotators_are_several_answers(tmp_path: Path) -> None:
    text = "index,label,annotator\n8,cat,eva\n3,,\n8,dog,max\n3,cat,eva\n5,dog,\n8,?,\n"
    oracle, ticket = answered(tmp_path, text)
    assert collected(oracle, ticket) == [
        (8, 0, "eva"), (8, 1, "max"), (8, -1, "files"), (3, 0, "eva"), (5, 1, "files")
    ]  # fmt: skip
    (tmp_path / "round_0002.csv").write_text(text + "8,cat,max\n")
    with pytest.raises(ValueError, match=r"line 8: index 8 was .* 1 times and answered by 'max'"):
        oracle.collect(ticket)


def test_a_row_is_written_for_each_annotator_wanted(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, NAMES, annotators_per_sample=2)
    ticket = oracle.submit(QUERY, 2)
    path = tmp_path / "round_0002.csv"
    assert path.read_text().splitlines() == [
        "index,score,label,annotator", "8,0.9,,", "8,0.9,,", "3,0.5,,", "3,0.5,,", "5,0.25,,",
        "5,0.25,,",
    ]  # fmt: skip
    assert oracle.answers_per_sample == 2
    assert oracle.collect(ticket) is None
    path.write_text("index,label,annotator\n8,cat,eva\n8,dog,max\n3,cat,eva\n3,,\n5,,\n5,,\n")
    assert collected(oracle, ticket) == [(8, 0, "eva"), (8, 1, "max"), (3, 0, "eva")]
    with pytest.raises(ValueError, match=r"oracle\.annotators_per_sample=0; give at least 1"):
        FilesOracle(tmp_path, NAMES, annotators_per_sample=0)


def test_earlier_files_are_read_again_where_they_changed(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", "", "dog"))
    path = tmp_path / "round_0002.csv"
    assert collected(oracle, ticket, again=True) == [(8, 0, "files"), (5, 1, "files")]
    path.write_text(rows("dog", "cat", "dog"))
    assert [target for _, target, _ in collected(oracle, ticket, again=True)] == [1, 0, 1]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("text", [None, "index,label\n8,cat\n", "index,label\n8,fox\n3,\n5,\n"])
def test_an_earlier_file_that_is_lost_is_warned_about_once_and_not_rewritten(
    tmp_path: Path, text: str | None, several: bool, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = FilesOracle(tmp_path, NAMES, multilabel=several)
    ticket, path = oracle.submit(QUERY, 2), tmp_path / "round_0002.csv"
    path.unlink() if text is None else path.write_text(text)
    for _ in range(2):
        answers = oracle.revisit(ticket)
        assert answers.targets.shape == ((0, 3) if several else (0,))
    assert caplog.text.count("what it said before stands") == 1
    assert path.exists() == (text is not None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_are_names_numbers_or_question_marks(tmp_path: Path, encoding: str) -> None:
    oracle, ticket = answered(tmp_path, rows(" größe ", "?", "1"), encoding)
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [8, 3, 5]
    assert answers.abstained.tolist() == [False, True, False]
    assert answers.targets[~answers.abstained].tolist() == [2, 1]
    assert answers.cost.tolist() == [1.0] * 3


def test_rows_may_be_sorted_and_gain_columns(tmp_path: Path) -> None:
    text = "index,label,remark\n3,dog,blurred\n\n5,cat,\n8,2,x\n"
    oracle, ticket = answered(tmp_path, text)
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [8, 3, 5]
    assert answers.targets.tolist() == [2, 1, 0]


def test_annotators_and_seconds_come_with_the_answers(tmp_path: Path) -> None:
    text = "index,label,annotator,seconds\n3,dog,eva,2.5\n5,cat,,\n8,?,max,0\n"
    oracle, ticket = answered(tmp_path, text)
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.annotators == ["max", "eva", "files"]
    assert answers.seconds is not None
    assert answers.seconds.tolist() == pytest.approx([0.0, 2.5, math.nan], nan_ok=True)


def test_a_name_counts_before_a_number(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, ("2", "0", "1"))
    ticket = oracle.submit(QUERY, 2)
    (tmp_path / "round_0002.csv").write_text(rows("2", "1", "0"), encoding="utf-8")
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist() == [0, 2, 1]


NUMERIC = {
    "ratings": ("1", "2", "3", "4", "5"),
    "beyond": ("5", "6", "7"),
    "one only": ("cat", "dog", "7"),
    "decimal comma": ("cat", "dog", "0,5"),
    "signed": ("cat", "dog", "-1"),
    "half": ("cat", "dog", "½"),
}


@pytest.mark.parametrize("kind", NUMERIC)
@pytest.mark.parametrize("label", ["0", "01", "2.0"])
def test_no_number_is_taken_where_a_name_looks_like_one(
    tmp_path: Path, kind: str, label: str
) -> None:
    names = NUMERIC[kind]
    for multilabel in (False, True):
        oracle = FilesOracle(tmp_path, names, multilabel=multilabel)
        ticket = oracle.submit(QUERY, 2)
        given = zip([8, 3, 5], (names[0], names[2], label), strict=True)
        lines = "".join(f'{index},"{name}"\n' for index, name in given)
        (tmp_path / "round_0002.csv").write_text(f"index,label\n{lines}", encoding="utf-8")
        with pytest.raises(ValueError, match=rf"label '{label}' in line 4 is not a class"):
            oracle.collect(ticket)


@pytest.mark.parametrize("label", ["bird", "3", "-1", "1.0", "²", "Cat", "01", "1_0", "+1", "１"])
def test_a_label_that_is_no_class_is_refused(tmp_path: Path, label: str) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", label, "dog"))
    with pytest.raises(ValueError, match=r"round_0002\.csv: label .* give one of cat, dog"):
        oracle.collect(ticket)


BROKEN: dict[str, Callable[[str], str]] = {
    "row missing": lambda text: text.replace("3,0.5,cat\n", ""),
    "row added": lambda text: text + "4,0.5,cat\n",
    "row twice": lambda text: text + "3,0.5,dog\n",
    "other index": lambda text: text.replace("3,", "4,"),
    "index no number": lambda text: text.replace("3,", "three,"),
    "no label column": lambda text: text.replace("label", "answer"),
    "no header": lambda text: text.partition("\n")[2],
    "empty": lambda text: "",
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_file_of_other_rows_is_refused(tmp_path: Path, change: str) -> None:
    whole = rows("cat", "cat", "dog")
    assert BROKEN[change](whole) != whole
    oracle, ticket = answered(tmp_path, BROKEN[change](whole))
    with pytest.raises(ValueError, match=r"round_0002\.csv"):
        oracle.collect(ticket)


def test_rows_that_were_not_asked_for_are_named_by_line(tmp_path: Path) -> None:
    for change, message in (
        ("row added", "line 5: index 4 was asked for 0 times"),
        ("row twice", "line 5: index 3 was asked for 1 times"),
        ("row missing", "the row of index 3 is missing"),
    ):
        oracle, ticket = answered(tmp_path, BROKEN[change](rows("cat", "cat", "dog")))
        with pytest.raises(ValueError, match=message):
            oracle.collect(ticket)
        (tmp_path / "round_0002.csv").unlink()


@pytest.mark.parametrize("text", [
    "index,score,label\n8,0.9,fox,dog\n3,0.5,cat\n5,0.25,cat\n",
    "index;score;label\n8;0,9;cat;dog\n3;0,5;cat\n5;0,25;cat\n",
    "index,label,label\n8,cat,dog\n3,cat,dog\n5,cat,dog\n",
])  # fmt: skip
def test_cells_too_many_are_refused_and_the_file_stays_usable(tmp_path: Path, text: str) -> None:
    oracle, ticket = answered(tmp_path, text)
    path = tmp_path / "round_0002.csv"
    with pytest.raises(ValueError, match=r"round_0002\.csv, line [12]: .*mend that line"):
        oracle.collect(ticket)
    assert path.read_text(encoding="utf-8") == text
    path.write_text(rows("cat", "dog", "cat"), encoding="utf-8")
    assert oracle.collect(ticket) is not None


def test_answers_for_copies_of_a_sample_are_all_kept(tmp_path: Path) -> None:
    positions = torch.arange(5).repeat(2)
    oracle = FilesOracle(tmp_path, NAMES, positions)
    ticket = oracle.submit(QUERY, 2)
    path = tmp_path / "round_0002.csv"
    path.write_text("index,label\n0,dog\n3,cat\n3,größe\n", encoding="utf-8")
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.indices.tolist() == [8, 3, 5]
    assert answers.targets.tolist() == [0, 2, 1]


def test_a_wrong_label_is_refused_before_all_are_there(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", "brid", ""))
    with pytest.raises(ValueError, match="label 'brid' in line 3 is not a class"):
        oracle.collect(ticket)


def test_wrong_labels_are_named_all_at_once(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("catt", "", "brid"))
    with pytest.raises(ValueError, match="2 labels are not classes: 'catt' in line 2, 'brid' in l"):
        oracle.collect(ticket)


def test_many_class_names_are_not_all_listed(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, tuple(f"class {number}" for number in range(5000)))
    ticket = oracle.submit(QUERY, 2)
    (tmp_path / "round_0002.csv").write_text(rows("class 7", "fox", ""))
    with pytest.raises(ValueError, match=r"class 19, \.\.\. \(5000 in all\), or \?"):
        oracle.collect(ticket)


def test_waiting_says_how_many_labels_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", "", ""))
    with caplog.at_level("INFO"):
        oracle.collect(ticket)
    assert "round_0002.csv: 2 of 3 labels are missing" in caplog.text


PROBS = torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75], [1.0, 0.0, 0.0]])


def shown(folder: Path, **options: Any) -> list[list[str]]:
    """The cells of the file that a query with probabilities makes."""
    oracle = FilesOracle(folder, NAMES, **options)
    oracle.submit(replace(QUERY, probs=PROBS), 2)
    with (folder / "round_0002.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, strict=True))


def test_file_shows_the_guess_and_its_probability(tmp_path: Path) -> None:
    assert shown(tmp_path) == [
        ["index", "guess", "probability", "score", "label"],
        ["8", "dog", "0.5000", "0.9", ""],
        ["3", "größe", "0.7500", "0.5", ""],
        ["5", "cat", "1.0000", "0.25", ""],
    ]
    # Spreadsheet programs need the mark to know UTF-8.
    assert (tmp_path / "round_0002.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_file_shows_the_guessed_set_of_labels(tmp_path: Path) -> None:
    assert [row[1:3] for row in shown(tmp_path, multilabel=True)] == [
        ["guess", "probability"],
        ["-", "0.2812"],  # 0.75 * 0.5 * 0.75
        ["größe", "0.5742"],  # 0.875 * 0.875 * 0.75
        ["cat", "1.0000"],
    ]


def test_file_without_guesses(tmp_path: Path) -> None:
    assert shown(tmp_path, guess=False)[0] == ["index", "score", "label"]
    assert not FilesOracle(tmp_path, NAMES, guess=False).wants_probs
    assert FilesOracle(tmp_path, NAMES).wants_probs


def test_file_shows_file_names_or_texts(tmp_path: Path) -> None:
    texts = [f'sample {number}, "so"' for number in range(40)]
    dataset = Dataset(
        "mine", torch.randn(40, 2), torch.arange(40) % 3, NAMES, contents=texts
    )  # fmt: skip
    source = make_source(dataset, seed=0)
    oracle = FilesOracle(tmp_path, NAMES, source.train.positions)
    oracle.open(source)
    oracle.submit(QUERY, 2)
    with (tmp_path / "round_0002.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["content"] for row in found] == [texts[int(row["index"])] for row in found]
    assert list(found[0]) == ["index", "content", "score", "label"]
    with pytest.raises(ValueError, match="mine has contents of 39 samples and 40 samples"):
        make_source(replace(dataset, contents=texts[1:]), seed=0)


def test_files_of_three_columns_are_still_taken(tmp_path: Path) -> None:
    """As they were written before there were guesses; people have begun to fill them in."""
    path = tmp_path / "round_0002.csv"
    text = "index,score,label\n8,0.9,cat\n3,0.5,\n5,0.25,1\n"
    path.write_text(text)
    oracle = FilesOracle(tmp_path, NAMES)
    ticket = oracle.submit(replace(QUERY, probs=PROBS), 2)
    assert path.read_text() == text
    path.write_text(text.replace("0.5,", "0.5,?"))
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist() == [0, -1, 1]


def test_submitting_again_keeps_what_people_wrote(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", "cat", "dog"))
    assert FilesOracle(tmp_path, NAMES).submit(QUERY, 2) == ticket
    assert (tmp_path / "round_0002.csv").read_text(encoding="utf-8") == rows("cat", "cat", "dog")
    oracle.submit(QUERY, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_0002.csv", "round_0003.csv"]


def test_simulated_answers_with_rows_of_labels() -> None:
    rows_of = (torch.arange(30) % 2).view(10, 3)
    oracle = SimulatedOracle(rows_of)
    answers = oracle.collect(oracle.submit(QUERY, 0))
    assert torch.equal(answers.targets, rows_of[[8, 3, 5]])
    rows_of[4] = -1
    with pytest.raises(ValueError, match=r"training samples without label: 1, number 4 first"):
        SimulatedOracle(rows_of)


def multilabel(folder: Path, *labels: str) -> tuple[FilesOracle, dict]:
    oracle = FilesOracle(folder, NAMES, multilabel=True)
    ticket = oracle.submit(QUERY, 2)
    (folder / "round_0002.csv").write_text(rows(*labels), encoding="utf-8")
    return oracle, ticket


@pytest.mark.parametrize(
    ("label", "target"),
    [
        ("cat", [1, 0, 0]),
        ("größe;cat", [1, 0, 1]),
        (" größe ; cat ;", [1, 0, 1]),
        ("0;2", [1, 0, 1]),
        ("dog;1", [0, 1, 0]),
        ("-", [0, 0, 0]),
    ],
)
def test_files_multilabel_answers_are_rows(tmp_path: Path, label: str, target: list[int]) -> None:
    oracle, ticket = multilabel(tmp_path, label, "?", "dog")
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.dtype == torch.int64
    assert answers.targets.tolist() == [target, [-1, -1, -1], [0, 1, 0]]
    assert answers.abstained.tolist() == [False, True, False]


def test_files_multilabel_empty_label_is_still_waited_for(tmp_path: Path) -> None:
    oracle, ticket = multilabel(tmp_path, "cat", "", "-")
    assert collected(oracle, ticket) == [(8, [1, 0, 0], "files"), (5, [0, 0, 0], "files")]


@pytest.mark.parametrize("label", ["cat;fox", "3", "cat;?", "-;cat", ";", "cat;;dog", "cat,dog"])
def test_files_multilabel_wrong_names_are_named(tmp_path: Path, label: str) -> None:
    oracle, ticket = multilabel(tmp_path, f'"{label}"', "-", "-")
    message = "is not a class; give one of cat, dog, größe .several with ; between them., - where"
    with pytest.raises(ValueError, match=message):
        oracle.collect(ticket)


def test_files_one_class_a_sample_takes_no_sets(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("cat;dog", "dog", "dog"))
    with pytest.raises(ValueError, match=r"is not a class; give one of cat, dog, größe, or \?"):
        oracle.collect(ticket)


def test_a_question_whose_file_is_gone_is_asked_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {n}" for n in range(40)]
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8)
    source = make_source(
        Dataset("mine", images, torch.arange(40) % 3, NAMES, contents=texts), seed=0
    )
    positions = source.train.positions
    for round_number, name in ((-1, "initial_0001"), (2, "round_0002")):
        oracle = FilesOracle(tmp_path / name, NAMES, positions, pictures=True)
        oracle.open(source)
        ticket = json.loads(json.dumps(oracle.submit(QUERY, round_number)))
        path = tmp_path / name / f"{name}.csv"
        path.write_text("index,label\nx,cat\n")
        with pytest.raises(ValueError, match=r"or move the file away to be asked anew"):
            oracle.collect(ticket)
        path.unlink()
        path.with_suffix(".png").unlink()
        caplog.clear()
        assert oracle.collect(ticket) is None
        assert f"{path} was gone and is written anew" in caplog.text
        assert path.with_suffix(".png").exists()
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        assert list(found[0]) == ["index", "content", "label"]
        assert [int(row["index"]) for row in found] == positions[QUERY.indices].tolist()
        assert [row["content"] for row in found] == [texts[int(row["index"])] for row in found]
        lines = [f"{row['index']},dog" for row in found]
        path.write_text("\n".join(["index,label", *lines]))
        answers = oracle.collect(ticket)
        assert answers is not None
        assert answers.indices.tolist() == QUERY.indices.tolist()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    oracle = FilesOracle(tmp_path, NAMES)
    ticket = oracle.submit(QUERY, 2)
    path = tmp_path / "round_0002.csv"
    path.unlink()
    make(path)
    for ask in (lambda: oracle.collect(ticket), lambda: oracle.submit(QUERY, 2)):
        with pytest.raises(ValueError, match=r"round_0002\.csv is no regular file; move it away"):
            ask()
