"""The process that a run works in."""

from __future__ import annotations

import threading

import pytest
from waiting import join

from dal.lockstep import Lockstep, Replica
from dal.lockstep.replicas import Place
from dal.runs.host import Host, current_host, hosted_by
from dal.utils.signals import Interrupts


def test_alone_everything_is_made_for_the_one_run() -> None:
    host, made = current_host(), list[int]()
    assert host.count == 1
    for _ in range(2):
        host.shared({"seed": 0}, lambda: made.append(0))
    assert made == [0, 0]


def test_host_is_that_of_a_block_and_of_its_thread() -> None:
    seen = list[Host]()
    alone, host = current_host(), Host()
    with hosted_by(host):
        assert current_host() is host
        thread = threading.Thread(target=lambda: seen.append(current_host()))
        thread.start()
        join(thread)
    assert seen == [alone]
    assert current_host() is alone
    with pytest.raises(ZeroDivisionError), hosted_by(host):
        raise ZeroDivisionError
    assert current_host() is alone


def test_places_make_once_what_they_need_alike_and_note_signals_in_one() -> None:
    lockstep, interrupts, made = Lockstep(2), Interrupts(), {}
    replicas = [Replica(name, lambda replica: None) for name in "ab"]
    one, other = (Place(lockstep, replica, interrupts, made) for replica in replicas)
    first = one.shared({"seed": 0, "name": "x"}, object)
    assert other.shared({"name": "x", "seed": 0}, object) is first
    assert other.shared({"name": "x", "seed": 1}, object) is not first
    assert one.count == other.count == 2
    with one.interrupts() as mine, other.interrupts() as others:
        assert mine is others is interrupts
