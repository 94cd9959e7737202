import pytest

from dal.recording.throttle import Throttle


def test_throttle_is_ready_once_per_interval() -> None:
    now = 100.0
    throttle = Throttle(30, clock=lambda: now)
    assert throttle.ready()
    now = 129.9
    assert not throttle.ready()
    now = 130.0
    assert throttle.ready()
    assert not throttle.ready()


def test_throttle_forced_starts_the_next_interval() -> None:
    now = 0.0
    throttle = Throttle(30, clock=lambda: now)
    throttle.ready()
    now = 20.0
    assert throttle.ready(force=True)
    now = 40.0
    assert not throttle.ready()


def test_throttle_without_interval_is_always_ready() -> None:
    throttle = Throttle(0)
    assert throttle.ready()
    assert throttle.ready()


def test_throttle_refuses_a_negative_interval() -> None:
    with pytest.raises(ValueError, match="use 0 for no limit"):
        Throttle(-1)
