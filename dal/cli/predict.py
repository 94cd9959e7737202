"""Predict files by the model of a run: ``dal predict saved/RUN photos --out predictions.csv``.

Takes what the run learned from: a folder of pictures, or one of them; a table (.csv, .jsonl,
.parquet, ...); texts, in a column of a table or a text a line (.txt); or arrays (.npz, .npy). The
table it writes has a row for each sample: file, id or number of the row, class, probability; of
several labels all that are more probable than one half, or than the thresholds that the run fitted,
with ';' between them, '-' for none, and the probability of this set. A sample that cannot be read
has no class, and is named at the end.
"""

import argparse
import codecs
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dal.cli.tables import place_of, write_table

if TYPE_CHECKING:
    from dal.data.reading import Samples
    from dal.predictor import Predicted, Predictor

NAMED = 20
"""So many samples that cannot be read are named."""


def main() -> None:
    """Load, predict, write.

    Raises:
        SystemExit: With code 1 after an error, and where no sample can be read.
    """
    given = _parser().parse_args()
    try:
        _predict(given)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument(
        "path", type=Path, help="folder of pictures, picture, table, .txt, .npz or .npy"
    )
    out = "table to write; default: predictions.csv"
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help=out)
    every = "write the probabilities of all classes too"
    parser.add_argument("--all", action="store_true", help=every)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; default: auto")
    weights = "pretrained weights of the network in front, where they are not where they were"
    parser.add_argument("--weights", metavar="FILE", help=weights)
    plugins = "packages besides dal that the model may come from"
    parser.add_argument("--plugins", nargs="*", default=[], help=plugins)
    return parser


def _predict(given: argparse.Namespace) -> None:
    out = place_of(given.out)
    if out.exists() and given.path.exists() and out.samefile(given.path):
        raise ValueError(f"--out={out} is what shall be predicted; give another name")
    from dal.data.reading import inputs_like  # the first import of torch
    from dal.export import load

    trusted, weights = given.plugins, given.weights
    predictor = load(given.run, device=given.device, allow=trusted, weights=weights)
    samples = inputs_like(predictor.recipe, given.path)
    replaced = " (replaced)" if out.exists() else ""
    written = _Written()
    write_table(out, lambda file: _write(file, out, predictor, samples, given.all, written))
    if written.faults:
        sys.stderr.write(f"{written.faults} of {written.rows} have no class: {written.named()}\n")
    sys.stdout.write(f"{out}{replaced}\n")


@dataclass
class _Written:
    """How many rows there are, and how many of them without a class."""

    rows: int = 0
    faults: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, predicted: "Predicted") -> None:
        self.rows += len(predicted.names)
        self.faults += len(predicted.faults)
        for row, why in predicted.faults.items():
            if len(self.first) < NAMED:
                self.first.append(f"{predicted.names[row]} ({why})")

    def named(self) -> str:
        """The first samples without a class, and why they have none."""
        return ", ".join(self.first) + ", ..." * (self.faults > len(self.first))


def _write(
    file: IO[bytes],
    out: Path,
    predictor: "Predictor",
    samples: "Samples",
    every: bool,
    written: _Written,
) -> None:
    """Write all rows.

    Raises:
        ValueError: None of the samples can be read.
    """
    from tqdm import tqdm

    from dal.utils.safe_files import csv_text

    told = ["class", "probability"]
    header = ["id" if samples.title in told else samples.title, *told]
    header += [f"probability of {name}" for name in predictor.class_names] if every else []
    # Whether all is ASCII decides about the first bytes, and is known at the end.
    with (
        tempfile.TemporaryFile(dir=out.parent) as body,
        tqdm(total=samples.count, desc="predict", leave=False, disable=None) as bar,
    ):
        body.write((text := csv_text([header])).encode())
        is_plain = text.isascii()
        for predicted in predictor.predict_files(samples):
            body.write((text := csv_text(_rows(predictor, predicted, every))).encode())
            is_plain &= text.isascii()
            written.add(predicted)
            bar.update(len(predicted.names))
        if written.faults == written.rows:
            raise ValueError(f"nothing there can be predicted: {written.named()}")
        # Without a mark at its beginning, spreadsheet programs take UTF-8 for something else.
        file.write(b"" if is_plain else codecs.BOM_UTF8)
        body.seek(0)
        shutil.copyfileobj(body, file)


def _rows(predictor: "Predictor", predicted: "Predicted", every: bool) -> list[list[str]]:
    """Name, class and probability of each sample; of those that cannot be read the name alone."""
    from dal.data.class_names import target_name
    from dal.data.images.names import shown

    guesses = predictor.task.guess(predicted.probs)
    rows = []
    for place, (name, (target, probability)) in enumerate(
        zip(predicted.names, guesses, strict=True)
    ):
        row = [shown(name), target_name(target, predictor.class_names), f"{probability:.6g}"]
        row += [f"{value:.6g}" for value in predicted.probs[place].tolist()] if every else []
        rows.append(row if place not in predicted.faults else [row[0], *[""] * (len(row) - 1)])
    return rows
