"""How runs stand: ``python scripts/status.py``; exit code 1 if any failed or died."""

import argparse
import os
import sys
from pathlib import Path

from dal.reporting.records import RunError, find_runs
from dal.reporting.states import BAD, read_state, table

SAVED = Path(__file__).resolve().parent.parent / "saved"


def main() -> None:
    """List the runs at or below some folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = "default: $DAL_SAVED_DIR, else saved/"
    usual = Path(os.environ.get("DAL_SAVED_DIR", SAVED))
    parser.add_argument("paths", nargs="*", type=Path, default=[usual], help=where)
    paths = parser.parse_args().paths
    try:
        states = [read_state(folder) for folder in find_runs(paths)]
    except (RunError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(states, paths[0] if len(paths) == 1 else None))
    sys.exit(any(state.status in BAD for state in states))


if __name__ == "__main__":
    main()
