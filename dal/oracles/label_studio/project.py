"""The project of a run on a Label Studio server: found again by a mark, or created."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from dal.oracles.label_studio.client import Client, RefusedError, field, rows
from dal.pool import REJECTED
from dal.utils.safe_files import make_folder, write_text_atomically

log = logging.getLogger(__name__)

FILE = "label_studio.json"
"""Holds the run's mark, and where its project is."""
TAG, SHOWN = "label", "sample"
"""Names of the choices and of what they are about, in the labeling interface."""
NONE = "none of these"
"""The choice that says so, where a sample has one class."""
_TITLE = 50  # letters that Label Studio takes
_KEYS = "123456789"

OBJECTS = {
    "image": f'<Image name="{SHOWN}" value="$image" zoom="true"/>',
    "text": f'<Text name="{SHOWN}" value="$text"/>',
    "table": f'<Table name="{SHOWN}" value="$columns"/>',
}
"""What shows a sample, by its kind; none of them takes a text for HTML."""


def choices(class_names: Sequence[str], multilabel: bool) -> dict[str, int]:
    """What people may choose, in order, and the target that each means.

    Args:
        class_names: The C class names. A dollar sign, which Label Studio takes for a part of the
            task's data, is written in its wide form.
        multilabel: Any number may be chosen; else one, or that it is none of them.
    """
    found: dict[str, int] = {}
    for number, name in enumerate(class_names):
        name = name.replace("$", "\uff04")
        while name in found:
            name = f"({name})"
        found[name] = number
    none = NONE
    while none in found:
        none = f"({none})"
    return found if multilabel else found | {none: REJECTED}


def interface(names: Sequence[str], multilabel: bool, kind: str) -> str:
    """The labeling interface: what people see and may choose.

    Args:
        names: Of the choices, in any script and with any marks.
        multilabel: Any number of them may be chosen; else one.
        kind: One of `OBJECTS`.

    Returns:
        XML. The digits are keys: each choice that is named by one has it, the others have those
        that are left, and of one class a sample the last choice, which is none of them, has 0.
    """
    own = {name: name for name in names if len(name) == 1 and name in f"0{_KEYS}"}
    own |= {} if multilabel or "0" in own else {names[-1]: "0"}
    free = (key for key in _KEYS if key not in own)
    keys = {name: own.get(name) or next(free, "") for name in names}
    listed = "".join(
        f"<Choice value={quoteattr(name)}{f' hotkey={quoteattr(key)}' if key else ''}/>"
        for name, key in keys.items()
    )
    how = 'choice="multiple"' if multilabel else 'choice="single" required="true"'
    return (
        f'<View>{OBJECTS[kind]}<Choices name="{TAG}" toName="{SHOWN}" {how} showInline="true">'
        f"{listed}</Choices></View>"
    )


@dataclass(frozen=True)
class Project:
    """A project as it stands.

    Attributes:
        number: Its number on the server.
        tasks: How many tasks it has, those of others included.
        news: Changes whenever somebody answers or skips; of corrected answers it does not tell.
    """

    number: int
    tasks: int
    news: tuple[int, int, int]


class OwnProject:
    """The one project of a run, told from all others by a random mark in its title.

    The mark is on the disk before the server is asked for anything, so that a run that was killed
    while its project was created finds it.

    Args:
        client: The server.
        folder: Where the mark is kept; made when it is first needed.
        run_name: Shown in the title.
        settings: Those of a new project, as the server names them.
    """

    def __init__(
        self, client: Client, folder: Path, run_name: str, settings: Mapping[str, Any]
    ) -> None:
        self.client, self.path = client, folder / FILE
        self._run_name, self._settings = run_name, settings

    @property
    def is_known(self) -> bool:
        """Whether a project was found or created before."""
        return self.path.exists() and self._read()["project"] is not None

    @property
    def mark(self) -> str:
        """What tells the run from all others: 16 hexadecimal digits."""
        return str(self._read()["mark"])

    def names_of(self, people: Collection[int], known: Mapping[int, str]) -> dict[int, str]:
        """What people are called in the run: as at first, whatever they call themselves later.

        Args:
            people: Their numbers on the server.
            known: What they call themselves now.
        """
        kept = self._read()
        named: dict[str, str] = kept.setdefault("people", {})
        if new := {n: known.get(n, f"person {n}") for n in people if str(n) not in named}:
            named |= {str(number): name for number, name in new.items()}
            self._write(kept)
        return {int(number): name for number, name in named.items()}

    def look(self) -> Project:
        """The project as it stands; created where the run has none yet.

        Raises:
            ValueError: It was deleted, or belongs to something else now.
            UnreachableError: The server is gone.
        """
        kept = self._read()
        found = self._with_mark(kept["mark"], {"ids": kept["project"]} if kept["project"] else {})
        if not found and kept["project"] is not None:
            raise ValueError(
                f"project {kept['project']} of this run is not at {self.client.url}: it was "
                "deleted, or this is another server. The labels collected so far are kept. Set "
                f"oracle.url to the right server; or remove {self.path} to be asked anew in a new "
                "project, and run the same command again"
            )
        if not found:
            self._create(kept["mark"])  # which another process, since killed, may still be doing
            found = self._with_mark(kept["mark"], {})
        if not found:
            raise ValueError(f"{self.client.url} does not list the project that it created")
        project = min(found, key=lambda one: one.number)
        if project.number != kept["project"]:
            self._write(kept | {"project": project.number})
        if len(found) > 1:
            others = ", ".join(str(one.number) for one in found if one != project)
            log.warning("project %s was created twice and may be deleted", others)
        return project

    def address(self, project: Project) -> str:
        """Where people label."""
        return f"{self.client.url}/projects/{project.number}/data"

    def _with_mark(self, mark: str, query: Mapping[str, Any]) -> list[Project]:
        """Projects with the mark: numbers are given anew when one was deleted."""
        reply = self.client.get("/api/projects/", page_size=100, **(query or {"title": mark}))
        return [
            Project(
                field(row, "id", int),
                field(row, "task_number", int),
                tuple(  # type: ignore[arg-type]
                    field(row, f"{name}_number", int)
                    for name in ("total_annotations", "skipped_annotations", "finished_task")
                ),
            )
            for row in rows(field(reply, "results", list))
            if mark in f"{row.get('title')} {row.get('description')}"
        ]

    def _create(self, mark: str) -> None:
        ending = f" (dal {mark})"
        title = f"{self._run_name[: _TITLE - len(ending)]}{ending}"
        about = f"Questions of the run {self._run_name}. dal knows this project by the mark {mark}."
        settings = {"title": title, "description": about, **self._settings}
        try:
            self.client.post("/api/projects/", settings)
        except RefusedError as error:
            if error.status != 400:
                raise
            raise ValueError(f"the project cannot be created: {error}") from error

    def _read(self) -> dict[str, Any]:
        """The mark, made where there is none; the project's number, or None; names of people."""
        try:
            kept = json.loads(self.path.read_text())
            number, people = kept["project"], kept.get("people", {})
            named = all(key.isdecimal() and type(name) is str for key, name in people.items())
            if len(kept["mark"]) == 16 and (number is None or type(number) is int) and named:
                return dict(kept)
        except FileNotFoundError:
            return self._write({"mark": secrets.token_hex(8), "project": None})
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        raise ValueError(
            f"{self.path} is damaged: it held the mark that tells the run's project; look for the "
            "mark in the title of the project and write "
            '{"mark": "...", "project": null} into the file'
        )

    def _write(self, kept: dict[str, Any]) -> dict[str, Any]:
        make_folder(self.path.parent)
        write_text_atomically(self.path, json.dumps(kept) + "\n", sync=True)
        return kept
