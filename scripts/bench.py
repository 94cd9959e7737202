"""Measure dal against bare references: ``python scripts/bench.py``; prints a Markdown table."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import frozen, large_pool, main_job, pool, replicas, scores, training
from benchmarks.heading import heading
from benchmarks.setup import Setup, load_source
from benchmarks.table import Row, markdown
from dal.utils.numerics import pick_device


def measurements(data_dir: str | None) -> dict[str, Callable[[Setup], list[Row]]]:
    """All measurements by name."""
    return {
        "pool_pass": pool.pool_pass,
        "instability": pool.instability_query,
        "gradient_length": pool.gradient_length,
        "train_step": training.train_step,
        "round": main_job.round_overhead,
        "memory": lambda setup: main_job.memory(setup, data_dir),
        "committee": scores.committee,
        "badge": scores.badge,
        "core_set": scores.core_set,
        "batch_bald": scores.batch_bald,
        "last_layer": scores.last_layer,
        "large_pool": large_pool.large_pool,
        "frozen_features": frozen.frozen_features,
        "replicas": replicas.replicas,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=49_000, help="size of the training part")
    parser.add_argument("--data-dir", default=os.environ.get("DAL_DATA_DIR"))
    names = list(measurements(None))
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="measurements")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    data_dir = options.data_dir and str(Path(options.data_dir).resolve())
    source, data = load_source(data_dir, options.pool)
    setup = Setup(source, data, pick_device(options.device), repeat=options.repeat)
    head = heading(setup)
    print(*(f"- {name}: {value}" for name, value in head.items()), "", sep="\n", flush=True)
    works = measurements(data_dir)
    rows = [row for name in options.only for row in works[name](setup)]
    print(markdown(rows), end="")
    if options.json:
        dumped = json.dumps({**head, "rows": [row.as_dict() for row in rows]}, indent=2)
        options.json.write_text(dumped + "\n")


if __name__ == "__main__":
    main()
