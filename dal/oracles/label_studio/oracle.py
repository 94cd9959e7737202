"""An oracle that asks people through Label Studio."""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dal.data.source import UNKNOWN, Source
from dal.oracles.base import Answers, Oracle, known_by
from dal.oracles.label_studio.client import Client, UnreachableError, checked_url, read_token
from dal.oracles.label_studio.project import (
    SHOWN,
    TAG,
    OwnProject,
    Project,
    choices,
    interface,
)
from dal.oracles.label_studio.reading import Answer, answers_of, people_of
from dal.oracles.label_studio.samples import Local, Pictures, Uploaded, kind_of, told
from dal.oracles.label_studio.tasks import deliver
from dal.query.base import Query
from dal.task import Multiclass, Multilabel
from dal.utils.logs import REPLICA

log = logging.getLogger(__name__)

UNCHANGED_S = 60.0
"""Seconds after which answers are read although no new one was counted: some may be corrected."""
LONG_S = 1.0
"""Seconds of a look at the server after which it is left in peace for as long."""
MODEL = "dal"
"""Whom guesses are by; a project shows those of one name."""
_EPOCH = -1e9


class LabelStudioOracle(Oracle):
    """Imports each query into a project of its own and collects what people answer there.

    A choice is a label, a skip an abstention, and "none of these" says that no class holds; where
    a sample may have several labels, choosing none says so. What others put into the project is
    left alone. Submitting again adds what is missing, and never a task twice.

    Args:
        folder: Where the mark of the project is kept.
        class_names: The C class names.
        positions: int64, (num_total,), the numbers that people know the samples by; None for their
            places in the training part.
        multilabel: A sample may have any number of the labels.
        run_name: Shown in the title of the project.
        url: The server.
        token_file: A file that holds the token; None for the environment variable
            ``LABEL_STUDIO_API_KEY``.
        guess: Show the model's guess as a pre-annotation, with its probability.
        pictures: ``upload`` sends them; ``local`` lets the server read them itself.
        document_root: With ``local``, ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`` of the server.
        images: With ``local``, the folder that ``data.path`` names, below the document root; both
            as the machine of the server knows them.
        wait: Wait in the process; else the run ends as ``waiting``.
        enough: See `dal.oracles.Oracle.enough`.
        annotators_per_sample: How many people shall answer each sample.

    Attributes:
        pauses: Seconds between two looks at the server: at least, and where nothing happens, most.

    Raises:
        ValueError: A setting is out of range, or there is no token.
        FileNotFoundError: There is no such file of a token.
    """

    name = "label_studio"
    pauses = (2.0, 30.0)

    def __init__(
        self,
        folder: str | Path,
        class_names: tuple[str, ...],
        positions: Tensor | None = None,
        multilabel: bool = False,
        run_name: str = "run",
        url: str = "http://127.0.0.1:8080",
        token_file: str | None = None,
        guess: bool = False,
        pictures: Literal["upload", "local"] = "upload",
        document_root: str | None = None,
        images: str | None = None,
        wait: bool = True,
        enough: float = 1.0,
        annotators_per_sample: int = 1,
    ) -> None:
        if annotators_per_sample < 1:
            raise ValueError(
                f"oracle.annotators_per_sample={annotators_per_sample}; give at least 1"
            )
        if pictures not in ("upload", "local"):
            raise ValueError(f"oracle.pictures={pictures!r} is unknown; use upload or local")
        if pictures == "local" and not (document_root and images):
            raise ValueError("oracle.pictures=local needs oracle.document_root and oracle.images")
        self.folder, self.class_names = Path(folder), class_names
        self.positions, self.multilabel, self.run_name = positions, multilabel, run_name
        self.wants_probs, self.enough = guess, enough
        self.answers_per_sample = annotators_per_sample
        self._places = (document_root, images) if document_root and images else None
        self._local, self._waits = pictures == "local", wait
        self._task = (Multilabel if multilabel else Multiclass)(len(class_names))
        self._client = Client(checked_url(url), read_token(token_file))
        self._targets = choices(class_names, multilabel)
        self._source: Source | None = None
        self._asked: dict[str, Any] | None = None
        self._seen: Project | None = None
        self._delivered: str | None = None
        self._answers: dict[str, list[Answer]] = {}
        self._people: dict[int, str] = {}
        self._read_at = self._looked_at = _EPOCH
        self._pause, self._said, self._foreign = self.pauses[0], "", 0

    def open(self, source: Source) -> None:
        """Take the data, and try the token: before anything is trained.

        Raises:
            ValueError: The token is refused, pictures cannot be shown as they shall, or the
                process shall wait while it does several runs.
            UnreachableError: The server is gone, and was never seen by this run.
        """
        if self._waits and REPLICA.get():
            raise ValueError(
                "oracle=label_studio waits for people about one run, and this command does "
                "several; set oracle.wait=false, or give one seed and one strategy, without "
                "replicas or -m"
            )
        self._source = source
        self._pictures  # noqa: B018 - refused settings leave nothing behind
        try:
            self._client.get("/api/projects/", page_size=1, include="id")
        except UnreachableError as error:
            if not self._project.is_known:
                raise UnreachableError(
                    f"{error}; mend this and run the same command again"
                ) from None
            log.warning("%s", error)

    def submit(self, query: Query, round_number: int) -> dict[str, Any]:
        """Import the samples, in the order of the query.

        A server that is gone gets them later, where the process waits for it.

        Raises:
            UnreachableError: It is gone, and nobody waits.
            ValueError: It refuses, or the project is gone.
        """
        kind = "round" if round_number >= 0 else "initial"
        indices = query.indices.tolist()
        samples = known_by(query.indices, self.positions, self._source)
        ticket: dict[str, Any] = {
            "question": f"{kind}_{abs(round_number):04d}",
            "indices": indices,
            "samples": samples,
            "scores": [] if query.scores.isnan().any() else query.scores.tolist(),
            "guesses": [],
        }
        if self.wants_probs and query.probs is not None:
            ticket["guesses"] = [list(guess) for guess in self._task.guess(query.probs)]
        self._refresh(ticket)
        where = {"where": self._project.address(self._seen)} if self._seen else {}
        return ticket | where

    def collect(self, ticket: dict[str, Any]) -> Answers | None:
        """The answers so far; None while there is none.

        Raises:
            UnreachableError: The server is gone, and nobody waits.
            ValueError: Somebody chose what is no class, or the project is gone.
        """
        self._refresh(ticket)
        answers = self._collected(ticket)
        return answers if len(answers.indices) else None

    def revisit(self, ticket: dict[str, Any]) -> Answers:
        """The answers to an earlier query as they stand now."""
        self._refresh()
        return self._collected(ticket)

    def wait(self, ticket: dict[str, Any], seconds: float) -> bool:
        """Wait, where that was asked for."""
        if self._waits:
            due = self._looked_at + self._pause - time.monotonic()
            time.sleep(min(max(due, 0.01), seconds))
        return self._waits

    @cached_property
    def _project(self) -> OwnProject:
        assert self._source is not None
        settings = {
            "label_config": interface(list(self._targets), self.multilabel, kind_of(self._source)),
            "sampling": "Sequential sampling",
            "maximum_annotations": self.answers_per_sample,
            "skip_queue": "IGNORE_SKIPPED",
            "show_collab_predictions": True,  # of tasks that have one
            "enable_empty_annotation": self.multilabel,
        }
        return OwnProject(self._client, self.folder, self.run_name, settings)

    @cached_property
    def _pictures(self) -> Pictures | None:
        """How pictures are shown; None where the samples are none."""
        assert self._source is not None
        if kind_of(self._source) != "image":
            if self._local:
                raise ValueError(f"oracle.pictures=local, but {self._source.name} has no pictures")
            return None
        if self._places is not None and self._local:
            return Local(self._client, self._source, *self._places)
        return Uploaded(self._client, self._source, lambda: self._project.mark)

    def _refresh(self, ticket: dict[str, Any] | None = None) -> None:
        """Look at the server where it is time to, or where another question is asked."""
        new = ticket is not None and ticket["question"] != (self._asked or {}).get("question")
        self._asked = ticket or self._asked
        if new or time.monotonic() >= self._looked_at + self._pause:
            with self._patience():
                self._look()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Where the process waits, a server that is gone is waited for, with a word."""
        began = time.monotonic()
        try:
            yield
            self._said = ""
        except UnreachableError as error:
            if not self._waits:
                raise UnreachableError(
                    f"{error}; nothing is lost: mend this and run the same command again"
                ) from None
            if self._said != str(error):
                log.warning("%s; nothing is lost, waiting for it", error)
            self._said, self._seen = str(error), None
            self._pause = min(2 * self._pause, self.pauses[1])
        finally:
            self._looked_at = time.monotonic()
            if (took := self._looked_at - began) > LONG_S:
                self._pause = max(self._pause, took)

    def _look(self) -> None:
        """Put on the server what is missing there of the question, and read what is new."""
        project, old = self._project.look(), self._seen
        question = (self._asked or {}).get("question")
        if self._asked is not None and (self._delivered, old and old.tasks) != (
            question,
            project.tasks,
        ):
            self._deliver(project, self._asked)
            project, self._delivered = self._project.look(), question
        idle = time.monotonic() < self._read_at + UNCHANGED_S
        if idle and old is not None and old.news == project.news:
            self._pause = min(1.5 * self._pause, self.pauses[1])
        else:
            self._read(project)
            self._pause = self.pauses[0]
        self._seen = project

    def _deliver(self, project: Project, ticket: dict[str, Any]) -> None:
        question, mark = ticket["question"], self._project.mark
        count = deliver(
            self._client,
            project.number,
            mark,
            question,
            ticket["indices"],
            lambda places: self._tasks(project.number, ticket, places),
        )
        if count:
            log.info(
                "%s: %d samples to label at %s", question, count, self._project.address(project)
            )

    def _tasks(
        self, project: int, ticket: Mapping[str, Any], places: Sequence[int]
    ) -> list[dict[str, Any]]:
        """The tasks of some places of a question."""
        source = self._source
        assert source is not None
        indices = [ticket["indices"][place] for place in places]
        if self._pictures is not None:
            addresses = self._pictures.addresses(project, indices)
            titles = [posixpath.basename(source.content(index)) for index in indices]
            shown: list[dict[str, Any]] = [
                {"image": address, **({"title": title} if title else {})}
                for address, title in zip(addresses, titles, strict=True)
            ]
        else:
            kind = kind_of(source)
            shown = [told(source, kind, index) for index in indices]
        tasks = []
        for place, index, data in zip(places, indices, shown, strict=True):
            data |= {"index": ticket["samples"][place], "dal_sample": index}
            data |= {"score": ticket["scores"][place]} if ticket["scores"] else {}
            guess = ticket["guesses"][place] if ticket["guesses"] else None
            tasks.append({"data": data, "predictions": self._predicted(guess)})
        return tasks

    def _predicted(self, guess: Any) -> list[dict[str, Any]]:
        """A guess as a pre-annotation; nothing where there is none, or no label is guessed."""
        if guess is None:
            return []
        target, probability = guess
        held = [target] if isinstance(target, int) else [c for c, on in enumerate(target) if on]
        names = list(self._targets)  # in the order of the classes
        value = {"choices": [names[number] for number in held]}
        result = {"from_name": TAG, "to_name": SHOWN, "type": "choices", "value": value}
        one = {"model_version": MODEL, "score": probability, "result": [result]}
        return [one] if held else []

    def _read(self, project: Project) -> None:
        """Read all answers, and say how far the question got."""
        path = f"/api/projects/{project.number}"
        exported = self._client.get(f"{path}/export", exportType="JSON")
        self._answers, foreign = answers_of(exported, self._project.mark)
        found = {one.person for answers in self._answers.values() for one in answers} - {None}
        if not found <= self._people.keys():
            known = people_of(self._client.get(f"{path}/annotators/"))
            self._people = self._project.names_of([n for n in found if n is not None], known)
        self._read_at = time.monotonic()
        if foreign > self._foreign:
            log.warning(
                "%d answered tasks of project %d are not of this run; they are left alone",
                foreign,
                project.number,
            )
        self._foreign = foreign
        if self._asked is not None:
            question, asked = self._asked["question"], set(self._asked["indices"])
            done = {one.sample for one in self._answers.get(question, [])} & asked
            log.info("%s: %d of %d samples are answered", question, len(done), len(asked))

    def _collected(self, ticket: dict[str, Any]) -> Answers:
        """The answers to a question, checked."""
        asked = set(ticket["indices"])
        found = [one for one in self._answers.get(ticket["question"], []) if one.sample in asked]
        shape = (len(found), len(self.class_names)) if self.multilabel else (len(found),)
        targets = torch.tensor([self._target(one) for one in found], dtype=torch.int64)
        return Answers(
            indices=torch.tensor([one.sample for one in found], dtype=torch.int64),
            targets=targets.reshape(shape),
            abstained=torch.tensor([self._abstains(one) for one in found], dtype=torch.bool),
            cost=torch.ones(len(found)),
            seconds=torch.tensor([one.seconds for one in found], dtype=torch.float64),
            annotators=[self._name(one) for one in found],
        )

    def _abstains(self, one: Answer) -> bool:
        """A skip; or, where one class holds, an answer without any."""
        return one.choices is None or not (one.choices or self.multilabel)

    def _target(self, one: Answer) -> int | list[int]:
        if wrong := [name for name in one.choices or () if name not in self._targets]:
            raise ValueError(
                f"task {one.task} of Label Studio has the label {wrong[0][:80]!r}, which is no "
                "class of this run; change that answer (and the choices of the project, where "
                "somebody changed them) and run the same command again; nothing is lost"
            )
        held = {self._targets[name] for name in one.choices or ()}
        if not self.multilabel:
            if len(held) > 1:
                raise ValueError(
                    f"task {one.task} of Label Studio has {len(held)} labels, and a sample has one "
                    "here; change that answer and run the same command again; nothing is lost"
                )
            return next(iter(held), UNKNOWN)
        if self._abstains(one):
            return [UNKNOWN] * len(self.class_names)
        return [int(number in held) for number in range(len(self.class_names))]

    def _name(self, one: Answer) -> str:
        return self.name if one.person is None else self._people[one.person]
