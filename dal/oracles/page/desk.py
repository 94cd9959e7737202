"""The desk at which people answer: what is asked, who has answered what; safe between threads."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dal.oracles.page.log import AnswerLog
from dal.oracles.page.question import (
    LONGEST,
    Given,
    Question,
    checked_answer,
    checked_name,
    checked_nonce,
    named,
    numbered,
    seconds_of,
)
from dal.oracles.page.shares import Shares

log = logging.getLogger(__name__)

AWAY = 60.0
"""Seconds without a word from a page after which the person counts as away."""
PACE = 120.0
"""Seconds over which the answers a minute are counted."""


class ClosedError(Exception):
    """The question that a page answers is closed, or not yet answered as far as is needed.

    Attributes:
        question: The one that is open now; None for none.
    """

    def __init__(self, text: str, question: str | None) -> None:
        super().__init__(text)
        self.question = question


class NotYetError(Exception):
    """The question that a page answers is not open yet: the run has only just started again."""


@dataclass
class Held:
    """What one person said of one sample.

    Attributes:
        answer: The latest answer; None where it was taken back.
        seconds: All that the sample took.
    """

    answer: Given | None = None
    seconds: float = 0.0


@dataclass
class Person:
    """Somebody at work.

    Attributes:
        seen: When their page last asked for anything, of a clock that only goes forward.
        times: When they answered, of the same clock.
    """

    seen: float = -math.inf
    times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def per_minute(self, now: float) -> float:
        """Answers a minute, of the last time at work on this question."""
        recent = [when for when in self.times if now - when < PACE]
        return 60.0 * (len(recent) - 1) / max(now - recent[0], 1.0) if len(recent) > 1 else 0.0


@dataclass(frozen=True)
class Item:
    """A sample on the page: of the question in progress, or left open by an earlier one."""

    question: Question
    index: int

    @property
    def id(self) -> str:
        """What the page calls it."""
        return self.question.id_of(self.index)

    @property
    def place(self) -> tuple[str, int]:
        """Where its answers are."""
        return self.question.key, self.index


@dataclass(frozen=True)
class Sheet:
    """What is on the page: it is answered as one, and handed in as one."""

    question: Question
    items: Mapping[str, Item]
    shares: Shares


class Desk:
    """Takes answers, and gives them out once they are handed in.

    All methods may be called by any thread.

    Args:
        answers: Where answers are written.
        class_names: The C class names.
        multilabel: A sample may have any number of the labels.
        per_sample: How many people each sample is meant for.
        enough: Share of the samples that must be answered to hand in.
    """

    def __init__(
        self,
        answers: AnswerLog,
        class_names: Sequence[str],
        multilabel: bool = False,
        per_sample: int = 1,
        enough: float = 1.0,
    ) -> None:
        self.class_names, self.multilabel = tuple(class_names), multilabel
        self.per_sample, self.enough = per_sample, enough
        self.changed = threading.Condition(threading.RLock())
        self.version = time.time_ns() // 1_000_000  # another one than before a restart
        self.sheet: Sheet | None = None
        self.people: dict[str, Person] = {}
        self._log = answers
        self._given: dict[tuple[str, int], dict[str, Held]] = {}
        self._sent: set[tuple[str, int, str, str]] = set()
        self._handed: set[str] = set()
        for entry in answers.entries:
            self._take(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        """Take down a line of the log."""
        try:
            key = str(entry["question"])
            if "handed_in" in entry:
                self._handed.add(key)
                return
            name, nonce = checked_name(entry["name"]), checked_nonce(entry["nonce"])
            index, seconds = entry["index"], entry["seconds"]
            if type(index) is not int or index < 0:
                raise ValueError("its index is no number of a sample")
            if type(seconds) not in (int, float) or not 0 <= seconds <= LONGEST:
                raise ValueError(f"its seconds are no number from 0 to {LONGEST:g}")
            answer = numbered(entry["answer"], self.class_names, self.multilabel)
        except (KeyError, TypeError, ValueError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            log.warning("%s: a line is left out (%s): %.300s", self._log.path, why, entry)
            return
        one = self._given.setdefault((key, index), {}).setdefault(name, Held())
        one.answer, one.seconds = answer, one.seconds + seconds
        self._sent.add((key, index, name, nonce))

    def bump(self) -> None:
        """Tell pages that wait that there is something new."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def show(self, question: Question, order: Sequence[int], earlier: Sequence[Question]) -> None:
        """Put a question on the page, and behind it what earlier ones left open.

        Args:
            question: The question.
            order: Its indices in the order to show.
            earlier: Questions that were handed in.
        """
        with self.changed:
            items = [Item(question, index) for index in order]
            for other in earlier:
                items += [i for i in self._items(other) if len(self.decided(i)) < self._wanted(i)]
            shares = Shares({i.id: self._wanted(i) for i in items}, self._before(items))
            for item in items:
                for name in self.decided(item):
                    shares.answer(name, item.id, True)
            for person in self.people.values():
                person.times.clear()  # training was no work
            self.sheet = Sheet(question, {i.id: i for i in items}, shares)
            self.bump()

    def _wanted(self, item: Item) -> int:
        """How many people a sample is meant for: of one asked once more, one more."""
        return 1 if item.index in item.question.again else self.per_sample

    def _items(self, question: Question) -> list[Item]:
        return [Item(question, index) for index in question.indices]

    def _before(self, items: Sequence[Item]) -> dict[str, set[str]]:
        """Who has answered a sample that is asked once more, in another question."""
        again = {item.index: item for item in items if item.index in item.question.again}
        found: dict[str, set[str]] = {}
        for (key, index), held in self._given.items():
            if index in again and key != again[index].question.key:
                found.setdefault(again[index].id, set()).update(held)
        return found

    def decided(self, item: Item) -> dict[str, Held]:
        """Who has an answer of a sample that stands, with it."""
        held = self._given.get(item.place, {})
        return {name: one for name, one in held.items() if one.answer is not None}

    def answer(self, sent: Mapping[str, Any]) -> Given | None:
        """Take an answer: it is on the disk when this returns.

        Args:
            sent: As `POST /api/answer` has it.

        Returns:
            What stands now.

        Raises:
            ValueError: It is no answer, in words for the page.
            ClosedError: Its question was closed.
            NotYetError: It will be open soon.
            OSError: It could not be written, and counts as not given.
        """
        name, nonce = checked_name(sent.get("name")), checked_nonce(sent.get("nonce"))
        answer = checked_answer(sent.get("answer"), len(self.class_names), self.multilabel)
        with self.changed:
            item = self._item(sent)
            if (*item.place, name, nonce) not in self._sent:
                entry = self._entry(item, name, answer, sent.get("seconds"), nonce)
                self._log.append(entry)
                self._take(entry)
                assert self.sheet is not None
                self.sheet.shares.answer(name, item.id, answer is not None)
                self._worked(name, answer is not None)
                self.bump()
            return self._given[item.place][name].answer

    def _item(self, sent: Mapping[str, Any]) -> Item:
        item = self._sheet(sent).items.get(str(sent.get("id")))
        if item is None:
            raise ValueError("this sample was not asked about")
        return item

    def _sheet(self, sent: Mapping[str, Any]) -> Sheet:
        """The sheet with the question that a page means, where that is open."""
        sheet, wanted = self.sheet, str(sent.get("question"))
        if sheet is None and wanted not in self._handed:
            raise NotYetError(f"the question {wanted} is not open yet")
        if sheet is None or wanted != sheet.question.key:
            now = None if sheet is None else sheet.question.key
            raise ClosedError(f"the question {wanted} is closed", now)
        return sheet

    def _entry(
        self, item: Item, name: str, answer: Given | None, seconds: Any, nonce: str
    ) -> dict[str, Any]:
        return {
            "question": item.question.key,
            "index": item.index,
            "name": name,
            "answer": named(answer, self.class_names),
            "seconds": seconds_of(seconds),
            "nonce": nonce,
            "time": round(time.time(), 3),
        }

    def _worked(self, name: str, answered: bool) -> None:
        person = self.people.setdefault(name, Person())
        person.seen = time.monotonic()
        if answered:
            person.times.append(person.seen)

    def hand_in(self, sent: Mapping[str, Any]) -> None:
        """Close the question: its answers are given out, and can no longer be changed.

        Args:
            sent: As `POST /api/hand_in` has it.

        Raises:
            ValueError: The name is none.
            ClosedError: It was closed, or too little is answered.
            NotYetError: It will be open soon.
            OSError: It could not be written down; the question is still open.
        """
        name = checked_name(sent.get("name"))
        with self.changed:
            wanted = self._sheet(sent).question.key
            missing, least = self.missing(), self.may_be_open()
            if missing > (least if sent.get("anyway") is True else 0):
                most = f"; {least} of them may stay open" if least else ""
                raise ClosedError(f"{missing} samples have no answer yet{most}", wanted)
            entry = {"question": wanted, "handed_in": name, "time": round(time.time(), 3)}
            self._log.append(entry)
            self._take(entry)
            self.sheet = None
            self.bump()

    def missing(self) -> int:
        """How many samples on the page have too few answers."""
        shares = None if self.sheet is None else self.sheet.shares
        return 0 if shares is None else sum(not shares.is_done(item) for item in shares.items)

    def may_be_open(self) -> int:
        """How many of the samples on the page may have none when they are handed in."""
        sheet = self.sheet
        if sheet is None or sheet.question.key in self._handed:  # what is left of it, at the end
            return 0
        own = sum(item.question is sheet.question for item in sheet.items.values())
        return len(sheet.items) - math.ceil(self.enough * own - 1e-9)

    def is_handed_in(self, key: str) -> bool:
        """Whether a question was handed in, and is not on the page once more."""
        with self.changed:
            again = self.sheet is not None and self.sheet.question.key == key
            return key in self._handed and not again

    def given(self, question: Question) -> list[tuple[int, str, Held]]:
        """What was said of its samples, but for those that are on the page now."""
        with self.changed:
            shown = {} if self.sheet is None else self.sheet.items
            return [
                (item.index, name, one)
                for item in self._items(question)
                if item.id not in shown
                for name, one in self.decided(item).items()
            ]

    def saw(self, name: str) -> None:
        """Take down that somebody's page is open."""
        with self.changed, suppress(ValueError):
            self.people.setdefault(checked_name(name), Person()).seen = time.monotonic()

    def at_work(self, but: str = "") -> list[str]:
        """Who is at work now."""
        now = time.monotonic()
        return [n for n, one in self.people.items() if now - one.seen < AWAY and n != but]
