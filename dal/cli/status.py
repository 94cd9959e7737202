"""How runs stand: ``dal status``; exit code 1 if any failed or died."""

import argparse
import os
import sys
from pathlib import Path

from dal.reporting.records import RunError, find_runs
from dal.reporting.states import BAD, read_state, table


def main() -> None:
    """List the runs at or below some folders.

    Raises:
        SystemExit: With code 1 after an error, or where a run failed or died.
    """
    parser = argparse.ArgumentParser(prog=Path(sys.argv[0]).name, description=__doc__)
    where = "folders of runs; default: $DAL_SAVED_DIR, else saved in the current folder"
    usual = Path(os.environ.get("DAL_SAVED_DIR", "saved"))
    parser.add_argument("paths", nargs="*", type=Path, default=[usual], help=where)
    paths = parser.parse_args().paths
    try:
        states = [read_state(folder) for folder in find_runs(paths)]
    except (RunError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(table(states, paths[0] if len(paths) == 1 else None) + "\n")
    sys.exit(any(state.status in BAD for state in states))
