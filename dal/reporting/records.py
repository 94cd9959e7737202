"""Runs as a report knows them, read from run directories."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dal.recording.run_directory import read_status
from dal.recording.words import audit_words
from dal.reporting.chosen import chosen_of, shared_settings, strategy_name, without_own_seed
from dal.reporting.measures import column, is_share, recorded, short, sign
from dal.reporting.picks import drawn_picks, read_picks
from dal.settings import digest

HEADLINES = ("micro_f1", "accuracy")
"""What a curve shows where nobody chose: the first of these that a run has."""


REPAIR = (
    "delete the run's status.json and give its command again: the file is written anew from the "
    "checkpoint"
)


class RunError(ValueError):
    """A run directory or a results file that cannot be read; the message says which and why."""


class MetricError(RunError):
    """A run in which a metric was not recorded; the message says which there are."""


@dataclass(frozen=True)
class RoundRecord:
    """One round of a run; NaN-free: what a run does not have is None.

    Attributes:
        labels: Labels paid for: initial ones and answers, "none of these" among them.
        value: The metric that is shown.
        ece: Expected calibration error on the test part, in [0, 1].
        loss: Test loss, in nats.
        fit_s: Seconds of the fit.
        query_s: Seconds of pool pass and choice; None in the last round.
        wasted: Answers that were "none of these".
        drawn: Picks that a draw decided, among equal scores or because there were none; None where
            the strategy does not choose by scores alone.
        picks: How many samples of each class were picked, by class name.
    """

    labels: int
    value: float
    ece: float | None = None
    loss: float | None = None
    fit_s: float | None = None
    query_s: float | None = None
    wasted: int = 0
    drawn: int | None = None
    picks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        where: The run directory or the CSV file it was read from.
        data: Option of the data set.
        model: Option of the model.
        protocol: Digest of all settings that runs compared must share; empty in old files.
        strategy: Option of the strategy, with the settings in which it differs from its file.
        seed: Seed.
        status: As in ``status.json``; ``complete`` for runs from a CSV.
        reason: Why it stands as it does.
        metric: What `RoundRecord.value` is, by its name in `dal.reporting.measures`.
        rounds: Its rounds, labels increasing.
        start: Digests of split, initial labels, candidates and first weights, by name; runs
            compared at one seed must share them. Empty where they were not recorded.
        settings: The shared settings in plain containers; empty for runs from a CSV.
        recall: Recall of each class on the test part after the last round, by class name.
        note: What was left out on reading, or empty.
        rows: Metrics of the rounds as the run wrote them; empty for runs from a CSV.
    """

    where: Path
    data: str
    model: str
    protocol: str
    strategy: str
    seed: int
    status: str
    reason: str
    metric: str
    rounds: tuple[RoundRecord, ...]
    start: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    recall: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    rows: Sequence[Mapping[str, Any]] = field(default=(), compare=False, repr=False)

    @property
    def group(self) -> tuple[str, str, str]:
        """Runs with equal groups may be averaged."""
        return self.data, self.model, self.protocol

    @property
    def labels(self) -> list[int]:
        """Labels paid for at each round."""
        return [r.labels for r in self.rounds]

    @property
    def values(self) -> list[float]:
        """The metric of each round."""
        return [r.value for r in self.rounds]

    @property
    def sign(self) -> int:
        """See `dal.reporting.measures.sign`."""
        return sign(self.metric)


def find_runs(paths: Iterable[Path]) -> Iterator[Path]:
    """Run directories at or below some folders, each once, in the order of their names.

    Raises:
        RunError: A path does not exist.
    """
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise RunError(f"there is no {path}; give run directories or folders of them")
        if not path.is_dir():
            raise RunError(f"{path} is a file; give run directories or folders of them")
        found |= {status.parent for status in path.rglob("status.json")}
        found |= {config.parent for config in path.rglob("config.yaml")}
    yield from sorted(found)


def check_rounds(rounds: Sequence[RoundRecord], metric: str = "accuracy") -> None:
    """Refuse rounds that no run writes.

    Raises:
        ValueError: Labels do not increase, or a metric is out of range, infinite or NaN.
    """
    labels = [r.labels for r in rounds]
    if labels[0] < 0 or any(later <= earlier for earlier, later in pairwise(labels)):
        raise ValueError(f"the labels {labels} do not increase from round to round")
    for r in rounds:
        shares = [r.value] if is_share(metric) else []
        shares += [] if r.ece is None else [r.ece]
        if wrong := [share for share in shares if not 0 <= share <= 1]:
            raise ValueError(f"{wrong[0]} at {r.labels} labels is no metric in [0, 1]")
        numbers = [n for n in (r.value, r.loss, r.fit_s, r.query_s) if n is not None]
        if wrong := [n for n in numbers if not math.isfinite(n)]:
            raise ValueError(f"{wrong[0]} at {r.labels} labels is not finite")


def read_run(folder: Path, metric: str | None = None) -> RunRecord:
    """Read a run directory, complete or not.

    Args:
        folder: The run directory.
        metric: What is shown, such as ``macro_f1`` or ``val/loss``; None for the headline that the
            run has chosen, or the first of `HEADLINES`.

    Raises:
        RunError: It holds no settings or no round yet, or they cannot be read.
        MetricError: The metric was not recorded.
    """
    try:
        return _read_run(folder, metric)
    except RunError:
        raise
    except KeyError as error:
        raise RunError(f"{folder} was written by another version: {error} is missing") from error
    except (
        TypeError,
        ValueError,
        AttributeError,
        OSError,
        OverflowError,
        RecursionError,
    ) as error:
        raise RunError(f"{folder} is damaged: {error}") from error


def _read_run(folder: Path, wanted: str | None) -> RunRecord:
    status, config = read_status(folder), _config(folder)
    # The seed's place tells where the options end; hyphens beyond the second are the strategy's.
    parts = folder.name.rpartition(f"-s{config['seed']}-")[0].split("-", 2)
    if len(parts) < 3:
        raise RunError(f"{folder} is not named as run directories are; its name tells the strategy")
    rows, note = _rows(folder, wanted)
    if not rows:
        raise RunError(f"{folder} holds no finished round yet ({_state(status)})")
    metric = short(wanted) if wanted else _headline(config, rows[0])
    picks, scores = _picks(folder, rows)
    shared = dict(shared_settings(config))
    options, values = chosen_of(config)
    numbers = [row["round"] for row in rows]
    last = status.get("round") if status.get("status") == "complete" else numbers[-1]
    if numbers != list(range(len(rows))) or last not in (None, numbers[-1]):
        raise RunError(
            f"{folder / 'metrics.jsonl'} is damaged: it has the rounds {numbers}"
            f"{'' if last is None else f' of a run that has come to round {last}'}; {REPAIR}"
        )
    _check_picks(folder, rows, scores)
    rounds = tuple(
        _round(row, metric, picks.get(number, {}), scores.get(number, []))
        for row, number in zip(_paid(rows), numbers, strict=True)
    )
    check_rounds(rounds, metric)
    return RunRecord(
        where=folder,
        data=parts[0],
        model=parts[1],
        protocol=digest({"options": options, "values": values} if options else shared),
        strategy=strategy_name(parts[2], config),
        seed=int(config["seed"]),
        status=status.get("status", "unknown"),
        reason=status.get("reason", ""),
        metric=metric,
        rounds=rounds,
        start=_start(folder / "start.json"),
        settings=without_own_seed(shared, config["seed"], values),
        recall=dict(rows[-1].get("test/recall") or {}),
        note=note,
        rows=rows,
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 round``, ``2 rounds``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _config(folder: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except FileNotFoundError as error:
        state = _state(read_status(folder))
        raise RunError(
            f"{folder} has no config.yaml ({state}); it ended before it began"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder / 'config.yaml'} is damaged: {reason}") from error
    if not isinstance(config, dict) or type(config.get("seed")) is not int:
        raise RunError(f"{folder / 'config.yaml'} holds no settings of a run")
    return config


def _state(status: Mapping[str, Any]) -> str:
    """A run's state in words."""
    reason = status.get("reason")
    return f"{status.get('status', 'no status')}: {reason}" if reason else status.get("status", "")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rounds of ``metrics.jsonl``; none where there is no such file.

    Raises:
        RunError: A line is damaged.
    """
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append({**row, "round": int(row["round"]), "labels": int(row["labels"])})
        except (ValueError, TypeError, KeyError):
            raise RunError(
                f"{folder / 'metrics.jsonl'}, line {number} is damaged; {REPAIR}"
            ) from None
    return rows


def _headline(config: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The metric of the test part that a run shows."""
    chosen = (config.get("headline"), *HEADLINES)
    return next(name for name in chosen if name and f"test/{name}" in row)


def _rows(folder: Path, wanted: str | None) -> tuple[list[dict[str, Any]], str]:
    """Rounds whose model was evaluated, and what could not be read of them."""
    rows = read_rows(folder)
    columns = [column(name) for name in ((wanted,) if wanted else HEADLINES)]
    whole = [row for row in rows if any(name in row for name in columns)]
    fitted = [row for row in rows if "fit/epochs" in row or "test/accuracy" in row]
    if wanted and fitted and not whole:
        there = ", ".join(recorded(rows))
        raise MetricError(f"{folder} has no {columns[0]}; there are {there}")
    if not whole and any("fit/epochs" in row for row in rows):
        audit = audit_words(rows[-1])
        raise RunError(
            f"{folder} has no test part, so there is nothing to compare it by"
            f"{f'; of its last model: {audit}' if audit else ''}"
        )
    lost = len(rows) - len(whole)
    return whole, f"{counted(lost, 'round')} untested" if lost else ""


def _paid(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows whose ``labels`` are those paid for; up to format 3 they were those trained on."""
    initial = rows[0]["labels"] - rows[0]["queried"]
    return [
        row if "trained_on" in row else {**row, "labels": initial + row["queried"]} for row in rows
    ]


def _round(
    row: Mapping[str, Any],
    metric: str,
    picks: Mapping[str, int],
    scores: Sequence[float],
) -> RoundRecord:
    asked = "select_s" in row
    return RoundRecord(
        row["labels"],
        float(row[column(metric)]),
        row.get("test/ece"),
        row.get("test/loss"),
        row.get("fit_s"),
        row.get("scan_s", 0.0) + row["select_s"] if asked else None,
        int(row.get("query/wasted", 0)),
        drawn_picks(row, scores),
        picks,
    )


def _picks(
    folder: Path, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, Counter[str]], dict[int, list[float]]]:
    """See `read_picks`."""
    try:
        return read_picks(folder / "queries.csv", rows)
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise RunError(f"{folder / 'queries.csv'} is damaged; {REPAIR}") from None


def _check_picks(
    folder: Path, rows: Sequence[Mapping[str, Any]], scores: Mapping[int, Sequence[float]]
) -> None:
    """Refuse lost or repeated lines of ``queries.csv``; the last query may lack its answers."""
    for row in rows if (folder / "queries.csv").exists() else ():
        number, size = row["round"], row.get("query/size")
        found, missing = len(scores.get(number, ())), len(row.get("query/open", ()))
        if size is None or (not found and row is rows[-1]):
            continue
        size -= row.get("query/again", 0) + row.get("query/audit", 0)
        if not size - missing <= found <= size:
            raise RunError(
                f"{folder / 'queries.csv'} is damaged: the picks of round {number} are {found}, "
                f"those in metrics.jsonl {size}; {REPAIR}"
            )


def _start(path: Path) -> dict[str, str]:
    """The digests of a run's start; empty where they were not recorded."""
    if not path.exists():
        return {}
    try:
        found = dict(json.loads(path.read_text()))
        if not all(isinstance(value, str) for value in found.values()):
            raise TypeError("digests are texts")
        return found
    except (ValueError, TypeError):
        raise RunError(f"{path} is damaged, so that pairing cannot be checked") from None
