"""Report over runs: ``dal report saved --out report``.

Reads run directories (or folders of them) and results files that an earlier report wrote, and
writes report.md, results.csv and figures. Runs are compared within one data set, model and
protocol; whatever is not used is named.
"""

import argparse
import sys
from pathlib import Path

from dal.reporting.records import RunError
from dal.reporting.report import Options, collect, write


def main() -> None:
    """Read, compare, write.

    Raises:
        SystemExit: With code 1 after an error.
    """
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="run directories, folders, results.csv")
    out = "folder to write to; default: report"
    parser.add_argument("--out", type=Path, default=Path("report"), help=out)
    baseline = "strategy the others are compared to; default: random"
    parser.add_argument("--baseline", default="random", help=baseline)
    shown = "metrics to show, such as test/macro_f1,val/loss; default: the headline of each run"
    parser.add_argument("--metric", default="", metavar="NAMES", help=shown)
    chosen = "values for which the labels needed are shown; default: chosen from the curves"
    parser.add_argument("--targets", nargs="*", type=float, metavar="SHARE", help=chosen)
    margin = "points of area within which strategies are equivalent; default: 0.5"
    parser.add_argument("--margin", type=float, default=0.5, help=margin)
    parser.add_argument("--partial", action="store_true", help="use runs that are not complete")
    parser.add_argument("--compress", action="store_true", help="write results.csv.gz")
    parser.add_argument("--tensorboard", action="store_true", help="write mean curves to OUT/tb")
    given = parser.parse_args()
    try:
        targets = None if given.targets is None else tuple(given.targets)
        metrics = tuple(name.strip() for name in given.metric.split(",") if name.strip())
        options = Options(given.baseline, targets, given.margin, given.partial, metrics)
        collection = collect(given.paths, options)
        results = "results.csv.gz" if given.compress else "results.csv"
        path = write(collection, given.out, options, given.tensorboard, results)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for sentence in collection.left_out:
        sys.stderr.write(f"left out: {sentence}\n")
    sys.stdout.write(f"{path}\n")
