"""The command line: the only place that knows Hydra; torch is imported when work starts."""

from __future__ import annotations

import contextlib
import difflib
import errno
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from dal.recording.run_directory import read_status
from dal.utils import replicas
from dal.utils.explain import exceptions_come_through, explain, in_file
from dal.utils.identity import run_name
from dal.utils.logs import REPLICA, log_to_console
from dal.utils.sweep import Jobs
from dal.utils.torchrun import first

log = logging.getLogger(__name__)

VERSION: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}
"""Hydra 1.3 warns without it, Hydra 1.4 with it."""

TOO_MANY_FILES = (
    "; raise the number of files that a process may open (ulimit -n 65536) or lower replicas, and "
    "run the same command again"
)


LISTS = ("pool", "experiment", "debug")
"""Groups of which several options may be taken."""


@dataclass
class SplitConfig:
    """Types of the ``split`` settings; see `dal.data.make_source`."""

    kind: str = "auto"
    test_fraction: float = 0.3
    stratified: bool = True
    validation: Any = 0


@dataclass
class Config:
    """Types of the plain settings; groups are checked against what they build."""

    seed: int = 0
    query_size: int = 10
    budget: int = 200
    max_rounds: int | None = None
    device: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    data_dir: str = MISSING
    saved_dir: str = MISSING
    keep_history: bool = False
    keep_models: bool = False
    record_epochs: bool = True
    save_every: int | None = None
    candidates: int | None = None
    profile: bool = False
    plugins: list[str] = field(default_factory=list)
    replicas: int = 1
    replica_strategies: list[str] = field(default_factory=list)
    lockstep: str = "auto"
    split: SplitConfig = field(default_factory=SplitConfig)
    data: Any = MISSING
    model: Any = MISSING
    strategy: Any = MISSING
    trainer: Any = MISSING
    oracle: Any = MISSING
    committee: Any = MISSING
    initial: Any = MISSING
    features: Any = MISSING
    pool: Any = field(default_factory=dict)


ConfigStore.instance().store(name="schema", node=Config)


def complete_already(status: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a run's status says that these settings leave nothing to do."""
    damaged = any(type(status.get(name)) is not int for name in ("queried", "round"))
    if status.get("status") != "complete" or damaged:
        return False
    limit = config["max_rounds"]
    return (
        status.get("reason") == "pool_exhausted"
        or status["queried"] >= config["budget"]
        or (limit is not None and status["round"] >= limit)
    )


def start(settings: DictConfig) -> None:
    """Do one run: the function that Hydra calls for every job.

    Raises:
        SystemExit: With code 1 after an error, 128 + the signal's number after a signal.
    """
    Jobs.begun += 1
    check_keys(settings)
    choices = HydraConfig.get().runtime.choices
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        runs = replicas.runs_of(settings, choices, compose_with, run_name)
    except SystemExit as end:
        if not sweep or Jobs.elsewhere():
            raise
        sys.stderr.write(f"{end}\n")  # the jobs behind it go on
        Jobs.failed = True
        return
    if Jobs.elsewhere() and len(runs) == 1:  # its lines come among those of other jobs
        REPLICA.set(f"{choices['strategy']} s{settings.seed}")
    with log_to_console(quiet=not first()):
        try:
            if len(runs) == 1:
                _run(runs[0].config, runs[0].run_dir, sweep)
            else:
                _run_together(runs, settings.lockstep.lower(), sweep)
        finally:
            if sweep or len(runs) > 1:
                ends = [(_outcome(run.run_dir), run.run_dir) for run in runs]
                number = OmegaConf.select(HydraConfig.get(), "job.num", default=0)  # type: ignore[arg-type]
                Jobs.end(number, ends)


def _outcome(run_dir: Path) -> str:
    """How a run of this job ended; one that was refused leaves its status to whoever has it."""
    return "failed" if run_dir in Jobs.broken else read_status(run_dir).get("status", "failed")


def compose_with(strategy: str) -> tuple[DictConfig, Mapping[str, str]]:
    """This job's settings and choices with another strategy.

    Raises:
        SystemExit: There is no such strategy; with code 1.
    """
    own = [o for o in HydraConfig.get().overrides.task if o.partition("=")[0] != "strategy"]
    overrides = [*own, f"strategy={strategy}"]
    try:
        composed = hydra.compose("config", overrides, return_hydra_config=True)
    except HydraException as error:
        raise SystemExit(f"error: replica_strategies has {strategy}: {error}") from None
    names = [str(name) for name in composed if name != "hydra"]
    return OmegaConf.masked_copy(composed, names), composed.hydra.runtime.choices


def check_keys(settings: DictConfig) -> None:
    """Refuse settings that are missing, or that nothing reads.

    Raises:
        SystemExit: Naming the key, what to do, and with code 1.
    """
    known = {f.name for f in fields(Config)}
    for missing in sorted(OmegaConf.missing_keys(settings)):
        raise SystemExit(f"error: {missing} is missing; set {missing}=...")
    for key in sorted({str(key) for key in settings} - known):
        close = difflib.get_close_matches(key, known, 1)
        remedy = f"did you mean {close[0]}?" if close else "--help lists the settings"
        raise SystemExit(f"error: there is no setting {key}; {remedy}")


def check_groups(arguments: Sequence[str], config_dir: Path) -> None:
    """Refuse a number, nothing, or a list given for a group: Hydra would show its own insides.

    Raises:
        SystemExit: Naming the options of the group, and with code 1.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value[:1] == "[" and (config_dir / key).is_dir() and key not in LISTS:
            raise SystemExit(
                f"error: {argument}, but {key} is a group of which one option is taken: choose one "
                f"of {', '.join(_options(config_dir / key))}; a sweep takes several: -m "
                f"{key}={value.strip('[]')}"
            )
        nothing = value == "null" and key in {f.name for f in fields(Config)}
        if (nothing or value.replace(".", "").isdecimal()) and (config_dir / key).is_dir():
            options = ", ".join(_options(config_dir / key))
            raise SystemExit(
                f"error: {argument}, but {key} is a group: choose one of {options}, and set its "
                f"keys with a dot (see {key} in --cfg job)"
            )


def main(config_dir: Path) -> None:
    """Compose the settings from ``config_dir`` and the command line, and run.

    Raises:
        SystemExit: With code 1 after any error.
    """
    Jobs.begin()
    check_groups(sys.argv[1:], config_dir)
    command = hydra.main(config_path=str(config_dir), config_name="config", **VERSION)
    try:
        with exceptions_come_through() as wanted:
            command(start)()
    except Exception as error:
        fact = None if wanted else explain(error, config_dir)
        if fact is None:
            raise
        mistyped = isinstance(error, HydraException) and not Jobs.begun
        sys.stderr.write(f"{fact}\n")
        if mistyped and in_file(error, config_dir) is None:
            with contextlib.suppress(HydraException):  # what is left may not compose either
                for line in suggestions(sys.argv[1:], config_dir):
                    sys.stderr.write(f"{line}\n")
        raise SystemExit(1) from None
    finally:
        Jobs.show()
    if Jobs.failed:
        raise SystemExit(1)


def compose(config_dir: Path, overrides: Sequence[str]) -> DictConfig:
    """The settings that ``config_dir`` and some overrides make, outside of a command line."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir), **VERSION):
        return hydra.compose("config", list(overrides))


def strategy_settings(config_dir: Path, name: str) -> dict[str, Any]:
    """The settings of a strategy's option, in plain containers.

    Raises:
        ValueError: There is no such option.
    """
    if name not in (options := _options(config_dir / "strategy")):
        close = difflib.get_close_matches(name, options, 1)
        remedy = f"did you mean {close[0]}?" if close else f"choose from {', '.join(options)}"
        raise ValueError(f"there is no strategy {name}; {remedy}")
    strategy = compose(config_dir, [f"strategy={name}"]).strategy
    plain: dict[str, Any] = OmegaConf.to_container(strategy, resolve=True)  # type: ignore[assignment]
    return plain


def suggestions(arguments: Sequence[str], config_dir: Path) -> Iterator[str]:
    """What a mistyped option or key may have meant.

    Args:
        arguments: The command line.
        config_dir: Where the configuration is.

    Yields:
        ``did you mean strategy.window=3?``, one line a mistake.
    """
    pairs = [a.lstrip("+~").split("=", 1) for a in arguments if "=" in a and a[0] != "-"]
    groups = [str(p.relative_to(config_dir)) for p in config_dir.rglob("*") if p.is_dir()]
    # Of strategy@strategy.score, what comes before the @ is the group.
    chosen = [(key, value, key.partition("@")[0]) for key, value in pairs]
    chosen = [choice for choice in chosen if choice[2] in groups]
    good = [
        f"{key}={value}"
        for key, value, g in chosen
        if value in (options := _options(config_dir / g))
        or (value[:1] == "[" and set(_listed(value)) <= set(options))
    ]
    keys = list(_dotted(compose(config_dir, good)))
    branches = {key.rpartition(".")[0] for key in keys}
    leaves = [key for key in keys if key not in branches and not key.endswith("_target_")]
    for key, value in pairs:
        group = key.partition("@")[0]
        if group in groups:
            choices, known = _options(config_dir / group), _listed(value)
            for wrong in [option for option in known if option not in choices]:
                yield from (
                    f"did you mean {key}={close}?"
                    for close in difflib.get_close_matches(wrong, choices, 1)
                )
        elif key not in keys and not key.startswith("hydra"):
            names = keys if value == "null" else leaves
            names = names + [g for g in groups if value in _options(config_dir / g)]
            last = key.rpartition(".")[2]
            elsewhere = [name for name in leaves if name.rpartition(".")[2] == last]
            for close in elsewhere[:1] or difflib.get_close_matches(key, names, 1):
                yield f"did you mean {close}={value}?"


def _is_complete(config: Mapping[str, Any], run_dir: Path) -> bool:
    """Whether nothing is left to do, which is then said."""
    status = read_status(run_dir)
    labels, accuracy = status.get("labels"), status.get("accuracy")
    shown = isinstance(labels, int) and isinstance(accuracy, int | float)
    if not (shown and complete_already(status, config)):
        return False
    log.info("complete already: %d labels, test accuracy %.4f, in %s", labels, accuracy, run_dir)
    return True


def _run(config: dict[str, Any], run_dir: Path, sweep: bool) -> None:
    if _is_complete(config, run_dir):
        return
    from dal.app import execute  # the first import of torch
    from dal.utils.ranks import together
    from dal.utils.signals import PreemptedError

    try:
        with together():
            execute(config, run_dir)
    except PreemptedError as end:
        log.warning("%s", end)
        raise SystemExit(128 + end.signum) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        _report(error, run_dir)
        _end(sweep, error)


def _run_together(runs: Sequence[replicas.Run], mode: str, sweep: bool) -> None:
    """Do those of several runs that are not complete, in lockstep."""
    left = [run for run in runs if not _is_complete(run.config, run.run_dir)]
    if not left:
        return
    from dal.replicas import run_together  # the first import of torch
    from dal.utils.signals import PreemptedError

    try:
        errors = run_together(left, mode, _report)  # type: ignore[arg-type]
    except PreemptedError as end:
        raise SystemExit(128 + end.signum) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    failed = [error for error in errors if error is not None]
    if failed:
        others = len(left) - len(failed)
        rest = "the other is" if others == 1 else "the others are"
        ended = f"; {rest} complete" if others else ""
        log.error("error: %d of %d runs failed%s", len(failed), len(left), ended)
        _end(sweep, failed[0])


def _report(error: BaseException, run_dir: Path) -> None:
    """Say what ended a run."""
    from dal.utils.signals import PreemptedError

    if isinstance(error, PreemptedError):
        log.warning("%s", error)
        return
    Jobs.broken.add(run_dir)
    expected = isinstance(
        error, ValueError | TypeError | OSError | RuntimeError | ArithmeticError | MemoryError
    )
    remedy = TOO_MANY_FILES if getattr(error, "errno", None) == errno.EMFILE else ""
    log.error(
        "error: %s%s",
        str(error) or type(error).__name__,
        remedy,
        exc_info=None if expected else error,
    )
    for note in getattr(error, "__notes__", []) if expected else []:
        log.error("%s", note)


def _end(sweep: bool, error: BaseException) -> None:
    """End a failed job so that whoever started it learns of it."""
    if not sweep:
        raise SystemExit(1) from None
    if "BasicLauncher" not in HydraConfig.get().launcher["_target_"] and not Jobs.elsewhere():
        raise error  # a job in another process: its launcher must learn of it
    Jobs.failed = True  # raised, it would end as a traceback below the table


def _options(group: Path) -> list[str]:
    return [str(p.relative_to(group).with_suffix("")) for p in sorted(group.rglob("*.yaml"))]


def _listed(value: str) -> list[str]:
    """The options that a command line names for a group: ``a``, ``a,b`` or ``[a,b]``."""
    return [option.strip() for option in value.strip("[]").split(",") if option.strip()]


def _dotted(config: Any, prefix: str = "") -> Iterator[str]:
    """All keys of nested settings, as they are written on the command line."""
    for key in config:
        yield prefix + str(key)
        if isinstance(OmegaConf.select(config, str(key), throw_on_missing=False), DictConfig):
            yield from _dotted(config[key], f"{prefix}{key}.")
