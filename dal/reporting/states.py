"""How runs stand: read from their ``status.json``, and checked where it can be."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dal.recording.run_directory import read_status
from dal.recording.words import in_words
from dal.utils.lock import held

STATES = ("running", "waiting", "complete", "failed", "preempted")
BAD = ("failed", "died")
"""States in which a run needs somebody. Folders of which nothing is known are shown, no more: they
may be no runs, or runs that have just begun."""
ENDS = ("budget", "max_rounds", "pool_exhausted", "stream_ended")
"""Ends that are no news; a complete run whose end was another tells it."""
_LARGEST = 1e15


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    Attributes:
        folder: The run directory.
        status: As in ``status.json``: ``running``, ``waiting``, ``complete``, ``failed`` or
            ``preempted``; ``died`` where it says running and its process is gone, ``unknown``
            where it cannot be read.
        reason: Why, as far as it is known.
        round: The round in progress; None before the first.
        labels: Labels paid for.
        value: Of the run's headline metric on the test part after the last fit.
        age: Seconds since the status was written.
        audit: What labels to measure by say of the last model, in words; empty without any.
        metric: The run's headline metric.
    """

    folder: Path
    status: str
    reason: str
    round: int | None
    labels: int | None
    value: float | None
    age: float | None
    audit: str = ""
    metric: str = "accuracy"


def read_state(folder: Path) -> RunState:
    """How the run in a folder stands."""
    found = read_status(folder)
    if found.get("status") not in STATES or not _well_formed(found):
        reason = "status.json is missing or damaged; the run's command writes it again"
        return RunState(folder, "unknown", reason, None, None, None, None)
    status, reason = str(found["status"]), str(found.get("reason") or "")
    host, pid = found.get("host"), found.get("pid")
    if status == "running":
        reason = f"process {pid} on {host}"
        if _gone(folder, host, pid):
            if read_status(folder) != found:  # it ended, or went on, just now
                return read_state(folder)
            status, reason = "died", f"{reason} is gone; run its command again, it goes on"
    updated, metric = found.get("updated"), _metric(found)
    return RunState(
        folder,
        status,
        reason,
        found.get("round"),
        found.get("labels"),
        found.get(metric),
        None if updated is None else max(0.0, time.time() - updated),
        str(found.get("audit") or ""),
        metric,
    )


def table(states: Iterable[RunState], below: Path | None = None) -> str:
    """One line a run, and how many there are of each state.

    Args:
        states: The runs.
        below: Folder whose name is left away before those of the runs.
    """
    states = list(states)
    metrics = {state.metric for state in states if state.value is not None}
    heading = "test" if len(metrics) > 1 else in_words(*metrics or {"accuracy"})
    values = [_value(state, len(metrics) > 1) for state in states]
    width = max(map(len, [heading, *values]), default=0)
    lines = [f"{'status':<9}  {'round':>5}  {'labels':>6}  {heading:>{width}}  {'age':>6}  run"]
    counts: dict[str, int] = {}
    for state, value in zip(states, values, strict=True):
        counts[state.status] = counts.get(state.status, 0) + 1
        near = below is not None and state.folder.is_relative_to(below)
        name = state.folder.relative_to(below) if near and below else state.folder
        line = (
            f"{state.status:<9}  {_text(state.round):>5}  {_text(state.labels):>6}  "
            f"{value:>{width}}  {_age(state.age):>6}  {name}"
        )
        reason = "" if state.reason in ENDS else state.reason.strip()
        told = [text.splitlines()[0] for text in (reason, state.audit.strip()) if text]
        lines.append(f"{line}  ({'; '.join(told)})" if told else line)
    listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    if any(status in counts for status in BAD):
        listed += "; run the commands of failed and died runs again, or delete their folders"
    # Names of folders need not be text, and reasons are whatever a file holds.
    text = "\n".join([*lines, "", listed or "no runs"])
    return text.encode(errors="backslashreplace").decode()


def _metric(status: Mapping[str, Any]) -> str:
    """The headline metric of a run; accuracy of runs that do not say."""
    return str(status.get("metric") or "accuracy")


def _value(state: RunState, named: bool) -> str:
    """The metric of a run, with its name where others show another."""
    if state.value is None:
        return ""
    return f"{in_words(state.metric)} {state.value:.4f}" if named else f"{state.value:.4f}"


def _well_formed(status: Mapping[str, Any]) -> bool:
    """Whether every field that is shown is of the kind that runs write."""
    numbers = [status.get(name) for name in ("round", "labels", _metric(status), "updated")]
    return isinstance(status.get("status"), str) and all(
        number is None or (isinstance(number, int | float) and abs(number) < _LARGEST)
        for number in numbers
    )


def _gone(folder: Path, host: object, pid: object) -> bool:
    """Whether nobody works on a run: its lock tells, since others may be given its process id."""
    holds = held(folder, host)
    if holds is None:
        return host == socket.gethostname() and not _lives(pid)
    return not holds


def _lives(pid: object) -> bool:
    """Whether a process of this machine exists; one of another user does."""
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _age(seconds: float | None) -> str:
    """Seconds in the largest unit of which there is one."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
