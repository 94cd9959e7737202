"""Several runs in one process, in lockstep; each as it would be by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from dal.learners import Learner
from dal.lockstep import Lockstep, Mode, Replica
from dal.runs.from_config import execute
from dal.runs.host import Host, hosted_by
from dal.settings import PlannedRun
from dal.utils.logs import files_may_come_and_go
from dal.utils.numerics import own_threads
from dal.utils.signals import Interrupts

log = logging.getLogger(__name__)


class Place(Host):
    """The place of one run in a process that does several in lockstep.

    What several runs need alike is made once: data and their division, trainer, model function.
    Runs that share a trainer and a model function are those whose networks can be stacked.

    Args:
        lockstep: Does the work of all runs.
        replica: The run, among those that take turns.
        interrupts: Notes signals for all runs.
        made: What was made for all runs so far, by the settings that it was made of.
    """

    def __init__(
        self,
        lockstep: Lockstep,
        replica: Replica,
        interrupts: Interrupts,
        made: dict[str, Any] | None = None,
    ) -> None:
        self.count = lockstep.count
        self._lockstep, self._replica = lockstep, replica
        self._interrupts, self._made = interrupts, {} if made is None else made

    def interrupts(self) -> nullcontext[Interrupts]:
        """The one for all runs, which the process has entered already."""
        return nullcontext(self._interrupts)

    def wrap(self, learner: Learner) -> Learner:
        """The learner whose work waits until it can be done for several runs."""
        return self._lockstep.wrap(learner, self._replica)

    def shared(self, settings: Any, make: Callable[[], Any]) -> Any:
        """See `Host.shared`."""
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
    lockstep, made = Lockstep(len(runs), mode), dict[str, Any]()
    with own_threads(), files_may_come_and_go(), Interrupts() as interrupts:

        def body(run: PlannedRun, replica: Replica) -> None:
            try:
                with hosted_by(Place(lockstep, replica, interrupts, made)):
                    execute(run.config, run.run_dir)
            except BaseException as error:
                if report is not None:
                    report(error, run)
                raise

        replicas = [Replica(run.name, partial(body, run)) for run in runs]
        lockstep.engine.run(replicas)
    return [replica.error for replica in replicas]
