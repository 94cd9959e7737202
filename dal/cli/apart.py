"""Refuses a sweep of which two jobs would work in one run directory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dal.cli import planned
from dal.cli.schema import choices_of, composed


class Apart(Callback):
    """Looks at all jobs of a sweep before the first begins.

    What jobs differ in may make no other run, such as a criterion to stop: each would go on with
    the run of the one before, or find it locked, and the table at the end show one run twice.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look at the jobs.

        Raises:
            SystemExit: Two share a run directory; naming what they differ in, with code 1.
        """
        if not str(config.hydra.sweeper.get("_target_")).endswith(".BasicSweeper"):
            return  # others choose jobs by how the jobs before them ended
        try:
            jobs = _jobs(config.hydra.overrides.task)
        except HydraException:
            return  # which the sweeper says itself
        taken: dict[Path, int] = {}
        for number, job in enumerate(jobs if len(jobs) > 1 else ()):
            for run_dir in _run_dirs(job):
                other = taken.setdefault(run_dir, number)
                if other != number:
                    raise SystemExit(_fact(jobs[other], job, run_dir))


def _jobs(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of each job, as Hydra's own sweeper makes them."""
    loader = GlobalHydra.instance().config_loader()
    choices = {}
    for given in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        key = given.get_key_element()
        swept = given.sweep_string_iterator() if given.is_discrete_sweep() else ()
        choices[key] = [f"{key}={value}" for value in swept] or [str(given.input_line)]
    return list(product(*choices.values()))


def _run_dirs(job: Sequence[str]) -> list[Path]:
    """Where the runs of a job work; nowhere where it will be refused."""
    others = [override for override in job if not override.startswith("strategy=")]
    try:
        runs = planned.runs_of(
            *composed(job), lambda strategy: composed([*others, f"strategy={strategy}"]), choices_of
        )
    except (HydraException, OmegaConfBaseException, SystemExit):
        return []
    return [run.run_dir for run in runs]


def _fact(one: Sequence[str], other: Sequence[str], run_dir: Path) -> str:
    differing = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    jobs = " and ".join(" ".join(side) for side in zip(*differing, strict=True)) or "equal jobs"
    return (
        f"error: {jobs} of this sweep would work in one run directory, {run_dir}; sweep over what "
        "makes another run, or give each a command of its own, with its own saved_dir"
    )
