"""Write the labels that a run knows as a table: ``dal labels saved/RUN --out labels.csv``.

A row for each label of its training, validation and test part, the last one of a sample that has
several: file, text or row of the data, label, part, round, and who gave it. Another run on the same
folder of pictures learns from all of them, tested on the same pictures, with
``data.metadata=labels.csv``.
"""

import argparse
import sys
from pathlib import Path

from dal.cli.tables import place_of, write_table


def main() -> None:
    """Read the run, write the table.

    Raises:
        SystemExit: With code 1 after an error.
    """
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run directory")
    out = "table to write; default: labels.csv"
    parser.add_argument("--out", type=Path, default=Path("labels.csv"), help=out)
    plugins = "packages besides dal that the data may come from"
    parser.add_argument("--plugins", nargs="*", default=[], help=plugins)
    given = parser.parse_args()
    try:
        _write(given.run, given.out, tuple(given.plugins))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _write(run: Path, out: Path, plugins: tuple[str, ...]) -> None:
    out = place_of(out)
    from dal.runs.labels import HEADER, known_labels  # the first import of torch
    from dal.utils.safe_files import csv_text

    title, rows = known_labels(run, plugins)
    text = csv_text([(title, *HEADER), *rows])
    # Without a mark at its beginning, spreadsheet programs take UTF-8 for something else.
    marked = text.encode() if text.isascii() else text.encode("utf-8-sig")
    write_table(out, lambda file: file.write(marked))
    sys.stdout.write(f"{out}: {len(rows)} labels\n")
