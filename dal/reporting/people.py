"""Who answered, how much, how fast and how well: from the ``people.json`` of runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dal.reporting.compare import Group
from dal.reporting.records import RunError
from dal.reporting.tables import markdown, number

PEOPLE = "people.json"
MOST_ERRORS = 3
"""So many kinds of errors of a person are named."""


def read_people(where: Path) -> dict[str, Any]:
    """What a run recorded of those who answered; empty where there is nothing.

    Args:
        where: Its directory, or the results file that it was read from.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return _checked(json.loads((where / PEOPLE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(
            f"{where / PEOPLE} is damaged; delete it, or give the command of the run again, which "
            "writes it anew"
        ) from None


def _checked(found: Any) -> dict[str, Any]:
    """What was read, if it has all that is shown."""
    _about([found])
    for person in found["people"].values():
        _cells([person])
    return dict(found)


def people_section(group: Group) -> str:
    """What the report says of the people of a group; empty where the simulator alone answered."""
    found = [people for run in group.every if (people := read_people(run.where))]
    return f"{_about(found)}\n\n{people_table(found)}" if found else ""


def _about(found: Sequence[Mapping[str, Any]]) -> str:
    """What is known of all people together."""
    alphas = [one["alpha"] for one in found if one["alpha"] is not None]
    several, right, known = (
        sum(one[key] for one in found) for key in ("several", "right", "known")
    )
    facts = ["Who answered, summed over runs."]
    if several:
        facts.append(f"{several} samples have answers of several people.")
    if alphas:
        facts.append(
            f"Krippendorff's alpha of their answers is {fmean(alphas):.2f}, mean over runs (1: all "
            "agree; 0: as by chance)."
        )
    if known:
        facts.append(
            f"Of the labels decided on, {right / known:.1%} are the data's own ({known} known)."
        )
    return " ".join(facts)


def people_table(found: Sequence[Mapping[str, Any]]) -> str:
    """A row for everybody who answered in some runs; columns of which nothing is known left out."""
    columns: dict[str, list[str]] = {}
    for name in sorted({name for one in found for name in one["people"]}):
        parts = [one["people"][name] for one in found if name in one["people"]]
        for title, cell in ({"annotator": name} | _cells(parts)).items():
            columns.setdefault(title, []).append(cell)
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    return markdown(list(shown), zip(*shown.values(), strict=True))


def _cells(parts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One person's numbers, summed over runs."""

    def total(key: str) -> float:
        numbers: list[float] = [part[key] for part in parts]
        return sum(numbers)

    def share(hits: str, of: str) -> str:
        return f"{total(hits) / total(of):.1%}" if total(of) else ""

    qualities = [part["quality"] for part in parts if part["quality"] is not None]
    return {
        "answers": str(total("answers")),
        "cannot tell": _some(total("abstained")),
        "none of these": _some(total("rejected")),
        "cost": f"{total('cost'):g}",
        "seconds an answer": number(total("seconds") / total("timed"), 1) if total("timed") else "",
        "as decided": share("agreed", "shared"),
        "quality (Dawid-Skene)": number(fmean(qualities), 2) if qualities else "",
        "as the data's own": share("right", "known"),
        "errors, decided → said": _errors(parts),
    }


def _some(count: float) -> str:
    return str(count) if count else ""


def _errors(parts: Sequence[Mapping[str, Any]]) -> str:
    """The most frequent ones, with how often they came."""
    counts: Counter[tuple[str, str]] = Counter()
    for part in parts:
        for true, said, count in part["confusion"]:
            if true != said:
                counts[true, said] += count
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_ERRORS]
    return ", ".join(f"{_cell(a)} → {_cell(b)} ({count})" for (a, b), count in most)


def _cell(name: str) -> str:
    """A name within a Markdown table."""
    return name.replace("|", "\\|")
