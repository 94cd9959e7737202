"""Oracles: the simulated one, and people who answer through files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dal.oracles import FilesOracle, SimulatedOracle
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


def test_simulated_refuses_unknown_labels() -> None:
    with pytest.raises(ValueError, match=r"training samples without label: 2, number 1 first"):
        SimulatedOracle(torch.tensor([0, -1, 2, -1]))


def test_file_lists_the_query_with_empty_labels(tmp_path: Path) -> None:
    ticket = FilesOracle(tmp_path / "answers", NAMES).submit(QUERY, 2)
    text = (tmp_path / "answers" / "round_0002.csv").read_text(encoding="utf-8")
    assert text.splitlines() == ["index,score,label", "8,0.9,", "3,0.5,", "5,0.25,"]
    assert json.loads(json.dumps(ticket)) == ticket


def test_waiting_until_every_label_is_there(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, NAMES)
    ticket = oracle.submit(QUERY, 2)
    assert oracle.collect(ticket) is None
    path = tmp_path / "round_0002.csv"
    path.write_text(rows("cat", " ", "dog"), encoding="utf-8")
    assert oracle.collect(ticket) is None
    path.write_text(rows("cat", "größe", "dog"), encoding="utf-8")
    assert oracle.collect(ticket) is not None


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


def test_a_name_counts_before_a_number(tmp_path: Path) -> None:
    oracle = FilesOracle(tmp_path, ("2", "0", "1"))
    ticket = oracle.submit(QUERY, 2)
    (tmp_path / "round_0002.csv").write_text(rows("2", "1", "0"), encoding="utf-8")
    answers = oracle.collect(ticket)
    assert answers is not None
    assert answers.targets.tolist() == [0, 2, 1]


@pytest.mark.parametrize("label", ["bird", "3", "-1", "1.0", "²", "Cat"])
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


def test_a_removed_file_is_named(tmp_path: Path) -> None:
    oracle, ticket = answered(tmp_path, rows("cat", "cat", "dog"))
    (tmp_path / "round_0002.csv").unlink()
    with pytest.raises(ValueError, match=r"round_0002\.csv cannot be read"):
        oracle.collect(ticket)


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
    assert oracle.collect(ticket) is None


@pytest.mark.parametrize("label", ["cat;fox", "3", "cat;?", "-;cat", ";", "cat;;dog", "cat,dog"])
def test_files_multilabel_wrong_names_are_named(tmp_path: Path, label: str) -> None:
    oracle, ticket = multilabel(tmp_path, f'"{label}"', "-", "-")
    message = "is not a class; give one of cat, dog, größe .several with ; between them., - where"
    with pytest.raises(ValueError, match=message):
        oracle.collect(ticket)


@pytest.mark.parametrize("label", ["-", "cat;dog"])
def test_files_one_class_a_sample_takes_no_sets(tmp_path: Path, label: str) -> None:
    oracle, ticket = answered(tmp_path, rows(label, "dog", "dog"))
    with pytest.raises(ValueError, match=r"is not a class; give one of cat, dog, größe, or \?"):
        oracle.collect(ticket)
