"""Whole rounds in Chromium, by processes that are killed at random moments; the page stays open."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from page_runs import go, source_of
from test_page_kills import Runs, answered
from waiting import Limit

from dal.oracles import SimulatedOracle

# Each answer that the page takes from the person is kept by its nonce until it is on the disk.
TAKEN = """
window.taken = [];
const keep = Storage.prototype.setItem;
Storage.prototype.setItem = function (key, value) {
    if (key.startsWith('dal.unsent.')) window.taken.push(key.slice(11));
    return keep.call(this, key, value);
};
"""
NOW = """async () => {
    const {page, mode, ready} = await import('/static/model.js');
    return [mode(), ready() ? page.current : null];
}"""


class Person:
    """Answers by keys what is on the screen, now and then wrong, and takes that back."""

    def __init__(self, truth: list[int], rng: random.Random) -> None:
        self._truth, self._rng, self._wrong = truth, rng, ""

    def work(self, page: Any) -> None:
        """Press one key, if one is to be pressed."""
        mode, current = page.evaluate(NOW)
        if mode == "end":
            page.keyboard.press("Backspace" if self._wrong else "Enter")
        elif current is not None:
            right = str(self._truth[int(current.rpartition("-")[2])])
            if self._wrong and current != self._wrong:
                page.keyboard.press("Backspace")
            elif not self._wrong and right != "3" and self._rng.random() < 0.1:
                self._wrong = current
                page.keyboard.press("3")
            else:
                self._wrong = ""
                page.keyboard.press(right)
        page.wait_for_timeout(self._rng.uniform(5, 40))


def comes(page: Any, address: str) -> bool:
    """Whether the page came as a whole and has a name now: it may be killed as it comes.

    Of a page that is killed before its last script there is an address, and nothing that works.
    """
    with contextlib.suppress(Exception):
        page.goto(address, timeout=5000)
        page.fill("#name", "Ada", timeout=5000)
        page.keyboard.press("Enter")
        return True
    return False


@pytest.mark.parametrize(
    ("kills", "questions"), [(3, 1), pytest.param(50, 4, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_each_key_is_one_answer(
    tmp_path: Path, kills: int, questions: int
) -> None:
    source, rng = source_of(), random.Random(kills)
    person = Person(source.train.targets.tolist(), rng)
    named = False
    with chromium() as browser, Runs(tmp_path / "page", questions) as runs:
        page = browser.new_page()
        page.add_init_script(TAKEN)
        limit = Limit(60 + 10 * kills, lambda: f"{runs}; {page.url}: {page.inner_text('body')!r}")
        while 0 not in runs.ends:
            number = len(runs.ends)
            runs.start(rng.uniform(0.2, 3) if number < kills else None)
            while not runs.ended():
                limit.check()
                if named:
                    person.work(page)
                elif runs.address:
                    named = comes(page, runs.address)
                else:
                    time.sleep(0.01)
        page.wait_for_selector("body[data-mode=done]")
        taken = page.evaluate("() => window.taken")
    assert runs.ends == [-signal.SIGKILL] * kills + [0]

    lines = (tmp_path / "page/queries/answers.jsonl").read_text().splitlines()
    written = Counter(line["nonce"] for line in map(json.loads, lines) if "nonce" in line)
    assert written == Counter(taken)  # each once: none lost, none doubled
    assert len(taken) >= 25 * questions

    go(tmp_path / "whole", source, SimulatedOracle(source.train.targets), questions)
    assert answered(tmp_path / "page") == answered(tmp_path / "whole")
