"""Files that only grow."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dal.utils.journal import Journal
from dal.utils.safe_files import DamagedError

LINES = [f"line {number}\n" for number in range(9)]


def extend(journal: Journal, lines: Sequence[str], last: str = "") -> None:
    journal.extend(lambda first: lines[first:], last)


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("header", ["", "round,größe\n"])
def test_file_is_the_header_and_all_lines(tmp_path: Path, header: str, sync: bool) -> None:
    journal = Journal(tmp_path / "folder" / "a.txt", header, sync)
    for count in (0, 1, 1, 4, 9):
        extend(journal, LINES[:count])
        assert journal.path.read_text() == header + "".join(LINES[:count])


def test_last_line_is_replaced(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.txt")
    extend(journal, LINES[:2], "a long line that may still change\n")
    assert journal.path.read_text() == "".join(LINES[:2]) + "a long line that may still change\n"
    extend(journal, LINES[:2], "short\n")
    assert journal.path.read_text() == "".join(LINES[:2]) + "short\n"
    extend(journal, LINES[:3], "x\n")
    assert journal.path.read_text() == "".join(LINES[:3]) + "x\n"
    extend(journal, LINES[:3])
    assert journal.path.read_text() == "".join(LINES[:3])


def test_only_what_is_new_is_asked_for_and_written(tmp_path: Path) -> None:
    journal, asked = Journal(tmp_path / "a.txt"), []

    def entries(first: int) -> list[str]:
        asked.append(first)
        return LINES[first:3]

    extend(journal, LINES[:2])
    node = journal.path.stat().st_ino
    journal.extend(entries)
    assert asked == [2]
    assert journal.path.stat().st_ino == node


def test_marks_find_shorter_states_again(tmp_path: Path) -> None:
    journal, marks = Journal(tmp_path / "a.txt", "header\n"), []
    for count in range(4):
        extend(journal, LINES[:count], "unfinished\n")
        marks.append(journal.mark)
    fresh = Journal(tmp_path / "a.txt", "header\n")
    for count, mark in enumerate(marks):
        assert fresh.read(mark) == "".join(LINES[:count])
    fresh.take(LINES[:2])
    assert fresh.mark == marks[2]
    assert fresh.path.read_text() == "header\n" + "".join(LINES[:2])
    extend(fresh, LINES[:3])
    assert fresh.mark == marks[3]


def test_any_flipped_bit_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.txt", "header\n")
    extend(journal, LINES)
    content = journal.path.read_bytes()
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 1 << position % 8
        journal.path.write_bytes(altered)
        with pytest.raises(DamagedError, match=r"a\.txt is damaged"):
            journal.read(journal.mark)
    journal.path.write_bytes(content[:-1])
    with pytest.raises(DamagedError, match=r"a\.txt is damaged"):
        journal.read(journal.mark)
    journal.path.unlink()
    with pytest.raises(DamagedError, match=r"a\.txt cannot be read"):
        journal.read(journal.mark)


@pytest.mark.parametrize("damage", ["removed", "shortened", "altered"])
def test_file_is_whole_again_after_take(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path / "a.txt")
    extend(journal, LINES)
    if damage == "removed":
        journal.path.unlink()
    else:
        journal.path.write_text(LINES[0] if damage == "shortened" else "x" * 500)
    journal.take(LINES)
    assert journal.path.read_text() == "".join(LINES)


@pytest.mark.parametrize("damage", ["removed", "shortened"])
def test_file_that_somebody_removes_meanwhile_is_written_again(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path / "a.txt", "header\n")
    extend(journal, LINES[:5], "unfinished\n")
    if damage == "removed":
        journal.path.unlink()
    else:
        os.truncate(journal.path, 3)
    extend(journal, LINES[:6], "more\n")
    assert journal.path.read_text() == "header\n" + "".join(LINES[:6]) + "more\n"
    assert journal.read(journal.mark) == "".join(LINES[:6])


@pytest.mark.usefixtures("small_files_only")
def test_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.txt", sync=True)
    extend(journal, LINES)
    before = journal.mark
    with pytest.raises(OSError, match=r"the disk is full: a\.txt .* is intact: mend") as caught:
        extend(journal, [*LINES, "x" * 2**24 + "\n"])
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert journal.path.read_text() == "".join(LINES)
    assert journal.mark == before
    extend(journal, [*LINES, "y\n"])
    assert journal.path.read_text() == "".join([*LINES, "y\n"])
