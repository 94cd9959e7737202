"""What a ledger of labels is made of: the columns of an event, and the checks of its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Origin = Literal["initial", "oracle", "audit", "pseudo", "synthetic"]
ORIGINS: tuple[Origin, ...] = ("initial", "oracle", "audit", "pseudo", "synthetic")

GUESSES: tuple[Origin, ...] = ("pseudo",)
"""Origins of labels that nobody was asked for: they are not paid, and an answer replaces them."""

ASKED: tuple[Origin, ...] = ("oracle", "audit", "synthetic")
"""Origins of answers that were asked for as a run went on, and that its budget pays for."""

NONE = -1
"""The position of no event, and the target where nothing is known."""

COLUMNS: dict[str, torch.dtype] = {
    "round": torch.int64,
    "index": torch.int64,
    "target": torch.int64,
    "origin": torch.int64,
    "abstained": torch.bool,
    "cost": torch.float64,
    "weight": torch.float32,
    "score": torch.float64,
    "seconds": torch.float64,
    "supersedes": torch.int64,
}
"""What is known of an event besides its annotator."""

NO_VALUE = {"score": math.nan, "seconds": math.nan, "supersedes": NONE}
"""Columns that not every event has a value of, and what stands there; null in a file."""


def is_one_of(numbers: Tensor, origins: Sequence[Origin]) -> Tensor:
    """bool, where a column of origins names one of some."""
    return torch.isin(numbers, torch.tensor([ORIGINS.index(origin) for origin in origins]))


def plain(key: str, values: Tensor) -> list[Any]:
    """A column as plain values."""
    if key == "origin":
        return [ORIGINS[number] for number in values.tolist()]
    if key in NO_VALUE:
        return [None if math.isnan(v) or v == NO_VALUE[key] else v for v in values.tolist()]
    return values.tolist()


def column(key: str, values: Sequence[Any]) -> Tensor:
    """A column from plain values."""
    if key == "origin":
        values = [ORIGINS.index(origin) for origin in values]
    if key in NO_VALUE:
        values = [NO_VALUE[key] if value is None else value for value in values]
    return torch.tensor(values, dtype=COLUMNS[key])


def check_plain(number: int, event: Mapping[str, Any]) -> None:
    """Refuse an event that somebody altered: torch would take 1.5 or true for an index."""
    for key in (*COLUMNS, "annotator"):
        value = event.get(key, ())
        cells = value if key == "target" and isinstance(value, list) else [value]
        if not all(_may_stand(key, cell) for cell in cells):
            fact = f"has {key}={value!r:.40}" if key in event else f"lacks {key}"
            raise ValueError(f"event {number} of the ledger {fact}, which cannot be; restore it")


def _may_stand(key: str, value: Any) -> bool:
    """Whether a plain value is of the type of a column."""
    if key in ("annotator", "origin"):
        return isinstance(value, str) if key == "annotator" else value in ORIGINS
    if value is None or COLUMNS[key] == torch.bool:
        return isinstance(value, bool) or (value is None and key in NO_VALUE)
    if type(value) is int:
        return abs(value) < 2**63
    return COLUMNS[key].is_floating_point and isinstance(value, float)


def shape_of(key: str, size: int, target_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a column of so many events."""
    return (size, *target_shape) if key == "target" else (size,)


def no_events(target_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The columns of an empty ledger."""
    shapes = {key: shape_of(key, 0, target_shape) for key in COLUMNS}
    return {key: torch.empty(shapes[key], dtype=kind) for key, kind in COLUMNS.items()}


def check_shapes(
    rows: Mapping[str, Tensor], annotators: Sequence[str], target_shape: tuple[int, ...]
) -> None:
    """Refuse columns that do not hold one value an event."""
    size = len(rows["index"])
    for key, row in rows.items():
        if row.shape != (shape := shape_of(key, size, target_shape)):
            raise ValueError(f"{key} has shape {tuple(row.shape)} for {size} indices; give {shape}")
    if len(annotators) != size:
        raise ValueError(f"{len(annotators)} annotators for {size} indices; name one each")


def check_indices(rows: Mapping[str, Tensor], num_total: int, arriving: bool = False) -> None:
    """Refuse a sample's first event with an index that cannot be.

    Args:
        rows: The columns of new events.
        num_total: Size of the training part; made samples stand behind it.
        arriving: Whether samples stand there too that came from outside, and are asked about.
    """
    first = rows["supersedes"] == NONE
    made = first & (rows["origin"] == ORIGINS.index("synthetic"))
    beyond = made | (rows["origin"] == ORIGINS.index("oracle")) if arriving else made
    outside = (rows["index"] < 0) | ((rows["index"] >= num_total) & ~beyond)
    for index in rows["index"][first & outside].tolist():
        raise ValueError(f"indices must lie in [0, {num_total}), {index} does not")
    for index in rows["index"][made & (rows["index"] < num_total)].tolist():
        raise ValueError(f"made samples are numbered from {num_total} on, not {index}")


def check_chains(
    rows: Mapping[str, Tensor], start: int, known: Mapping[int, int], guessed: Tensor
) -> None:
    """Refuse an event that does not supersede the one before it of the same sample.

    Args:
        rows: The columns of new events.
        start: The position of the first of them.
        known: The latest event of each of their samples that has one.
        guessed: bool, (start + b,), which of the events, of the ledger and new ones, are guesses.
    """
    events = zip(rows["index"].tolist(), rows["supersedes"].tolist(), strict=True)
    known = dict(known)
    for position, (index, said) in enumerate(events, start):
        before = known.get(index, NONE)
        if said != before:
            raise ValueError(_broken(position, index, said, before, before >= start))
        if before != NONE and guessed[position] and not guessed[before]:
            raise ValueError(f"sample {index} has been labeled already; no guess replaces that")
        known[index] = position


def check_numbers(rows: Mapping[str, Tensor]) -> None:
    """Refuse costs, weights and seconds that are none."""
    for key in ("cost", "weight", "seconds"):
        known = rows[key][~rows[key].isnan()] if key == "seconds" else rows[key]
        wrong = known[~((known >= 0) & known.isfinite())]
        if len(wrong):
            raise ValueError(f"{key} {float(wrong[0]):g}; give a finite number of 0 or more")


def _broken(position: int, index: int, said: int, before: int, repeated: bool) -> str:
    """How an event breaks the chain of its sample, in words."""
    if repeated:
        return f"sample {index} occurs twice; give one label at a time, the later ones by `again`"
    if said == NONE:
        return f"sample {index} has been labeled already; give another label of it by `again`"
    known = "there is none" if before == NONE else f"that is event {before}"
    return f"event {position} supersedes event {said}, not the latest of sample {index}: {known}"


def in_chains(indices: Tensor, known: Mapping[int, int], start: int) -> Tensor:
    """int64, (b,): the event that each of new ones supersedes, which may be one of them.

    Args:
        indices: int64, (b,), their samples.
        known: The latest event of each of these that has one.
        start: The position of the first new event.
    """
    latest, found = dict(known), []
    for position, index in enumerate(indices.tolist(), start):
        found.append(latest.get(index, NONE))
        latest[index] = position
    return torch.tensor(found).long()
