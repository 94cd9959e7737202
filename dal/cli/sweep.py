"""What became of the jobs of a sweep, wherever they ran."""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dal.recording.run_directory import read_status
from dal.recording.words import in_words
from dal.utils.logs import log_to_console
from dal.utils.safe_files import write_text_atomically

log = logging.getLogger(__name__)

OUTCOMES = "DAL_SWEEP_OUTCOMES"
"""Environment variable: the folder where jobs in other processes say how they ended."""


class End(NamedTuple):
    """How a run ended: its status, its run directory, and its name within the command."""

    status: str
    run_dir: Path
    name: str


class Outcomes(Callback):
    """Makes the jobs of a sweep say how they ended, for the table of the process that waits.

    Launchers hand over the first exception only, and one of them calls failed jobs completed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the folder to jobs, which inherit the environment.

        Raises:
            SystemExit: The launcher could not start any job, with code 1.
        """
        check_launcher(config.hydra.launcher)
        folder = Path(config.hydra.sweep.dir).absolute() / ".outcomes" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        os.environ[OUTCOMES] = str(folder)
        Jobs.folder = folder


def check_launcher(launcher: Mapping[str, Any]) -> None:
    """Refuse what a launcher would answer with a traceback.

    Raises:
        SystemExit: Naming fact and remedy, with code 1.
    """
    kind = str(launcher.get("_target_", ""))
    for tool in ("srun", "sbatch") if kind.endswith("SlurmLauncher") else ():
        if shutil.which(tool) is None:
            raise SystemExit(
                f"error: cluster=slurm, but this machine has no Slurm (no {tool} on PATH); start "
                "the sweep on a login node, or choose cluster=local"
            )
    if kind.endswith("JoblibLauncher") and launcher.get("n_jobs") == 0:
        raise SystemExit("error: hydra.launcher.n_jobs=0; give a number of processes, or -1")


class Jobs:
    """The jobs that Hydra has begun in this process, and what became of those of its sweep."""

    begun = 0
    failed = False
    folder: ClassVar[Path | None] = None
    """Where the jobs of this process's own sweep say how they ended."""
    ends: ClassVar[list[End]] = []
    broken: ClassVar[set[Path]] = set()

    @staticmethod
    def begin() -> None:
        """A command is no job of the sweep from which it was started; that one's folder stays."""
        os.environ.pop(OUTCOMES, None)

    @staticmethod
    def elsewhere() -> bool:
        """Whether this is a job of a sweep whose table another process shows."""
        return OUTCOMES in os.environ

    @classmethod
    def end(cls, number: int, ends: Sequence[End]) -> None:
        """Note how the runs of a job ended."""
        if not cls.elsewhere():
            cls.ends.extend(ends)
            return
        path = Path(os.environ[OUTCOMES]) / f"{number:05d}.json"
        write_text_atomically(path, json.dumps([[e.status, str(e.run_dir), e.name] for e in ends]))

    @classmethod
    def show(cls) -> None:
        """Show the table of a sweep, once; jobs that have said nothing are missing from it."""
        if cls.folder is not None:
            ends = _read(sorted(cls.folder.glob("*.json")))
            cls.ends.extend(ends)
            cls.failed = cls.failed or any(end.status == "failed" for end in ends)
            shutil.rmtree(cls.folder, ignore_errors=True)
            os.environ.pop(OUTCOMES, None)
            cls.folder = None
        width = max((len(str(end.run_dir)) for end in cls.ends), default=0)
        with log_to_console():
            for number, (status, run_dir, name) in enumerate(cls.ends):
                said = f"{name}{_results(run_dir) if status != 'failed' else ''}"
                log.info("%3d  %-9s  %-*s  %s", number, status, width, run_dir, said)
        cls.ends.clear()


def _results(run_dir: Path) -> str:
    """Labels and test metric at the end of a run, as far as it has come to any."""
    status = read_status(run_dir)
    labels, metric = status.get("labels"), status.get("metric", "accuracy")
    value = status.get(metric)
    if not (isinstance(labels, int) and isinstance(value, int | float)):
        return ""
    return f": {labels} labels, test {in_words(metric)} {value:.4f}"


def _read(paths: Sequence[Path]) -> list[End]:
    parts = [json.loads(path.read_text()) for path in paths]
    return [End(status, Path(run_dir), name) for part in parts for status, run_dir, name in part]
