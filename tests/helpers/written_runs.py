"""Run directories as a run leaves them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dal.settings import UNNAMED, Choices


def write_run(
    root: Path,
    option: str,
    seed: int,
    values: Sequence[float],
    *,
    status: str = "complete",
    start: dict[str, str] | None = None,
    wasted: int = 0,
    strategy: dict[str, Any] | None = None,
    drawn: dict[str, Any] | None = None,
    data: str = "digits",
    **settings: Any,
) -> Path:
    """A run with the labels 10, 20, ... and these accuracies; the name ends in a number."""
    drawn = drawn or {}
    config = {"seed": seed, "data": {"root": str(root)}} | settings
    chosen = {f"strategy.{name}": value for name, value in (strategy or {}).items()}
    chosen |= {name: value for name, value in settings.items() if name not in UNNAMED}
    options = {"data": data, "model": "mlp", "strategy": option}
    config["choices"] = Choices(options, chosen).as_dict()
    folder = root / f"{data}-mlp-{option}-s{seed}-{len(list(root.iterdir())):08x}"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"status": status, "reason": "why"}))
    rows, queries = [], ["round,index,score,label,sample"]
    for number, value in enumerate(values):
        queried = 10 * number
        row = {
            "round": number,
            "labels": 10 + queried,
            "trained_on": 10 + queried - wasted * number,
            "queried": queried,
            "test/accuracy": value,
            "test/ece": 0.1,
            "test/loss": 0.5,
            "test/recall": {"cat": value, "dog one": 0.25},
            "fit_s": 2.0,
        }
        if number < len(values) - 1:
            row |= {"scan_s": 1.0, "select_s": 0.5, "query/wasted": wasted, **drawn}
            row["query/size"] = 2 + wasted
            first = 100 * number
            queries += [f"{number},{first},0.5,cat,0", f"{number},{first + 1},0.25,dog one,0"]
            queries += [f"{number},{first + 2 + n},0.5,?,0" for n in range(wasted)]
        rows.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "queries.csv").write_text("\n".join(queries) + "\n")
    if start is not None:
        (folder / "start.json").write_text(json.dumps(start))
    return folder
