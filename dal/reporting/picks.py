"""Which samples the strategies of runs picked, from ``queries.csv``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_picks(
    path: Path, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, Counter[str]], dict[int, list[float]]]:
    """By round, how many samples of each class were picked, abstentions left out; all scores.

    A sample was picked in the round of its first answer, or in that whose row says it came late;
    its last answer counts, if it names classes. Lines without a score are of samples that no
    strategy picked.

    Args:
        path: A run's ``queries.csv``; nothing was picked where there is none.
        rows: Metrics of its rounds.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, csv.Error: The file is damaged.
    """
    late = {index: row["round"] for row in rows for index in row.get("query/open", ())}
    found: dict[int, tuple[int, float]] = {}
    labels: dict[int, str] = {}
    if not path.exists():
        return {}, {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, strict=True):
            if row["sample"] is None or None in row:
                raise ValueError("a line has too few cells, or too many")
            if row["score"]:
                number, index = int(row["round"]), int(row["index"])
                found.setdefault(index, (late.get(index, number), float(row["score"])))
                labels[index] = row["label"].replace(" ", "_")
    nothing = ("?", "-") if any("rejected" in row for row in rows) else ("?",)
    picks: dict[int, Counter[str]] = {}
    scores: dict[int, list[float]] = {}
    for index, (number, score) in found.items():
        scores.setdefault(number, []).append(score)
        if labels[index] not in nothing:
            picks.setdefault(number, Counter()).update(labels[index].split(";"))
    return picks, scores


def drawn_picks(row: Mapping[str, Any], scores: Sequence[float]) -> int | None:
    """All picks of a random query; else the picks of the lowest score, where that is tied."""
    if row.get("query/random"):
        return len(scores)
    tied = row.get("query/tied")
    if tied is None or not scores:
        return None
    return scores.count(min(scores)) if tied else 0
