"""Several runs in one process, in lockstep; each as it would be by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dal.lockstep import Lockstep, Mode, Replica
from dal.runs.from_config import execute
from dal.runs.job import own_threads
from dal.runs.loop import Together
from dal.settings import PlannedRun
from dal.utils.logs import files_may_come_and_go
from dal.utils.signals import Interrupts

log = logging.getLogger(__name__)


class Shared:
    """What several runs need alike is made once: data and their division, trainer, model function.

    Runs that share a trainer and a model function are those whose networks can be stacked.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __call__(self, settings: Any, make: Callable[[], Any]) -> Any:
        """What was made of such settings before, or else is made now."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def run_together(
    runs: Sequence[PlannedRun],
    mode: Mode = "auto",
    report: Callable[[BaseException, PlannedRun], None] | None = None,
) -> list[BaseException | None]:
    """Do several runs in lockstep, each in its own run directory.

    A run that fails ends alone, the others go on.

    Args:
        runs: The runs.
        mode: See `Lockstep`.
        report: Called with what ended a run, and the run.

    Returns:
        For each run what ended it, or None where it is complete or waits for an oracle.

    Raises:
        PreemptedError: A signal asked to end; every run has saved its state.
        KeyboardInterrupt: A second SIGINT came.
    """
    lockstep, shared = Lockstep(len(runs), mode), Shared()
    with own_threads(), files_may_come_and_go(), Interrupts() as interrupts:

        def body(run: PlannedRun, replica: Replica) -> None:
            together = Together(
                interrupts, partial(lockstep.wrap, replica=replica), shared, len(runs)
            )
            try:
                execute(run.config, run.run_dir, together)
            except BaseException as error:
                if report is not None:
                    report(error, run)
                raise

        replicas = [Replica(run.name, partial(body, run)) for run in runs]
        lockstep.engine.run(replicas)
    return [replica.error for replica in replicas]
