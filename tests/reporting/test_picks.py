"""Which samples were picked in which round, whenever and however often they were answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dal.reporting.picks import read_picks

HEADER = "round,index,score,label,sample\n"


def read(folder: Path, lines: str, rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    (folder / "queries.csv").write_text(HEADER + lines)
    return read_picks(folder / "queries.csv", rows)


def test_several_answers_are_one_pick_of_the_last_label(tmp_path: Path) -> None:
    lines = "0,4,0.5,cat,4\n0,4,0.5,dog,4\n0,5,0.25,?,5\n1,4,0.5,a cow,4\n1,6,0.1,cat,6\n"
    picks, scores = read(tmp_path, lines, [{"round": 0}, {"round": 1}])
    assert scores == {0: [0.5, 0.25], 1: [0.1]}
    assert picks == {0: {"a_cow": 1}, 1: {"cat": 1}}


def test_late_answers_belong_to_the_round_that_asked(tmp_path: Path) -> None:
    lines = "0,4,0.5,cat,4\n1,6,0.1,cat,6\n1,5,0.25,dog,5\n"
    picks, scores = read(tmp_path, lines, [{"round": 0, "query/open": [5, 9]}, {"round": 1}])
    assert scores == {0: [0.5, 0.25], 1: [0.1]}
    assert picks == {0: {"cat": 1, "dog": 1}, 1: {"cat": 1}}


def test_what_no_strategy_asked_for_is_no_pick(tmp_path: Path) -> None:
    assert read(tmp_path, "0,4,,cat,4\n", []) == ({}, {})
    assert read_picks(tmp_path / "nowhere.csv", []) == ({}, {})


@pytest.mark.parametrize("line", ["0,4,0.5,cat\n", "0,4,0.5,cat,4,5\n", "0,x,0.5,cat,4\n"])
def test_a_damaged_line_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        read(tmp_path, line, [])
