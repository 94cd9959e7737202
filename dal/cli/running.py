"""Doing the runs of one job, and saying how they ended; torch is imported when work starts."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from dal.cli.sweep import Jobs
from dal.recording.run_directory import MODEL, read_status
from dal.recording.words import in_words
from dal.settings import PlannedRun
from dal.utils.logs import OUTCOME, working_for

log = logging.getLogger(__name__)

PAGE = "dal.oracles.PageOracle"

ENDING = ("budget", "budget_in", "max_rounds", "stopping", "stopping_when", "stop_set")
"""Settings that say when a run ends."""

TOO_MANY_FILES = (
    "; raise the number of files that a process may open (ulimit -n 65536) or lower replicas, and "
    "run the same command again"
)

NONE_LEFT = ("pool_exhausted", "stream_ended")
"""Reasons to end whatever the budget is."""


def complete_already(status: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a run's status says that these settings leave nothing to do."""
    damaged = any(type(status.get(name)) is not int for name in ("queried", "round"))
    if status.get("status") != "complete" or damaged:
        return False
    limit = config["max_rounds"]
    more_may_come = config.get("setting", {}).get("arrivals") is not None
    return (
        (status.get("reason") in NONE_LEFT and not more_may_come)
        or status["queried"] >= config["budget"]
        or (limit is not None and status["round"] >= limit)
    )


def nobody_to_ask(
    status: Mapping[str, Any], config: Mapping[str, Any], saved: Any, page: Mapping[str, Any]
) -> bool:
    """Whether a run has ended that is asked on a page, of which no answers are to come.

    Other oracles are asked again: they may hold what people have corrected since.

    Args:
        status: The run's.
        config: Its settings now.
        saved: Those that it ended by.
        page: Settings of who answers now.
    """
    return (
        status.get("status") == "complete"
        and status.get("reason") not in NONE_LEFT  # more samples may have come
        and page.get("_target_") == PAGE
        and all(oracle.get("enough", 1.0) >= 1 for oracle in (page, config["oracle"]))
        and isinstance(saved, Mapping)
        and all(saved.get(name) == config[name] for name in ENDING)
    )


def _is_complete(run: PlannedRun, oracle: Mapping[str, Any] | None = None) -> bool:
    """Whether nothing is left to do, which is then said."""
    status, config = read_status(run.run_dir), run.config
    labels, accuracy = status.get("labels"), status.get("accuracy")
    if not (isinstance(labels, int) and (run.run_dir / MODEL).is_file()):
        return False  # a model that was removed is written again
    tested = isinstance(accuracy, int | float)
    if not (
        (tested and complete_already(status, config))
        or nobody_to_ask(status, config, _saved(run.run_dir), oracle or config["oracle"])
    ):
        return False
    metric = status.get("metric", "accuracy")
    value = status.get(metric, accuracy)
    shown = f", test {in_words(metric)} {value:.4f}" if tested else ""
    with working_for(run.name):
        OUTCOME.info("complete already: %d labels%s, in %s", labels, shown, run.run_dir)
    return True


def _saved(run_dir: Path) -> Any:
    try:
        return yaml.safe_load((run_dir / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None  # it is written anew


def run_alone(run: PlannedRun, sweep: bool, oracle: Mapping[str, Any] | None = None) -> None:
    """Do a run, unless it is complete.

    Args:
        run: The run.
        sweep: Whether others follow, whatever becomes of it.
        oracle: Settings of who answers now, in the place of whom the run asked before.

    Raises:
        SystemExit: It failed, or a signal came.
    """
    if _is_complete(run, oracle):
        return
    from dal.runs.from_config import execute  # the first import of torch
    from dal.utils.build import factory
    from dal.utils.ranks import joined
    from dal.utils.signals import PreemptedError

    try:
        with working_for(run.name), joined():
            other = None if oracle is None else factory(oracle, "oracle", deep=True)
            execute(run.config, run.run_dir, other)
    except PreemptedError as end:
        _report(end, run)
        raise SystemExit(128 + end.signum) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        _report(error, run)
        _end(sweep, error)


def run_together(runs: Sequence[PlannedRun], mode: str, sweep: bool) -> None:
    """Do those of several runs that are not complete, in lockstep.

    Raises:
        SystemExit: One failed, or a signal came.
    """
    left = [run for run in runs if not _is_complete(run)]
    if not left:
        return
    from dal.lockstep.replicas import run_together as in_lockstep  # the first import of torch
    from dal.utils.signals import PreemptedError

    try:
        errors = in_lockstep(left, mode, _report)  # type: ignore[arg-type]
    except PreemptedError as end:
        raise SystemExit(128 + end.signum) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    failed = [error for error in errors if error is not None]
    if failed:
        others = len(left) - len(failed)
        rest = "the other is" if others == 1 else "the others are"
        ended = f"; {rest} complete" if others else ""
        if not sweep:
            log.error("error: %d of %d runs failed%s", len(failed), len(left), ended)
        _end(sweep, failed[0])


def _report(error: BaseException, run: PlannedRun) -> None:
    """Say what ended a run: of several in one line, the rest is in its log."""
    from dal.utils.signals import PreemptedError

    with working_for(run.name):
        if isinstance(error, PreemptedError):
            OUTCOME.warning("%s", error)
            return
        Jobs.broken.add(run.run_dir)
        expected = isinstance(
            error, ValueError | TypeError | OSError | RuntimeError | ArithmeticError | MemoryError
        )
        remedy = TOO_MANY_FILES if getattr(error, "errno", None) == errno.EMFILE else ""
        fact, notes = str(error) or type(error).__name__, getattr(error, "__notes__", [])
        if run.name:
            fact = " ".join(fact.split())
        in_log = bool(run.name and notes)
        shown = None if expected or in_log else error
        OUTCOME.error("error: %s%s", fact, remedy, exc_info=shown)
        for note in notes if expected and not run.name else []:
            OUTCOME.error("%s", note)


def _end(sweep: bool, error: BaseException) -> None:
    """End a failed job so that whoever started it learns of it."""
    if not sweep:
        raise SystemExit(1) from None
    if "BasicLauncher" not in HydraConfig.get().launcher["_target_"] and not Jobs.elsewhere():
        raise error  # a job in another process: its launcher must learn of it
    Jobs.failed = True  # raised, it would end as a traceback below the table


def outcome(run_dir: Path) -> str:
    """How a run of this job ended; one that was refused leaves its status to whoever has it."""
    return "failed" if run_dir in Jobs.broken else read_status(run_dir).get("status", "failed")
