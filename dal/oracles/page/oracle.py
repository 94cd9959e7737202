"""An oracle that asks people on a page of its own, while the run waits in the same process."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from dal.data.source import UNKNOWN, Source
from dal.journals import METRICS
from dal.oracles.base import Answers, Oracle
from dal.oracles.page.desk import Desk, Held
from dal.oracles.page.log import AnswerLog
from dal.oracles.page.order import alike
from dal.oracles.page.question import Question, key_of
from dal.oracles.page.samples import Samples
from dal.oracles.page.view import View
from dal.pool import REJECTED
from dal.query.base import Query
from dal.utils.logs import CONSOLE_ONLY, REPLICA
from dal.utils.ranks import current
from dal.utils.safe_files import make_folder, saving

log = logging.getLogger(__name__)

ANSWERS = "answers.jsonl"
SECRET = ".page.json"
_OPENER = ".open_page.html"


class PageOracle(Oracle):
    """Asks people on a labeling page in the browser.

    The address is logged once, on the console only, since it holds the secret that opens the page.
    Several people may open it at one time; each gives a name, and they share the samples of a round
    or, with ``annotators_per_sample=2``, each sample is answered by two of them.

    Each answer stands in ``answers.jsonl`` before the page shows the next sample, with the seconds
    that it took: a run that is killed, at whatever instant, loses none and counts none twice. An
    answer costs 1 in labels, and these seconds where the budget is in minutes. Answers can be
    changed until the round is handed in. What is still open then (``enough``) is shown once more
    with the next round.

    Args:
        folder: Where answers are kept; created if it is missing.
        class_names: The C class names.
        multilabel: A sample may have any number of the labels.
        run_name: Shown on the page.
        guess: Show the model's guess; it draws people to it.
        sort_labels: Show the classes sorted by the model's probabilities, which draws people too.
        order: Of the samples of a round: ``strategy``, most wanted first, or ``alike``, like next
            to like.
        annotators_per_sample: How many people are to answer each sample.
        enough: Share of a round's samples that must be answered before it can be handed in.
        host: Address to listen at; any other than 127.0.0.1 lets other machines in, unencrypted.
        port: Port to listen at; 0 for the one before, or else any that is free.
        open_browser: Open the page in the browser of this machine, where it has a screen.

    Raises:
        ValueError: A setting is out of range.
    """

    name = "page"

    def __init__(
        self,
        folder: str | Path,
        class_names: tuple[str, ...],
        multilabel: bool = False,
        run_name: str = "",
        guess: bool = False,
        sort_labels: bool = False,
        order: Literal["strategy", "alike"] = "strategy",
        annotators_per_sample: int = 1,
        enough: float = 1.0,
        host: str = "127.0.0.1",
        port: int = 0,
        open_browser: bool = True,
    ) -> None:
        _check(order, annotators_per_sample, enough, port)
        self.folder, self.class_names, self.multilabel = Path(folder), class_names, multilabel
        self.run_name, self.guess, self.sort_labels, self.order = (
            run_name,
            guess,
            sort_labels,
            order,
        )
        self.answers_per_sample, self.enough = annotators_per_sample, enough
        self.host, self.port, self.open_browser = host, port, open_browser
        self.wants_probs = guess or sort_labels
        self._source: Source | None = None

    def open(self, source: Source) -> None:
        """Serve the page.

        Raises:
            ValueError: Several runs share this process.
            OSError: The port is taken.
        """
        from dal.oracles.page.server import Server  # the first import of Werkzeug

        if REPLICA.get():
            raise ValueError(
                "oracle=page asks people about one run, and this command does several; give one "
                "seed and one strategy, without replicas or -m"
            )
        if not current().is_main:
            return
        self._questions = dict[str, Question]()
        self._log = AnswerLog(self.folder / ANSWERS)
        self._desk = Desk(
            self._log, self.class_names, self.multilabel, self.answers_per_sample, self.enough
        )
        run = {"name": self.run_name, "data": source.name}
        self._view = View(
            self._desk, run, source.headline, self.guess, self.sort_labels, self.order,
            _rows(self.folder.parent / METRICS),
        )  # fmt: skip
        self._samples = Samples(source)
        self._samples.lock.acquire()
        token, before = self._secret()
        parts = self._desk, self._view, self._samples, self.host
        try:
            self._server = Server(*parts, self.port or before, token)
        except OSError:
            if self.port or not before:
                raise
            self._server = Server(*parts, 0, token)  # another run has that port now
        self._source = source  # from here on there is something to close
        self._keep_secret(token, self._server.port)
        self._say()

    def _secret(self) -> tuple[str, int]:
        """The token and the port of before, so that pages left open go on; or new ones."""
        path = self.folder / SECRET
        try:
            if path.stat().st_mode & 0o077 == 0:
                found = json.loads(path.read_text())
                token, port = found["token"], found["port"]
                whole = type(port) is int and 0 <= port < 65536
                if whole and re.fullmatch(r"[A-Za-z0-9_-]{32,128}", token):
                    return token, port
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass  # none, or what is left of one: a new one is as good
        return secrets.token_urlsafe(32), 0

    def _keep_secret(self, token: str, port: int) -> None:
        make_folder(self.folder)
        _write_own(self.folder / SECRET, json.dumps({"token": token, "port": port}) + "\n")

    def _say(self) -> None:
        """Say where the page is, and who can reach it."""
        from dal.oracles.page.server import is_loopback

        self.address = address = self._server.address
        log.info("label here: %s", address, extra={CONSOLE_ONLY: True})
        log.info("the labeling page is served at port %d of %s", self._server.port, self.host)
        if not is_loopback(self.host):
            log.warning(
                "oracle.host=%s: whoever reaches this machine over the network can read what goes "
                "to and from the page, which is not encrypted, the secret in its address too; use "
                "it in a network you trust, or keep 127.0.0.1 and reach it through ssh -L",
                self.host,
            )
        if self.open_browser and _has_screen():
            path = self.folder / _OPENER  # a command line would show the address to all users
            _write_own(path, f'<meta http-equiv="refresh" content="0;url={address}">\n')
            webbrowser.open(path.resolve().as_uri())

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Keep the question; it is on the page once it is waited for."""
        probs = query.probs if self.wants_probs else None
        indices, again = query.indices.tolist(), [] if query.again is None else query.again.tolist()
        question = Question(
            key_of(round_number),
            round_number,
            list(dict.fromkeys([*indices, *again])),
            again,
            None if probs is None else [[round(p, 4) for p in row] for row in probs.tolist()],
        )
        question.write(self.folder)
        self._questions[question.key] = question
        return {"question": question.key, "round": round_number, "indices": question.indices}

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers, once they are handed in.

        Raises:
            ValueError: The ticket is none that can be asked on the page.
        """
        question = self._question(ticket)
        if not self._desk.is_handed_in(question.key):
            return None
        return self._answers(self._desk.given(question))

    def revisit(self, ticket: dict[str, Any]) -> Answers:
        """What was answered of it, late answers too, but for what is on the page now."""
        return self._answers(self._desk.given(self._question(ticket)))

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        """Have people answer; back as soon as they hand in, and True always."""
        question = self._question(ticket)
        sheet = self._desk.sheet
        if sheet is None or sheet.question.key != question.key:
            self._show(question)
        self._samples.lock.release()
        try:
            with self._desk.changed:
                self._desk.changed.wait_for(lambda: self._desk.sheet is None, seconds)
        finally:
            self._samples.lock.acquire()
        return True

    def _show(self, question: Question) -> None:
        """Put a question on the page; of one that was handed in what is left of it."""
        assert self._source is not None
        order = question.indices
        if self.order == "alike":
            order = alike(self._source.train, order)
        known = [self._read(path.stem) for path in sorted(self.folder.glob("*_[0-9]*.json"))]
        earlier = [
            other
            for other in known
            if other is not None
            and (other.round < question.round or other.key == question.key)
            and self._desk.is_handed_in(other.key)
        ]
        again = self._desk.is_handed_in(question.key)
        self._desk.show(question, [] if again else order, earlier)

    def _question(self, ticket: dict[str, Any]) -> Question:
        """The question of a ticket, from memory, its file, or the ticket alone."""
        key = ticket["question"]
        found = self._read(key)
        if found is None or sorted(found.indices) != sorted(ticket["indices"]):
            found = Question(key, ticket["round"], ticket["indices"])
        self._questions[key] = found
        return found

    def _read(self, key: str) -> Question | None:
        if key not in self._questions:
            assert self._source is not None
            samples, classes = len(self._source.train), len(self.class_names)
            found = Question.read(self.folder / f"{key}.json", samples, classes)
            if found is None:
                return None
            self._questions[key] = found
        return self._questions[key]

    def _answers(self, given: list[tuple[int, str, Held]]) -> Answers:
        found = [self._target(one) for _, _, one in given]
        shape = (-1, len(self.class_names)) if self.multilabel else (-1,)
        targets = torch.tensor(found, dtype=torch.int64).reshape(shape)
        unsure = [one.answer is not None and "unsure" in one.answer for _, _, one in given]
        return Answers(
            indices=torch.tensor([index for index, _, _ in given], dtype=torch.int64),
            targets=targets,
            abstained=torch.tensor(unsure, dtype=torch.bool),
            cost=torch.ones(len(given)),
            seconds=torch.tensor([one.seconds for _, _, one in given], dtype=torch.float64),
            annotators=[name for _, name, _ in given],
        )

    def _target(self, one: Held) -> int | list[int]:
        assert one.answer is not None
        labels, classes = one.answer.get("labels", []), len(self.class_names)
        if self.multilabel:
            if "unsure" in one.answer:
                return [UNKNOWN] * classes
            return [int(label in labels) for label in range(classes)]
        if "none" in one.answer:
            return REJECTED
        return labels[0] if labels else UNKNOWN

    def tell(self, news: Mapping[str, Any]) -> None:
        """Show it on the page."""
        if self._source is not None:
            self._view.tell(news)

    def close(self) -> None:
        """Let the pages learn how the run ended, and stop serving."""
        if self._source is None:
            return
        self._source = None
        self._view.close()
        self._server.close()
        self._samples.lock.release()
        self._log.close()
        (self.folder / _OPENER).unlink(missing_ok=True)


def _check(order: str, annotators: int, enough: float, port: int) -> None:
    if order not in ("strategy", "alike"):
        raise ValueError(f"oracle.order={order} is unknown; choose strategy or alike")
    if annotators < 1:
        raise ValueError(f"oracle.annotators_per_sample={annotators}; give at least 1")
    if not 0 < enough <= 1:
        raise ValueError(f"oracle.enough={enough}; give a share above 0 and up to 1")
    if not 0 <= port < 65536:
        raise ValueError(f"oracle.port={port}; give 0 for any that is free, up to 65535")


def _rows(path: Path) -> list[dict[str, Any]]:
    """Metrics of the rounds of an earlier start; a line that was cut short is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            log.debug("%s: a line is left out", path)
    return rows


def _write_own(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, at no moment anybody else."""
    with saving(path):
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)


def _has_screen() -> bool:
    """Whether a browser would open a window, and not take over a terminal."""
    return (
        os.name == "nt"
        or os.uname().sysname == "Darwin"
        or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    )
