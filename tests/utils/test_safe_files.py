import os
from pathlib import Path
from typing import IO

import pytest

from dal.utils.safe_files import remove_temporary, write_atomically, write_text_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [True, False])
def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "a.txt"
    for text in ("one, longer", "zwölf"):
        write_text_atomically(path, text, sync)
        assert path.read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_leaves_the_file_before(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "before")

    def half(file: IO[bytes]) -> None:
        file.write(b"half")
        assert path.read_text() == "before"
        raise error

    with pytest.raises(error):
        write_atomically(path, half)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["missing/a.txt", "x" * 250, "folder"])
def test_errors_name_the_file_that_was_asked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=rf"{name}'$"):
        write_text_atomically(tmp_path / name, "text")
    assert names(tmp_path) == ["folder"]


def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "a.txt", []
    real = os.fsync

    def fsync(handle: int) -> None:
        events.append(path.exists())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, lambda file: file.write(b"x"))
    assert events == [False, True]


def test_remove_temporary_takes_only_its_own(tmp_path: Path) -> None:
    for name in (".a.txt.12.tmp", "a.tmp", ".hidden", "a.txt"):
        (tmp_path / name).touch()
    remove_temporary(tmp_path)
    assert names(tmp_path) == [".hidden", "a.tmp", "a.txt"]


def test_remove_temporary_takes_only_those_of_some_files(tmp_path: Path) -> None:
    for name in (".a.txt.12.tmp", ".b.txt.12.tmp", "a.txt"):
        (tmp_path / name).touch()
    remove_temporary(tmp_path, "a")
    assert names(tmp_path) == [".b.txt.12.tmp", "a.txt"]
