"""What the page is told: the state of a desk and of the run, as plain values."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from dal.oracles.page.desk import AWAY, Desk, Item, Sheet
from dal.oracles.page.keys import NEXT, UNDO, UNSURE, class_keys, none_keys

NUMBERS = 20_000
"""Probabilities that the state holds, at most; of more, each sample tells its own."""

TRAINED = "train/accuracy"
"""What rows show of data without a test part."""

EVERY = 0.5
"""Seconds between two epochs that pages which wait are told of."""


class View:
    """Makes the state that pages show.

    Args:
        desk: Where people answer.
        run: What pages show of it: its ``name``, and that of its ``data``.
        headline: The metric that rows show.
        guess: Show the model's guess.
        sort_labels: Show the labels sorted by the model's probabilities.
        order: How the samples are ordered.
        rows: Metrics of the rounds so far, as in ``metrics.jsonl``.

    Attributes:
        phase: ``ask`` while a question is open, else ``train``; ``done`` or ``failed`` at the end.
    """

    def __init__(
        self,
        desk: Desk,
        run: Mapping[str, Any],
        headline: str,
        guess: bool,
        sort_labels: bool,
        order: str,
        rows: list[dict[str, Any]],
    ) -> None:
        self._desk, self._run, self._headline = desk, dict(run), headline
        self._guess, self._sort, self._order = guess, sort_labels, order
        self._rows = {row["round"]: self._row(row) for row in rows if "round" in row}
        self._training: dict[str, Any] | None = None
        self._bumped = -math.inf
        self._end: tuple[str, str | None] | None = None

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        value = row.get(self._headline or TRAINED)
        return {"round": row.get("round"), "labels": row.get("labels"), "value": _finite(value)}

    def tell(self, news: Mapping[str, Any]) -> None:
        """See `dal.oracles.Oracle.tell`."""
        with self._desk.changed:
            if "row" in news:
                self._rows[news["row"].get("round")] = self._row(news["row"])
                self._training = None
            elif "epoch" in news:
                values = {name: _finite(v) for name, v in news.get("values", {}).items()}
                self._training = {
                    "round": news.get("round"), "epoch": news["epoch"], "values": values,
                }  # fmt: skip
                if time.monotonic() - self._bumped < EVERY:
                    return  # small networks do hundreds of epochs a second
                self._bumped = time.monotonic()
            elif "status" in news:
                done = news["status"] == "complete"
                self._end = ("done" if done else "failed", news.get("reason") or news["status"])
            self._desk.bump()

    def close(self) -> None:
        """Say that the run has ended, where nobody has said how."""
        with self._desk.changed:
            self._end = self._end or ("failed", "the run has ended; start it again to go on")
            self._desk.bump()

    def state(self, name: str) -> dict[str, Any]:
        """See ``GET /api/state``."""
        desk = self._desk
        with desk.changed:
            sheet = desk.sheet
            phase, reason = self._end or ("ask" if sheet else "train", None)
            names = desk.class_names
            keys = class_keys(names)
            return {
                "version": desk.version,
                "phase": phase,
                "run": self._run,
                "multilabel": desk.multilabel,
                "classes": [{"name": n, "key": k} for n, k in zip(names, keys, strict=True)],
                "keys": {
                    "none": none_keys(names), "unsure": [UNSURE], "undo": [UNDO], "next": [NEXT],
                },
                "per_sample": desk.per_sample,
                "order": self._order,
                **self._asked(sheet, name),
                "training": self._training,
                "rows": [self._rows[number] for number in sorted(self._rows)],
                "headline": self._headline or TRAINED,
                "reason": reason,
                "settings": {"guess": self._guess, "sort_labels": self._sort},
            }  # fmt: skip

    def _asked(self, sheet: Sheet | None, name: str) -> dict[str, Any]:
        desk = self._desk
        if sheet is None:
            people = [self._person(n, (0, 0)) for n in desk.people]
            nothing: dict[str, Any] = {
                "question": None,
                "round": None,
                "items": [],
                "disagreements": [],
            }
            counts = {"asked": 0, "answered": 0, "missing": 0, "may_be_open": 0}
            return nothing | counts | {"people": people}
        own = sheet.shares.of(name, desk.at_work(name)) if name else []
        numbers = len(own) * len(desk.class_names) <= NUMBERS
        wanted, given = sheet.shares.wanted, sheet.shares.answered
        answered = sum(min(len(names), wanted[item]) for item, names in given.items())
        asked = sum(wanted.values())
        held = {item.id: desk.decided(item) for item in sheet.items.values()}
        count = sheet.shares.counts()
        return {
            "question": sheet.question.key,
            "round": sheet.question.round,
            "items": [self._item(sheet.items[i], held[i], name, numbers) for i in own],
            "people": [self._person(n, count(n)) for n in self._names(sheet)],
            "disagreements": [
                {"id": i, "answers": [{"name": n, **(one.answer or {})} for n, one in all_.items()]}
                for i, all_ in held.items()
                if len({repr(one.answer) for one in all_.values()}) > 1
            ],
            "asked": asked,
            "answered": answered,
            "missing": desk.missing(),
            "may_be_open": desk.may_be_open(),
        }

    def _names(self, sheet: Sheet) -> list[str]:
        known = dict.fromkeys(n for names in sheet.shares.answered.values() for n in sorted(names))
        return list(known | dict.fromkeys(self._desk.people))

    def _item(
        self, item: Item, held: Mapping[str, Any], name: str, numbers: bool
    ) -> dict[str, Any]:
        mine = held[name].answer if name in held else None
        guess, probs = self.guess(item) if numbers else (None, None)
        others = len(held) - (name in held)
        return {"id": item.id, "mine": mine, "others": others, "guess": guess, "probs": probs}

    def guess(self, item: Item) -> tuple[dict[str, Any] | None, list[float] | None]:
        """The model's guess of a sample and its probabilities, as far as they are shown."""
        question = item.question
        if question.probs is None:
            return None, None
        probs = question.probs[question.places[item.index]]
        likely = max(range(len(probs)), key=probs.__getitem__)
        labels = [c for c, p in enumerate(probs) if p > 0.5] if self._desk.multilabel else [likely]
        chance = probs[likely]
        if self._desk.multilabel:
            chance = 1.0
            for p in probs:
                chance *= max(p, 1 - p)
        guess = {"labels": labels, "probability": chance} if self._guess else None
        return guess, probs if self._sort else None

    def _person(self, name: str, count: tuple[int, int]) -> dict[str, Any]:
        now = time.monotonic()
        person = self._desk.people.get(name)
        pace = 0.0 if person is None else round(person.per_minute(now), 1)
        here = person is not None and now - person.seen < AWAY
        return {
            "name": name, "answered": count[0], "of": count[1], "per_minute": pace, "here": here,
        }  # fmt: skip


def _finite(value: Any) -> Any:
    """A number as JSON has it: none that is infinite or NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
