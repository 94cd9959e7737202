"""What the same command has left to do."""

from __future__ import annotations

import pytest

from dal.cli.running import complete_already


@pytest.mark.parametrize(
    ("arrivals", "budget", "expected"),
    [(None, 40, True), ("readings", 40, False), ("readings", 20, True)],
)
def test_a_stream_that_ended_is_complete_unless_more_may_arrive(
    arrivals: str | None, budget: int, expected: bool
) -> None:
    status = {"status": "complete", "reason": "stream_ended", "queried": 20, "round": 4}
    settings = {"budget": budget, "max_rounds": None, "setting": {"arrivals": arrivals}}
    assert complete_already(status, settings) is expected
