"""Results files: runs in the CSV that a report writes, small enough to be published."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from dal.reporting.records import RoundRecord, RunError, RunRecord, check_rounds
from dal.utils.safe_files import open_text

FIELDS = (
    "data",
    "model",
    "protocol",
    "strategy",
    "seed",
    "start",
    "metric",
    "labels",
    "value",
    "ece",
    "loss",
    "fit_s",
    "query_s",
    "wasted",
    "drawn",
    "picks",
)

LATER = ("drawn",)
"""Fields that files written before them lack."""


def write_csv(runs: Iterable[RunRecord], path: Path) -> None:
    """Write one line a round; `read_csv` gives the same runs back, but for their settings.

    Args:
        runs: The runs; one of which several metrics are shown is given once for each.
        path: Compressed if its name ends in ``.gz``.
    """
    with open_text(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for run in sorted(runs, key=lambda run: (*run.group, run.strategy, run.seed)):
            start = " ".join(f"{name}={value[:8]}" for name, value in sorted(run.start.items()))
            for r in run.rounds:
                row = [*run.group, run.strategy, run.seed, start, run.metric, r.labels]
                row += [_digits(r.value, 4), _digits(r.ece, 4), _digits(r.loss, 4)]
                row += [_digits(r.fit_s, 2), _digits(r.query_s, 3), r.wasted or ""]
                row += ["" if r.drawn is None else r.drawn]
                writer.writerow([*row, " ".join(f"{k}={n}" for k, n in sorted(r.picks.items()))])


def read_csv(path: Path) -> list[RunRecord]:
    """Read what `write_csv` wrote: a run for each metric, in the order of the file.

    Raises:
        RunError: It is no such file, or a line of it is damaged.
    """
    runs: dict[tuple[str, ...], RunRecord] = {}
    try:
        with open_text(path, "r") as file:
            reader = csv.DictReader(file)
            if lacking := set(FIELDS) - {*LATER, *(reader.fieldnames or ())}:
                raise RunError(
                    f"{path} is no results file of dal report: it lacks {sorted(lacking)[0]}"
                )
            for row in reader:
                try:
                    _add(runs, row, path)
                except (TypeError, ValueError, KeyError) as error:
                    raise RunError(f"{path}, line {reader.line_num} is damaged: {error}") from error
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, csv.Error, EOFError) as error:
        raise RunError(f"{path} is no results file of dal report: {error}") from error
    return list(runs.values())


def _add(runs: dict[tuple[str, ...], RunRecord], row: Mapping[str, str], path: Path) -> None:
    """Add a line of a CSV to its run."""
    names = ("data", "model", "protocol", "strategy", "seed")
    metric = row.get("metric") or "accuracy"
    key = (*(row.get(name) or "" for name in names), metric)
    starts = dict(part.split("=") for part in (row.get("start") or "").split())
    if key not in runs:
        runs[key] = RunRecord(
            path,
            key[0],
            key[1],
            key[2],
            key[3],
            int(key[4]),
            "complete",
            "",
            metric,
            (),
            starts,
        )
    picks = (part.rpartition("=") for part in (row.get("picks") or "").split(" ") if part)
    ece, loss, fit_s, query_s = (
        float(row[name]) if row.get(name) else None for name in ("ece", "loss", "fit_s", "query_s")
    )
    point = RoundRecord(
        int(row["labels"]),
        float(row["value"]),
        ece,
        loss,
        fit_s,
        query_s,
        int(row.get("wasted") or 0),
        int(row["drawn"]) if row.get("drawn") else None,
        {name: int(count) for name, _, count in picks},
    )
    before = runs[key]
    if starts != before.start:
        raise ValueError("the start differs from that of the lines of this run before it")
    check_rounds([*before.rounds[-1:], point], metric)
    runs[key] = replace(runs[key], rounds=(*runs[key].rounds, point))


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
