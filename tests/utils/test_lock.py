import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waiting import completed, join

from dal.recording.run_directory import RunDirectory, read_status
from dal.reporting.states import read_state
from dal.utils.lock import STALE_AFTER, LockedError, RunLock, held

HERE = socket.gethostname()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        with pytest.raises(LockedError, match=rf'"pid": {os.getpid()}.*wait for it, or stop it'):
            RunLock(tmp_path / "run").__enter__()
        with pytest.raises(LockedError):
            RunLock(tmp_path / "run").__enter__()
    with RunLock(tmp_path / "run"):
        pass


def test_lock_tells_host_process_and_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    for _ in range(2):
        with RunLock(tmp_path):
            holder = json.loads((tmp_path / "run.lock").read_text())
            assert (holder["pid"], holder["job"]) == (os.getpid(), "4711")


def test_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["flock", "no_flock"])
def test_refused_run_directory_writes_nothing(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "no_flock":
        request.getfixturevalue(kind)
    with RunDirectory(tmp_path):
        before = content(tmp_path)
        with pytest.raises(LockedError), RunDirectory(tmp_path):
            pass
        assert content(tmp_path) == before
        assert read_status(tmp_path)["status"] == "running"


@pytest.mark.usefixtures("no_flock")
def test_fresh_heartbeat_is_refused_and_left_alone(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
        assert (tmp_path / "run.heartbeat").exists()
    assert not (tmp_path / "run.heartbeat").exists()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(("age", "taken"), [(STALE_AFTER - 30, False), (STALE_AFTER + 30, True)])
def test_stale_heartbeat_is_taken_over(tmp_path: Path, age: float, taken: bool) -> None:
    heartbeat = tmp_path / "run.heartbeat"
    heartbeat.touch()
    then = time.time() - age
    os.utime(heartbeat, (then, then))
    if not taken:
        with pytest.raises(LockedError, match="an unknown process"):
            RunLock(tmp_path).__enter__()
        return
    with RunLock(tmp_path):
        assert time.time() - heartbeat.stat().st_mtime < 30


def left_by(folder: Path, program: str) -> None:
    """Make the heartbeat that another process leaves, on a file system without ``flock``."""
    code = f"""
import errno, fcntl, os, pathlib, signal
from dal.utils.lock import RunLock
def flock(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
lock = RunLock(pathlib.Path({str(folder)!r}))
lock.__enter__()
{program}
"""
    completed([sys.executable, "-c", code], check=False)


@pytest.mark.usefixtures("no_flock")
def test_killed_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    left_by(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert (tmp_path / "run.heartbeat").exists()
    assert held(tmp_path, HERE) is False
    with RunLock(tmp_path):
        with pytest.raises(LockedError, match="counts as dead 300 s after its last heartbeat"):
            RunLock(tmp_path).__enter__()
        assert held(tmp_path, HERE) is None


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"pid": os.getpid(), "started": "1"}, True),  # the number is another process's now
        ({"pid": os.getpid()}, False),
        ({"pid": 1, "started": ""}, False),
        ({"host": "elsewhere"}, False),
        ({"boot": "before"}, False),  # or another machine of the same name
        ({"namespace": "pid:[1]"}, False),  # another container
        ({"pid": 10**30}, False),
    ],
)
def test_only_a_process_that_is_surely_gone_is_replaced(
    tmp_path: Path, changes: dict[str, object], taken: bool
) -> None:
    with RunLock(tmp_path):
        mine = json.loads((tmp_path / "run.heartbeat").read_text())
    gone = mine | {"pid": 2**22 + 1}
    (tmp_path / "run.heartbeat").write_text(json.dumps(gone | changes))
    if not taken:
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
        return
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "run.heartbeat").read_text()) == mine


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(("ahead", "taken"), [(STALE_AFTER - 30, False), (1e8, True)])
def test_heartbeat_dated_ahead_does_not_lock_forever(
    tmp_path: Path, ahead: float, taken: bool
) -> None:
    (tmp_path / "run.heartbeat").touch()
    os.utime(tmp_path / "run.heartbeat", (time.time() + ahead,) * 2)
    if not taken:
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
        assert {p.name for p in tmp_path.iterdir()} == {"run.heartbeat", "run.lock"}
        return
    with RunLock(tmp_path):
        assert abs(time.time() - (tmp_path / "run.heartbeat").stat().st_mtime) < 30


@pytest.mark.usefixtures("no_flock")
def test_heartbeat_beats_while_held_and_stops_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.utils.lock.BEAT_EVERY", 0.01)
    heartbeat = tmp_path / "run.heartbeat"
    with RunLock(tmp_path):
        os.utime(heartbeat, (1, 1))
        deadline = time.time() + 5
        while heartbeat.stat().st_mtime == 1 and time.time() < deadline:
            time.sleep(0.01)
        assert heartbeat.stat().st_mtime > 1
    time.sleep(0.05)
    assert not heartbeat.exists()


@pytest.mark.usefixtures("no_flock")
def test_beating_stops_though_the_heartbeat_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    held = RunLock(tmp_path)
    for _ in range(2):  # the same lock again beats again
        with held:
            assert threading.active_count() == before + 1
            (tmp_path / "run.heartbeat").unlink()
        assert threading.active_count() == before
    monkeypatch.setattr("dal.utils.lock.BEAT_EVERY", 0.001)
    for _ in range(20):
        with held:
            (tmp_path / "run.heartbeat").unlink()
            time.sleep(0.002)
        assert not (tmp_path / "run.heartbeat").exists()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("left", ["nothing", "stale", "dead"])
def test_of_many_that_start_at_once_one_goes_on(tmp_path: Path, left: str) -> None:
    if left == "dead":
        with RunLock(tmp_path):
            mine = json.loads((tmp_path / "run.heartbeat").read_text())
        (tmp_path / "run.heartbeat").write_text(json.dumps(mine | {"pid": 2**22 + 1}))
    elif left == "stale":
        (tmp_path / "run.heartbeat").touch()
        os.utime(tmp_path / "run.heartbeat", (1, 1))
    locks = [RunLock(tmp_path) for _ in range(8)]
    together = threading.Barrier(len(locks), timeout=60)

    def start(each: RunLock) -> bool:
        together.wait()
        try:
            each.__enter__()
        except LockedError:
            return False
        return True

    with ThreadPoolExecutor(len(locks)) as pool:
        held = list(pool.map(start, locks))
    for each, holds in zip(locks, held, strict=True):
        if holds:
            each.__exit__(None, None, None)
    assert sum(held) == 1


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(("age", "taken"), [(1, False), (STALE_AFTER + 30, True)])
def test_takeover_waits_for_another_unless_it_died(tmp_path: Path, age: float, taken: bool) -> None:
    (tmp_path / "run.heartbeat").touch()
    os.utime(tmp_path / "run.heartbeat", (1, 1))
    claim = tmp_path / "run.takeover-1000000000-0"
    claim.touch()
    os.utime(claim, (time.time() - age,) * 2)
    if not taken:
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
        return
    with RunLock(tmp_path):
        assert not list(tmp_path.glob("run.takeover*"))


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("when", ["before its claim", "after its claim"])
def test_takeover_finds_that_another_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (tmp_path / "run.heartbeat").touch()
    os.utime(tmp_path / "run.heartbeat", (1, 1))
    faster, touch, calls = RunLock(tmp_path), Path.touch, 0

    def slow(path: Path, **options: Any) -> None:
        nonlocal calls
        calls += "takeover" in path.name
        if calls == 1 and "takeover" in path.name and when == "before its claim":
            faster.__enter__()
        touch(path, **options)
        if calls == 1 and "takeover" in path.name and when == "after its claim":
            with pytest.raises(LockedError):
                RunLock(tmp_path).__enter__()

    monkeypatch.setattr(Path, "touch", slow)
    slower = RunLock(tmp_path)
    if when == "before its claim":
        with pytest.raises(LockedError):
            slower.__enter__()
        faster.__exit__(None, None, None)
    else:
        with slower:
            pass
    assert calls > 1
    assert not list(tmp_path.glob("run.takeover*"))


@pytest.mark.parametrize(("host", "free"), [(HERE, False), ("elsewhere", None)])
def test_looking_at_a_lock_tells_whether_it_is_held(
    tmp_path: Path, host: str, free: bool | None
) -> None:
    assert held(tmp_path, host) is free
    assert not list(tmp_path.iterdir())
    with RunLock(tmp_path):
        before = content(tmp_path)
        assert held(tmp_path, host) is True
        assert content(tmp_path) == before
    assert held(tmp_path, host) is free
    assert content(tmp_path) == before


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("host", [HERE, "elsewhere"])
def test_looking_at_a_heartbeat_tells_who_died(tmp_path: Path, host: str) -> None:
    with RunLock(tmp_path):
        assert held(tmp_path, host) is None
        os.utime(tmp_path / "run.heartbeat", (1, 1))
        assert held(tmp_path, host) is False
    assert held(tmp_path, host) is (False if host == HERE else None)


def test_process_that_starts_waits_for_one_that_looks(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    with (tmp_path / "run.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        with RunLock(tmp_path):
            join(timer)


def test_status_goes_by_the_lock_and_not_by_process_ids(tmp_path: Path) -> None:
    def shown(**said: object) -> str:
        status = {"status": "running", "host": HERE, "pid": os.getpid()} | said
        (tmp_path / "status.json").write_text(json.dumps(status))
        state = read_state(tmp_path)
        assert state.status != "died" or "run its command again" in state.reason
        return state.status

    gone = 2**22 + 1
    assert shown() == "died"  # the process id is that of another process now
    assert shown(host="elsewhere") == "running"
    with RunLock(tmp_path):
        assert shown() == "running"
        assert shown(pid=gone) == "running"  # of another container on this machine
        assert shown(status="complete") == "complete"
    assert shown() == "died"
    assert shown(pid=gone) == "died"
    assert shown(status="preempted") == "preempted"


def test_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write in the run directory.*set saved_dir"):
        RunLock(tmp_path / "file" / "run").__enter__()


def test_run_directory_may_be_entered_again_inside(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory:
        with directory:
            directory.update(status="complete", reason="budget")
        with pytest.raises(LockedError):
            RunLock(tmp_path).__enter__()
    assert read_status(tmp_path)["reason"] == "budget"


def test_failed_run_directory_keeps_reason_and_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too much"), RunDirectory(tmp_path):
        raise ValueError("too much")
    status = read_status(tmp_path)
    assert (status["status"], status["reason"]) == ("failed", "ValueError: too much")
    assert "Traceback" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", "\x00"])
def test_status_that_cannot_be_read_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path) == {}
    assert read_status(tmp_path / "none") == {}
