"""What tests of several rooms need."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Folders are tested by a process a core, single files by one; ``-n`` says otherwise.

    Without pytest-xdist everything is tested by one process.
    """
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    if config.option.numprocesses is None and config.option.dist == "no":
        if not all(Path(argument).is_dir() for argument in config.args):
            return
        config.option.numprocesses = "auto"
        # Each process goes through a part of the files in order, so that what the tests of a file
        # share is made once; one that is done takes over from another.
        config.option.dist = "worksteal"
        # More threads than cores would wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


_SHOWN = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """The error stream, which each test has captured, is kept for stacks of a test that hangs."""
    config.stash[_SHOWN] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_SHOWN])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Slow tests take what they take."""
    if item.get_closest_marker("slow"):
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """The limit of a test's time holds anew for its end: pytest lifts it with the first failure."""
    limit = float(item.config.getini("faulthandler_timeout"))
    if limit > 0 and not item.get_closest_marker("slow"):
        faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[_SHOWN])


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    """Results that are kept between processes do not come from, or go to, the user's cache."""
    monkeypatch.setenv("DAL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """A true limit of the kernel on the size of files, above that of any log of the tests."""
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, previous)
