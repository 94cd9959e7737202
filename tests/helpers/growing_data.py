"""A data function whose place may come to hold more samples: a table to which lines are added."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dal.data import UNKNOWN, Dataset

NAMES = ("a", "b", "c")

__all__ = ["table"]


def table(path: str, known: Mapping[str, Any] | None = None) -> Dataset:
    """Samples of a file: name, class or nothing, numbers. Those of the listing come first."""
    with Path(path).open(newline="") as file:
        found = {name: (label, numbers) for name, label, *numbers in csv.reader(file)}
    listed = list(known["names"]) if known else []
    names = listed + sorted(set(found) - set(listed))
    targets = [NAMES.index(found[n][0]) if found[n][0] else UNKNOWN for n in names]
    if known:
        targets[: len(listed)] = known["targets"].tolist()
    begun = known["begun"] if known else len(names)
    return Dataset(
        "growing",
        torch.tensor([[float(number) for number in found[name][1]] for name in names]),
        torch.tensor(targets),
        NAMES,
        contents=names,
        appended=len(names) - begun,
        listing={"names": names, "targets": torch.tensor(targets), "begun": begun},
        standardize=True,
    )


def write(path: Path, numbers: Sequence[int], prefix: str = "s", labels: bool = True) -> None:
    """Add a line for each number: its class is its rest by 3, about which its numbers lie."""
    with path.open("a", newline="") as file:
        for number in numbers:
            rng = torch.Generator().manual_seed(number)
            values = torch.randn(4, generator=rng) + 1.5 * torch.eye(4)[number % 3]
            label = NAMES[number % 3] if labels else ""
            csv.writer(file).writerow([f"{prefix}{number:04d}", label, *values.tolist()])
