"""How runs stand: ``python scripts/status.py``; exit code 1 if any failed or died."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from dal.recording.run_directory import read_status
from dal.reporting.records import RunError, find_runs
from dal.reporting.states import BAD, RunState, read_state, table
from dal.utils.lock import held

SAVED = Path(__file__).resolve().parent.parent / "saved"


def state_of(folder: Path) -> RunState:
    """How a run stands: its lock is the truth, since process ids are given again to others."""
    said, state = read_status(folder), read_state(folder)
    if state.status not in ("running", "died"):
        return state
    holds = held(folder, said.get("host"))
    if holds is None or read_status(folder) != said:  # it went on, or ended, just now
        return read_state(folder)
    process = f"process {said.get('pid')} on {said.get('host')}"
    if holds:
        return replace(state, status="running", reason=process)
    reason = f"{process} is gone; run its command again, it goes on"
    return replace(state, status="died", reason=reason)


def main() -> None:
    """List the runs at or below some folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Path(os.environ.get("DAL_SAVED_DIR", SAVED))
    parser.add_argument("paths", nargs="*", type=Path, default=[usual], help="default: saved/")
    paths = parser.parse_args().paths
    try:
        states = [state_of(folder) for folder in find_runs(paths)]
    except (RunError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table(states, paths[0] if len(paths) == 1 else None))
    sys.exit(any(state.status in BAD for state in states))


if __name__ == "__main__":
    main()
