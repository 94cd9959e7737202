"""What comes through pipes, from files and from Python objects, until it ends or breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dal.streams.coming import Incoming, Lines, Objects, incoming
from dal.utils.signals import PreemptedError


def nothing() -> None:
    """No signal has come."""


def pipe(folder: Path) -> Path:
    path = folder / "pipe"
    os.mkfifo(path)
    return path


def all_of(source: Incoming, most: int = 100) -> list[object]:
    found: list[object] = []
    while came := source.take(most, nothing):
        found += came
    source.close()
    return found


def test_a_file_is_read_line_by_line_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n\n" + b"x" * 100_000 + b"\nlast")
    lines = [b"one", b"two", b"", b"x" * 100_000, b"last"]
    assert all_of(Lines(path)) == lines
    again = Lines(path)
    assert again.again
    again.skip(3)
    assert all_of(again) == lines[3:]


def test_lines_of_a_pipe_are_given_as_they_come(tmp_path: Path) -> None:
    path = pipe(tmp_path)
    source = Lines(path)
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, b"one\ntwo\nthr")
    assert source.take(1, nothing) == [b"one", b"two"]
    os.write(writer, b"ee\n")
    assert source.take(1, nothing) == [b"three"]
    os.close(writer)
    assert source.take(1, nothing) == []
    assert not source.again


def test_a_pipe_is_waited_for_and_a_signal_ends_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = pipe(tmp_path)
    source, calls = Lines(path), list[float]()

    def check() -> None:
        calls.append(time.monotonic())
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        source.take(1, check)
    assert caplog.messages == [f"waiting for {path}"]
    writer = threading.Thread(target=lambda: path.write_bytes(b"late\n"))
    writer.start()
    assert all_of(source) == [b"late"]
    writer.join()


def test_half_a_line_of_a_pipe_that_breaks_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = pipe(tmp_path)
    source = Lines(path)
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, b"1.5,2.5\n1.5,2.")
    os.close(writer)
    assert all_of(source) == [b"1.5,2.5"]
    assert "ended within a line, which is left out: b'1.5,2.'" in caplog.text


def test_what_has_no_line_breaks_is_no_stream_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.streams.coming.LONGEST", 2**17)
    path = tmp_path / "lines"
    path.write_bytes(b"one\n" + b"x" * 2**17 + b"\nlast\n")
    assert [len(line) for line in all_of(Lines(path))] == [3, 2**17, 4]  # type: ignore[arg-type]
    endless = Lines("/dev/zero")
    with pytest.raises(ValueError, match=r"^/dev/zero gives a line of .* give a sample a line$"):
        endless.take(1, nothing)
    endless.close()


def test_where_there_is_nothing_to_read_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mkfifo"):
        Lines(tmp_path / "absent")
    with pytest.raises(ValueError, match="is a folder"):
        Lines(tmp_path)
    with pytest.raises(ValueError, match=r"^setting.arrivals is empty"):
        Lines("")


def test_what_gives_no_samples_is_refused() -> None:
    with pytest.raises(TypeError, match=r"setting\.arrivals=5; give a pipe, a file"):
        incoming(5)  # type: ignore[arg-type]


def test_a_generator_goes_on_and_a_list_begins_anew() -> None:
    numbers = iter(range(7))
    source = Objects(numbers)
    assert source.take(3, nothing) == [0, 1, 2]
    assert not source.again
    assert all_of(Objects(numbers)) == [3, 4, 5, 6]
    again = Objects([0, 1, 2, 3])
    assert again.again
    again.skip(3)
    assert all_of(again) == [3]


def test_a_connection_that_breaks_ends_the_stream_and_other_errors_are_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(error: Exception) -> Iterator[int]:
        yield 1
        raise error

    assert all_of(Objects(broken(ConnectionResetError("gone")))) == [1]
    assert "a generator broke (gone): the stream ends here" in caplog.text
    source = Objects(broken(KeyError("a mistake")))
    assert source.take(9, nothing) == [1]  # nothing that came is lost
    with pytest.raises(KeyError):
        source.take(9, nothing)


def test_objects_that_came_before_a_signal_are_given() -> None:
    calls = list[int]()

    def check() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise PreemptedError(15)

    source = Objects(iter(range(9)))
    assert source.take(9, check) == [0, 1]
    with pytest.raises(PreemptedError):
        source.take(9, check)
    assert source.take(2, nothing) == [2, 3]
