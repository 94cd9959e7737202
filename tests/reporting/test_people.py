"""Who answered, in reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from dal.reporting.records import RunError
from dal.reporting.report import Options, collect, write


def person(**changes: Any) -> dict[str, Any]:
    usual = {"answers": 10, "abstained": 0, "rejected": 0, "cost": 10.0, "seconds": 0, "timed": 0}
    usual |= {"right": 0, "known": 0, "agreed": 0, "shared": 0, "confusion": [], "quality": None}
    return usual | changes


def report_of(saved: Path, *people: dict[str, Any] | None) -> str:
    for seed, found in enumerate(people):
        folder = write_run(saved, "margin", seed, [0.5, 0.6])
        if found is not None:
            (folder / "people.json").write_text(json.dumps(found))
    return write(collect([saved], Options()), saved.parent / "report", Options()).read_text()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


def test_people_are_summed_over_runs(saved: Path) -> None:
    errors = [["cat", "cat", 6], ["dog", "cat", 2]]
    ann = person(timed=4, seconds=10.0, agreed=6, shared=8, right=7, known=10, confusion=errors)
    bob = person(answers=5, cost=2.5, abstained=2, quality=0.5)
    all_of_one = {"several": 8, "alpha": 0.25, "right": 9, "known": 10}
    first = {"people": {"ann": ann | {"quality": 0.8}, "bob": bob}, **all_of_one}
    second = {"people": {"ann": ann | {"quality": 0.7}}, **all_of_one, "alpha": None}
    text = report_of(saved, first, second)
    assert "16 samples have answers of several people" in text
    assert "Krippendorff's alpha of their answers is 0.25" in text
    assert "90.0% are the data's own (20 known)" in text
    assert "| ann | 20 |  | 20 | 2.5 | 75.0% | 0.75 | 70.0% | dog → cat (4) |" in text
    assert "| bob | 5 | 2 | 2.5 |  |  | 0.50 |  |  |" in text
    assert "none of these" not in text


def test_nothing_is_said_where_the_simulator_alone_answered(saved: Path) -> None:
    assert "Who answered" not in report_of(saved, None, None)


def test_one_person_who_was_not_compared(saved: Path) -> None:
    alone = {"people": {"ann": person()}, "several": 0, "alpha": None, "right": 0, "known": 0}
    text = report_of(saved, alone)
    assert "Who answered, summed over runs.\n\n| annotator | answers | cost |" in text


@pytest.mark.parametrize("damage", ["{", "[]", '{"people": {"ann": {}}}'])
def test_a_damaged_record_is_named(saved: Path, damage: str) -> None:
    folder = write_run(saved, "margin", 0, [0.5, 0.6])
    (folder / "people.json").write_text(damage)
    with pytest.raises(RunError, match=r"people\.json is damaged; delete it"):
        write(collect([saved], Options()), saved.parent / "report", Options())
