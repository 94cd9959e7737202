"""Streams beside the pool: ``python -m benchmarks.streams RESULTS.csv [SAVED]``.

Reads the runs below a folder into the file, where one is given, and prints the tables of the file.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import yaml
from scipy.stats import t as student

from dal.metrics import aubc

FIELDS = ("asks", "order", "strategy", "seed", "labels", "spent", "area", "last", "arriving")
LABELS = 120
"""Areas are taken up to so many, which all runs have."""
ORDERS = ("shuffled", "drifting")
ASKS = ("pool", "quantile", "split", "variable", "randomized", "random")


def read_runs(folder: Path) -> Iterator[dict[str, object]]:
    """One row a run."""
    for path in sorted(folder.rglob("config.yaml")):
        config = yaml.safe_load(path.read_text())
        lines = (path.parent / "metrics.jsonl").read_text().splitlines()
        rows, setting = [json.loads(line) for line in lines], config["setting"]
        stream = "manager" in setting
        chosen = config["choices"]["options"]
        arrived = sum(row.get("stream/arrived", 0) for row in rows)
        right = sum(row.get("stream/accuracy", 0) * row.get("stream/arrived", 0) for row in rows)
        until = [row for row in rows if row["labels"] <= LABELS]
        area = aubc([row["labels"] for row in until], [row["test/accuracy"] for row in until])
        yield {
            "asks": chosen.get("setting/manager", "quantile") if stream else "pool",
            "order": setting["order"] if stream else "",
            "strategy": chosen["strategy"],
            "seed": config["seed"],
            "labels": rows[-1]["labels"],
            "spent": f"{(rows[-1]['labels'] - rows[0]['labels']) / arrived:.4f}" if stream else "",
            "area": f"{area:.5f}",
            "last": f"{rows[-1]['test/accuracy']:.5f}",
            "arriving": f"{right / arrived:.5f}" if stream else "",
        }


def spread(values: list[float]) -> str:
    """Mean, and half of Student's 95 % interval, in percent; nothing of nothing."""
    if not values:
        return ""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{100 * fmean(values):.1f} ± {100 * half:.1f}"


def table(rows: list[dict[str, str]], order: str) -> Iterator[str]:
    """Lines of the table of an order of arrival, the pool's first."""
    yield "| asks | strategy | n | spent, % | labels | area, % | at the end, % | arriving, % |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for asks in ASKS:
        for strategy in ("margin", "random"):
            found = [
                row
                for row in rows
                if (row["asks"], row["strategy"]) == (asks, strategy)
                and row["order"] in ("", order)
            ]
            if not found:
                continue
            cells = [
                spread([float(row[name]) for row in found if row[name]])
                for name in ("spent", "area", "last", "arriving")
            ]
            labels = fmean(float(row["labels"]) for row in found)
            shown = "" if asks == "random" else f"`{strategy}`"
            yield (
                f"| {asks} | {shown} | {len(found)} | {cells[0]} | {labels:.0f} | "
                f"{' | '.join(cells[1:])} |"
            )


def main() -> None:
    """Read runs where a folder is given; print."""
    path = Path(sys.argv[1])
    if len(sys.argv) > 2:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(read_runs(Path(sys.argv[2])))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for order in ORDERS:
        print(f"\n## {order}\n", *table(rows, order), sep="\n")


if __name__ == "__main__":
    main()
