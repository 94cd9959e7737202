"""What a run goes on from besides its checkpoints: the ledger of labels, and the rows of metrics.

Both grow with the rounds and are only appended to; a checkpoint holds where they end. The ledger,
``ledger.jsonl``, stands twice, and each line of it has a digest of its own, so that labels outlive
the checkpoints: they are what was paid for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dal.checkpoint import load, save
from dal.pool import Pool
from dal.state import FORMAT, check_format
from dal.utils.journal import Journal
from dal.utils.safe_files import DamagedError

LEDGER = "ledger.jsonl"
ROWS = "rows.jsonl"
METRICS = "metrics.jsonl"
QUESTION = "question.pt"
"""The query that waits for answers, for a run whose checkpoints get lost."""
SAMPLES = "samples.pt"
"""Which samples a run has, where its data may come to hold more."""
_CHECK = ', "check": "'


def remedy_for_other_data(listed: bool) -> str:
    """What to do where the data are not those of a run, which may have a listing of its samples."""
    listing = f" (or {SAMPLES}, which says what is which sample, if it is another run's or gone)"
    return f"restore them{listing * listed}, or choose another saved_dir to start anew"


class Journals:
    """The ledger of a run, and its rows of metrics.

    Args:
        run_dir: The run directory.
        data: Digest of the data to which the ledger's indices belong.
    """

    def __init__(self, run_dir: Path, data: str) -> None:
        self.run_dir, self.data = run_dir, data
        header, checkpoints = _signed({"format": FORMAT, "data": data}), run_dir / "checkpoints"
        self.ledger = Journal(run_dir / LEDGER, header, sync=True)
        self.spare = Journal(checkpoints / LEDGER, header)
        self.rows = Journal(checkpoints / ROWS, sync=True)

    @property
    def remedy(self) -> str:
        """What to do where nothing is left to go on from; it keeps the answers of people."""
        return (
            f"restore it, or move all but queries/ out of {self.run_dir} and run the same command "
            "again: it begins anew, and answers that stand in queries/ are found there"
        )

    def extend(self, pool: Pool, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Append what is new and wait for the disk.

        Returns:
            Marks for a checkpoint to hold: `events` and `rows_of` take them.

        Raises:
            OSError: The disk is full or not writable.
        """
        entries = cache(lambda first: _events(pool, first))
        for journal in (self.ledger, self.spare):
            journal.extend(entries)
        self.rows.extend(lambda first: row_lines(rows[first:]))
        return {"ledger": self.ledger.mark, "rows": self.rows.mark}

    def take(self, pool: Pool, rows: Sequence[Mapping[str, Any]]) -> None:
        """Go on from here: what a killed run had appended beyond it is cut off."""
        events = _events(pool, 0)
        for journal in (self.ledger, self.spare):
            journal.take(events)
        self.rows.take(row_lines(rows))

    def events(self, marks: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The ledger as a checkpoint knew it.

        Raises:
            DamagedError: Neither of its files holds it.
        """
        try:
            text = self.ledger.read(marks["ledger"])
        except DamagedError as error:
            try:
                text = self.spare.read(marks["ledger"])
            except DamagedError:
                raise error from None
        return [json.loads(line) for line in text.splitlines()]

    def rows_of(self, marks: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of metrics as a checkpoint knew them.

        Raises:
            DamagedError: The file does not hold them.
        """
        return [json.loads(line) for line in self.rows.read(marks["rows"]).splitlines()]

    def rows_shown(self, count: int) -> list[dict[str, Any]] | None:
        """The first rows as people see them in ``metrics.jsonl``; None where they are not whole."""
        try:
            lines = (self.run_dir / METRICS).read_text().splitlines()[:count]
            rows = [dict(json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError):
            return None
        return rows if [row.get("round") for row in rows] == list(range(count)) else None

    def all_events(self) -> list[dict[str, Any]] | None:
        """The whole ledger, where no checkpoint says where it ends; None where there is no ledger.

        Raises:
            DamagedError: There is one, and a line of it is damaged.
            ValueError: It is that of another version, or belongs to other data.
        """
        there = [journal.path for journal in (self.ledger, self.spare) if journal.path.exists()]
        causes, found = [], list[list[dict[str, Any]]]()
        for path in there:
            try:
                header, *events = _read(path)
            except DamagedError as error:
                causes.append(str(error))
                continue
            check_format(header)
            if header.get("data") != self.data:
                remedy = remedy_for_other_data((self.run_dir / SAMPLES).exists())
                raise ValueError(f"the data have changed since {path} was written; {remedy}")
            found.append(events)
        if there and not found:
            raise DamagedError(f"{causes[0]}; {self.remedy}")
        # One that lost lines at its end is whole line by line, but the other has all labels.
        return max(found, key=len, default=None)

    def keep_question(
        self,
        round_number: int,
        pending: dict[str, Any] | None,
        tickets: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Keep what is asked in a round, and what was asked before and may be answered yet.

        Raises:
            OSError: The disk is full or not writable.
        """
        asked = {"pending": pending, "tickets": list(tickets)}
        question = {"data": self.data, "round": round_number, **asked}
        save(self.run_dir / QUESTION, question)

    def question(self, round_number: int) -> dict[str, Any] | None:
        """``pending`` and ``tickets`` of the state in a round, if they were kept."""
        try:
            kept = load(self.run_dir / QUESTION)
        except (FileNotFoundError, DamagedError):
            return None
        same = (kept["data"], kept["round"]) == (self.data, round_number)
        asked = {"pending": kept["pending"], "tickets": kept.get("tickets", [])}
        return asked if same else None

    def check_absence(self) -> None:
        """Refuse to begin over the results of a run whose labels are gone.

        Raises:
            ValueError: Naming what stands in the run directory, and the remedy.
        """
        for name, lines in ((METRICS, 0), ("queries.csv", 1)):
            path = self.run_dir / name
            if path.exists() and len(path.read_bytes().splitlines()) > lines:
                raise ValueError(
                    f"{path} holds results, but there is no {LEDGER} to go on from; {self.remedy}"
                )


def row_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of metrics as lines of a file."""
    return [json.dumps(row) + "\n" for row in rows]


def _events(pool: Pool, first: int) -> list[str]:
    events = enumerate(pool.events(first), first)
    return [_signed({"event": number, **event}) for number, event in events]


def _signed(entry: Mapping[str, Any]) -> str:
    """An entry as a line that tells whether it is whole."""
    text = json.dumps(entry)
    return f'{text[:-1]}{_CHECK}{_digest(text)}"}}\n'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> list[dict[str, Any]]:
    """The signed entries of a file; a last line without its end was being written when all ended.

    Raises:
        DamagedError: A line is missing or damaged.
    """
    entries: list[dict[str, Any]] = []
    try:
        *lines, _ = path.read_bytes().decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} cannot be read ({error})") from error
    for number, line in enumerate(lines):
        body, _, check = line.rpartition(_CHECK)
        whole = check == f'{_digest(body + "}")}"}}'
        entry = json.loads(f"{body}}}") if whole else None
        if entry is None or entry.get("event", -1) != number - 1:
            raise DamagedError(f"{path} is damaged in line {number + 1}")
        entries.append(entry)
    if not entries:
        raise DamagedError(f"{path} holds no whole line")
    return entries
