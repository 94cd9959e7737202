import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from waiting import join

from dal.utils.signals import WATCHED, Interrupts, PreemptedError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Default handlers for a test, whatever the shell ignores; give back those before it."""
    before = {signum: signal.getsignal(signum) for signum in WATCHED}
    for signum in WATCHED:
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def work(*signums: int, seen: list[Any] | None = None) -> None:
    """A guarded block in which signals come; what ``seen`` holds must not change inside."""
    with Interrupts() as interrupts:
        interrupts.check()
        assert not interrupts.pending
        for signum in signums:
            signal.raise_signal(signum)
        assert interrupts.pending
        assert not seen
        interrupts.check()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_signal_is_noted_and_raised_at_the_next_check(name: str) -> None:
    signum = getattr(signal, name)
    before = signal.getsignal(signum)
    with pytest.raises(PreemptedError, match=f"{name}.*same command") as caught:
        work(signum)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before


def test_handler_before_is_called_once_and_only_afterwards() -> None:
    calls: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: calls.append(signum))
    with pytest.raises(PreemptedError):
        work(signal.SIGUSR2, seen=calls)
    assert calls == [signal.SIGUSR2]
    signal.raise_signal(signal.SIGUSR2)
    assert len(calls) == 2


def test_signal_after_the_last_check_still_ends_the_caller() -> None:
    with pytest.raises(PreemptedError, match="SIGTERM"), Interrupts():
        signal.raise_signal(signal.SIGTERM)


def test_handler_before_is_not_called_without_a_signal() -> None:
    calls: list[Any] = []
    signal.signal(signal.SIGTERM, lambda *arguments: calls.append(arguments))
    with pytest.raises(KeyError), Interrupts():
        raise KeyError
    with Interrupts() as interrupts:
        interrupts.check()
    assert calls == []


def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        interrupts.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_second_interrupt_ends_at_once() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        work(signal.SIGINT, signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_leave_the_handlers_alone() -> None:
    before, during = signal.getsignal(signal.SIGTERM), []

    def aside() -> None:
        with Interrupts() as interrupts:
            during.append(signal.getsignal(signal.SIGTERM))
            interrupts.check()

    thread = threading.Thread(target=aside)
    thread.start()
    join(thread)
    assert during == [before]
