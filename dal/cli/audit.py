"""How good the models of a run are, by the labels it asked for to measure by: ``dal audit RUN``.

A line for each round: labels paid for, labels to measure by, accuracy with its interval of 95 %,
loss. With --shadow models are fitted anew, and say whether the strategy's labels taught more than
random ones: see docs/without_a_test_set.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dal.reporting.records import RunError, read_rows


def main() -> None:
    """Read, and say.

    Raises:
        SystemExit: With code 1 after an error.
    """
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run directory, of a run with audit=0.1 or so")
    compare = "compare with random labels, by models that are fitted now"
    parser.add_argument("--shadow", action="store_true", help=compare)
    folds = "parts of the audit's labels that are held out in turn; default: 5"
    parser.add_argument("--folds", type=int, default=5, help=folds)
    plugins = "packages besides dal that the run may name"
    parser.add_argument("--plugins", nargs="*", default=[], help=plugins)
    given = parser.parse_args()
    try:
        sys.stdout.write(_table(given.run))
        if given.shadow:
            from dal.runs.shadow import shadow  # the first import of torch

            found = shadow(given.run, given.folds, given.plugins)
            sys.stdout.write(f"\n{found.in_words()}\n")
    except (RunError, ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _table(run: Path) -> str:
    """One line a round that has labels to measure by."""
    rows = [row for row in read_rows(run) if "audit/accuracy" in row]
    if not rows:
        raise RunError(f"{run} has no labels to measure by; make a run with audit=0.1 or so")
    lines = [
        f"{'round':>5}  {'labels':>7}  {'audit':>5}  {'accuracy':>8}  {'95 %':^15}  {'loss':>7}"
    ]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: dict[str, Any]) -> str:
    ends = f"{row['audit/low']:.4f} {row['audit/high']:.4f}"
    return (
        f"{row['round']:>5}  {row['labels']:>7}  {row['audit/labels']:>5}  "
        f"{row['audit/accuracy']:>8.4f}  {ends:^15}  {row['audit/loss']:>7.4f}"
    )
