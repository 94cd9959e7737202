"""Pictures that explain, as a page: ``dal gallery``, or of a run of your own ``dal gallery RUN``.

Without a run: every strategy in the plane and why it picks what it picks, iris, committees, hard
pools and the other settings of active learning, made anew in some minutes, for a lecture. With a
run: its picks round by round, a map of its pool, predictions that changed the most, its plane.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra

from dal.cli import planned
from dal.cli.config import check_keys, compose_with, strategy_settings
from dal.cli.folders import config_dir, options, with_own
from dal.cli.schema import VERSION, choices_of, composed
from dal.settings import PlannedRun
from dal.utils.logs import log_to_console
from dal.utils.signals import PreemptedError


def main() -> None:
    """Make the page.

    Raises:
        SystemExit: With code 1 after an error, with 128 and its number after a signal.
    """
    given = _parser().parse_args()
    try:
        with log_to_console(quiet=True):
            path = _lecture(given) if given.run is None else _of_run(given)
    except PreemptedError as end:
        sys.stderr.write(f"{end}\n")
        sys.exit(128 + end.signum)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{path}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, nargs="?", help="run directory; none for the lecture")
    parser.add_argument(
        "--out", type=Path, help="folder to write to; default: gallery, or RUN/gallery"
    )
    of_run = parser.add_argument_group("of a run")
    of_run.add_argument(
        "--sample",
        type=int,
        nargs="*",
        default=[],
        help="whose predictions; default: most unstable",
    )
    of_run.add_argument(
        "--map", choices=("pca", "tsne"), default="pca", help="how the map of the pool is made"
    )
    of_run.add_argument(
        "--of", choices=("features", "inputs"), default="features", help="what the map is of"
    )
    of_run.add_argument(
        "--plugins", nargs="*", default=[], help="packages besides dal that the run may name"
    )
    return parser


def _lecture(given: argparse.Namespace) -> Path:
    """The page without a run."""
    out: Path = given.out or Path("gallery")
    folders = with_own(config_dir(), [])
    strategies = {
        name: strategy_settings(folders, name)
        for name in options(folders, "strategy")
        if "/" not in name
    }
    from dal.gallery.lecture import write_lecture  # the first import of torch

    began = time.monotonic()

    def tell(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:4.0f} s  {what}\n")
        sys.stdout.flush()

    def plan(overrides: Sequence[str]) -> PlannedRun:
        return planned_run(
            folders[0], [*overrides, "record_epochs=false", f"saved_dir={out / 'runs'}"]
        )

    return write_lecture(out, strategies, plan, tell)


def planned_run(folder: Path, overrides: Sequence[str]) -> PlannedRun:
    """The run that settings mean, as on the command line of ``dal train``.

    Raises:
        SystemExit: There is no such setting; with code 1.
    """
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), **VERSION):
        settings, choices = composed(overrides)
        check_keys(settings)
        (run,) = planned.runs_of(settings, choices, compose_with, choices_of)
    return run


def _of_run(given: argparse.Namespace) -> Path:
    """The page of a run."""
    from dal.gallery.of_run import Options, write_run_page  # the first import of torch

    shown = Options(given.sample, given.map, given.of, given.plugins)
    return write_run_page(given.run, given.out or given.run / "gallery", shown)
