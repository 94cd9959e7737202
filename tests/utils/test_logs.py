import logging
import warnings
from pathlib import Path

import pytest

from dal.utils.logs import log_to_console, log_to_file

log = logging.getLogger("dal.something")


def attached() -> list[tuple[list[logging.Handler], int, bool]]:
    loggers = [logging.getLogger(name) for name in ("dal", "py.warnings")]
    return [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]


def test_console_shows_messages_of_info_and_above(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_console():
        log.debug("a detail")
        log.info("a fact")
        log.warning("a warning")
        logging.getLogger("other").info("from elsewhere")
    log.info("afterwards")
    shown = capsys.readouterr()
    assert shown.out == "a fact\na warning\n"
    assert shown.err == ""


def test_file_gets_every_level_with_time_and_name(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    for text in ("première", "second"):
        with log_to_file(path):
            log.debug("%s", text)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "DEBUG dal.something: première",
        "DEBUG dal.something: second",
    ]


def test_warnings_are_logged_while_the_console_is_attached(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    with log_to_console(), log_to_file(path), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("beware", UserWarning, stacklevel=1)
    assert "beware" in path.read_text()


def test_loggers_are_left_as_they_were_even_after_an_error(tmp_path: Path) -> None:
    before = attached()
    with pytest.raises(KeyError), log_to_console(), log_to_file(tmp_path / "a.log"):
        raise KeyError
    assert attached() == before


def test_nested_blocks_write_each_line_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_to_console(), log_to_file(tmp_path / "a.log"):
        log.info("once")
    assert capsys.readouterr().out == "once\n"
    assert (tmp_path / "a.log").read_text().count("once") == 1


def test_a_full_disk_is_said_once_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with log_to_console(), log_to_file(Path("/dev/full")):
        for _ in range(3):
            log.info("goes on")
    shown = capfd.readouterr()
    assert shown.out.count("goes on\n") == 3
    assert shown.out.count("/dev/full lacks lines, it cannot be written (No space left") == 1
    assert shown.err == ""


def test_what_a_full_disk_refused_only_at_the_end_is_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with log_to_console(), log_to_file(Path("/dev/full")):
        log.debug("waits")
        log.debug("waits")
    assert capfd.readouterr().out.count("lacks lines") == 1
