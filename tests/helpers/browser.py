"""Chromium on a labeling page whose questions come from a thread of this process."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.data import digits, make_source
from dal.data.dataset import Dataset
from dal.data.source import Source
from dal.oracles import Answers, PageOracle
from dal.query.base import Query

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str | None:
    """Where Chromium is: DAL_CHROMIUM, or what the system has."""
    found = os.environ.get("DAL_CHROMIUM")
    return found or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = executable()
    if path is None:
        pytest.skip("needs Chromium: none on the PATH, and DAL_CHROMIUM is not set")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        browser_timeout = 20_000
        try:
            browser.dal_timeout = browser_timeout
            yield browser
        finally:
            browser.close()


def small_source() -> Source:
    """Handwritten digits of 8 x 8 pixels."""
    return make_source(digits(), seed=0)


def text_source(text: str) -> Source:
    """Samples that are texts: the given one, with a number."""
    inputs = torch.arange(40.0)[:, None].expand(40, 3).clone()
    contents = [f"{number}: {text}" for number in range(40)]
    data = Dataset("texts", inputs, torch.arange(40) % 2, ("a", "b"), contents=contents)
    return make_source(data, seed=0)


def table_source() -> Source:
    """Samples that are rows of numbers."""
    inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return make_source(Dataset("rows", inputs, torch.arange(40) % 2, ("a", "b")), seed=0)


class Asking:
    """A page with rounds of questions, asked as a run would.

    Attributes:
        answers: What the run got, a round each.
        targets: What the samples are, in the order of all rounds.
    """

    def __init__(
        self,
        folder: Path,
        source: Source | None = None,
        rounds: int = 2,
        size: int = 5,
        **settings: Any,
    ) -> None:
        self.source = source or small_source()
        self.folder, self.rounds, self.size = folder, rounds, size
        self.answers: list[Answers] = []
        self.targets = self.source.train.targets.tolist()
        names = settings.pop("class_names", self.source.class_names)
        self._reason = settings.pop("reason", "the budget is spent")
        self._settings = {"open_browser": False, "run_name": "a run"} | settings
        self._oracle = PageOracle(folder, names, **self._settings)
        self._stopping, self._ready = threading.Event(), threading.Event()
        self.train = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Asking:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.train.set()
        self._stopping.set()
        self._thread.join(30)

    @property
    def address(self) -> str:
        """Where the page is, with its token."""
        kept = json.loads((self.folder / ".page.json").read_text())
        return f"http://127.0.0.1:{kept['port']}/?token={kept['token']}"

    @property
    def log(self) -> list[dict[str, Any]]:
        """What stands on the disk."""
        path = self.folder / "answers.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    @property
    def said(self) -> list[Any]:
        """Answers in the log, in words, without those of handing in."""
        return [entry["answer"] for entry in self.log if "answer" in entry]

    def _run(self) -> None:
        self._oracle.open(self.source)
        try:
            self._oracle.tell({"round": 0, "row": {"round": 0, "labels": 10, "test/accuracy": 0.5}})
            for number in range(self.rounds):
                self._ask(number)
                if self._stopping.is_set():
                    return
                told = {"round": number, "epoch": 3, "values": {"train/loss": 0.25}}
                self._oracle.tell(told)
                self.train.wait(30)
                row = {"round": number + 1, "labels": 15, "test/accuracy": 0.75}
                self._oracle.tell({"round": number + 1, "row": row})
            self._oracle.tell({"status": "complete", "reason": self._reason})
        finally:
            self._ready.set()
            self._oracle.close()

    def _ask(self, number: int) -> None:
        indices = torch.arange(number * self.size, (number + 1) * self.size)
        probs = torch.full((self.size, len(self.source.class_names)), 0.01)
        probs[:, -1] = 0.9
        query = Query(indices, torch.ones(self.size), probs=probs)
        ticket = self._oracle.submit(query, number)
        self._oracle.wait(ticket, 0.01)
        self._ready.set()
        while (found := self._oracle.collect(ticket)) is None:
            if self._stopping.is_set():
                return
            self._oracle.wait(ticket, 0.1)
        self.answers.append(found)


def enter(browser: Any, asking: Asking, name: str = "Ada", **context: Any) -> Any:
    """A page of a new browser window on which somebody gave a name, with the first item there."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(20_000)
    page.goto(asking.address)
    page.fill("#name", name)
    page.keyboard.press("Enter")
    wait_for_item(page)
    return page


def wait_for_item(page: Any) -> None:
    """Until an item can be answered."""
    page.wait_for_selector("body[data-mode=ask] #stage:has(img, p.text, table)")


def press(page: Any, *keys: str) -> None:
    """Press keys that answer, each after the one before was saved and the next item is there."""
    for key in keys:
        at = page.get_attribute("#stage", "aria-label")
        page.keyboard.press(key)
        page.wait_for_function(
            """at => document.querySelector('#stage').ariaLabel !== at
                     || document.body.dataset.mode !== 'ask'""",
            arg=at,
        )
        page.wait_for_timeout(20)
        if page.get_attribute("body", "data-mode") == "ask":
            wait_for_item(page)
