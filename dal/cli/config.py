"""The command line: the only place that knows Hydra; torch is imported when work starts."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dal.cli import help, planned
from dal.cli.explain import exceptions_come_through, explain, in_file, in_one_line
from dal.cli.folders import LISTED, config_dir, groups, options, with_own
from dal.cli.running import outcome, run_alone, run_together
from dal.cli.schema import VERSION, Config, choices_of, composed, refuse_other_defaults
from dal.cli.sweep import End, Jobs
from dal.utils.logs import log_to_console
from dal.utils.torchrun import first

VALUED = (
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
)
"""Flags of Hydra behind which a value stands."""

OPTIONAL = ("--info", "-i")
"""Flags of Hydra behind which one may stand."""

LISTS = (*LISTED, "experiment", "debug")
"""Groups of which several options may be taken."""


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
        runs = planned.runs_of(settings, choices, compose_with, choices_of)
        for run in runs:
            refuse_other_defaults(run.config, run.run_dir)
    except SystemExit as end:
        if not sweep or Jobs.elsewhere():
            raise
        sys.stderr.write(f"{end}\n")  # the jobs behind it go on
        Jobs.failed = True
        return
    several = sweep or len(runs) > 1
    runs = [replace(run, name=run.name + _varied() if several else "") for run in runs]
    with log_to_console(quiet=not first(), ends_only=several):
        try:
            if len(runs) == 1:
                run_alone(runs[0], sweep)
            else:
                run_together(runs, settings.lockstep.lower(), sweep)
        finally:
            if several:
                ends = [End(outcome(run.run_dir), run.run_dir, run.name) for run in runs]
                number = OmegaConf.select(HydraConfig.get(), "job.num", default=0)  # type: ignore[arg-type]
                Jobs.end(number, ends)


def _varied() -> str:
    """What this job of a sweep has otherwise than the command line, but for strategy and seed."""
    given = dict(_pair(argument) for argument in sys.argv[1:])
    pairs = [_pair(override) for override in HydraConfig.get().overrides.task]
    # A sweep writes false as False.
    varied = [(k, v) for k, v in pairs if k in given and given[k].lower() != v.lower()]
    return "".join(f" {k}={v}" for k, v in varied if k not in ("strategy", "seed"))


def _pair(override: str) -> tuple[str, str]:
    """Key and value, without spaces."""
    key, _, value = override.replace(" ", "").partition("=")
    return key, value


def compose_with(strategy: str) -> tuple[DictConfig, Mapping[str, str]]:
    """This job's settings and choices with another strategy.

    Raises:
        SystemExit: There is no such strategy; with code 1.
    """
    own = [o for o in HydraConfig.get().overrides.task if o.partition("=")[0] != "strategy"]
    try:
        return composed([*own, f"strategy={strategy}"])
    except HydraException as error:
        fact = in_one_line(str(error))
        raise SystemExit(f"error: replica_strategies has {strategy}: {fact}") from None


def check_keys(settings: DictConfig) -> None:
    """Refuse settings that are missing, that nothing reads, or that refer to what is not there.

    Raises:
        SystemExit: Naming the key, what to do, and with code 1.
    """
    known = {f.name for f in fields(Config)}
    for removed in [f.name for f in fields(Config) if f.name not in settings]:
        raise SystemExit(f"error: ~{removed} takes away a setting that every run has; leave it out")
    try:
        OmegaConf.to_container(settings, resolve=True)
    except OmegaConfBaseException as error:  # raised later, Hydra would print a line of its own
        raise SystemExit(explain(error, [])) from None
    for missing in sorted(OmegaConf.missing_keys(settings)):
        raise SystemExit(f"error: {missing} is missing; set {missing}=...")
    for key in sorted({str(key) for key in settings} - known):
        close = difflib.get_close_matches(key, known, 1)
        remedy = f"did you mean {close[0]}?" if close else "--help lists the settings"
        raise SystemExit(f"error: there is no setting {key}; {remedy}")


def check_groups(arguments: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse a number, nothing, or a list given for a group: Hydra would show its own insides.

    Raises:
        SystemExit: Naming the options of the group, and with code 1.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not any((folder / key).is_dir() for folder in folders):
            continue
        known = ", ".join(options(folders, key))
        if value[:1] == "[" and key not in LISTS:
            raise SystemExit(
                f"error: {argument}, but {key} is a group of which one option is taken: choose one "
                f"of {known}; a sweep takes several: -m {key}={value.strip('[]')}"
            )
        nothing = value == "null" and key in {f.name for f in fields(Config)}
        if nothing or value.replace(".", "").isdecimal():
            raise SystemExit(
                f"error: {argument}, but {key} is a group: choose one of {known}, and set its "
                f"keys with a dot (see {key} in --cfg job)"
            )


def main(folder: Path | None = None) -> None:
    """Compose the settings from the options and the command line, and run.

    Args:
        folder: Where the options are; None for those that come with dal.

    Raises:
        SystemExit: With code 1 after any error.
    """
    # Read when torch is imported. Threads that wait for each other in a loop take the cores from
    # those they wait for, wherever other work runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    Jobs.begin()
    sys.argv[1:] = settings_first(sys.argv[1:])
    folders = with_own(folder or config_dir(), sys.argv[1:])
    check_groups(sys.argv[1:], folders)
    command = hydra.main(config_path=str(folders[0]), config_name="config", **VERSION)
    try:
        with exceptions_come_through() as wanted:
            if help.asked(sys.argv[1:]):
                asked = compose(folders, help.overrides(sys.argv[1:]), whole=True)
                sys.stdout.write(help.text(asked, folders))
            else:
                command(start)()
    except Exception as error:
        fact = None if wanted else explain(error, folders)
        if fact is None:
            raise
        mistyped = isinstance(error, HydraException) and not Jobs.begun
        sys.stderr.write(f"{fact}\n")
        if mistyped and in_file(error, folders) is None:
            with contextlib.suppress(HydraException):  # what is left may not compose either
                for line in suggestions(sys.argv[1:], folders):
                    sys.stderr.write(f"{line}\n")
        raise SystemExit(1) from None
    finally:
        Jobs.show()
    if Jobs.failed:
        raise SystemExit(1)


def settings_first(arguments: Sequence[str]) -> list[str]:
    """A command line with its flags last: settings behind a flag are unknown to argparse."""
    pairs = pairwise(["", *arguments])
    return [word for _, word in sorted(pairs, key=lambda pair: _is_flag(*pair))]


def _is_flag(before: str, word: str) -> bool:
    """Whether a word is a flag of Hydra, or the value of the flag before it."""
    return word[:1] == "-" or before in VALUED or (before in OPTIONAL and "=" not in word)


def compose(
    folders: Path | Sequence[Path], overrides: Sequence[str], whole: bool = False
) -> DictConfig:
    """The settings that some overrides make, outside of a command line.

    Args:
        folders: Where the options are: those of dal, and behind them those of the user's own.
        overrides: Such as ``strategy=margin``.
        whole: Whether Hydra's own settings are given as well.
    """
    first, *others = [folders] if isinstance(folders, Path) else folders
    places = ",".join(f"'file://{folder}'" for folder in others)
    own = [f"hydra.searchpath=[{places}]"] if others else []
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(first), **VERSION):
        return hydra.compose("config", [*overrides, *own], return_hydra_config=whole)


def strategy_settings(folders: Sequence[Path], name: str) -> dict[str, Any]:
    """The settings of a strategy's option, in plain containers.

    Raises:
        ValueError: There is no such option.
    """
    if name not in (known := options(folders, "strategy")):
        close = difflib.get_close_matches(name, known, 1)
        remedy = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
        raise ValueError(f"there is no strategy {name}; {remedy}")
    strategy = compose(folders, [f"strategy={name}"]).strategy
    plain: dict[str, Any] = OmegaConf.to_container(strategy, resolve=True)  # type: ignore[assignment]
    return plain


def suggestions(arguments: Sequence[str], folders: Sequence[Path]) -> Iterator[str]:
    """What a mistyped option or key may have meant.

    Args:
        arguments: The command line.
        folders: Where the options are.

    Yields:
        ``did you mean strategy.window=3?``, one line a mistake.
    """
    pairs = [a.lstrip("+~").split("=", 1) for a in arguments if "=" in a and a[0] != "-"]
    known_groups = groups(folders)
    # Of strategy@strategy.score, what comes before the @ is the group.
    chosen = [(key, value, key.partition("@")[0]) for key, value in pairs]
    chosen = [choice for choice in chosen if choice[2] in known_groups]
    good = [
        f"{key}={value}"
        for key, value, g in chosen
        if value in (known := options(folders, g))
        or (value[:1] == "[" and set(_listed(value)) <= set(known))
    ]
    keys = list(_dotted(compose(folders, good)))
    branches = {key.rpartition(".")[0] for key in keys}
    leaves = [key for key in keys if key not in branches and not key.endswith("_target_")]
    for key, value in pairs:
        group = key.partition("@")[0]
        if group in known_groups:
            choices = options(folders, group)
            for wrong in [option for option in _listed(value) if option not in choices]:
                yield from (
                    f"did you mean {key}={close}?"
                    for close in difflib.get_close_matches(wrong, choices, 1)
                )
        elif key not in keys and not key.startswith("hydra"):
            listed = set(_listed(value))
            of_lists = known_groups if value[:1] != "[" else LISTED
            having = [g for g in of_lists if listed and listed <= set(options(folders, g))]
            names = [*(keys if value == "null" else leaves), *having]
            last = key.rpartition(".")[2]
            elsewhere = [name for name in leaves if name.rpartition(".")[2] == last]
            nested = key.rpartition(".")[0] in branches and not elsewhere
            other = _other_option(key, good, folders) if nested else None
            if other is not None:
                yield f"did you mean {other} {key}={value}?"
                continue
            meant = elsewhere[:1] or difflib.get_close_matches(key, names, 1)
            # A group that was once called something else is known by its options.
            for name in meant or (having if len(having) == 1 else []):
                yield f"did you mean {name}={value}?"


def _other_option(key: str, good: Sequence[str], folders: Sequence[Path]) -> str | None:
    """The option of a group within another that has a key: for trainer.augment.flip, light."""
    group = key.rpartition(".")[0].replace(".", "/")
    for option in options(folders, group) if "/" in group else ():
        if key in _dotted(compose(folders, [*good, f"{group}={option}"])):
            return f"{group}={option}"
    return None


def _listed(value: str) -> list[str]:
    """The options that a command line names for a group: ``a``, ``a,b`` or ``[a,b]``."""
    return [option.strip() for option in value.strip("[]").split(",") if option.strip()]


def _dotted(config: Any, prefix: str = "") -> Iterator[str]:
    """All keys of nested settings, as they are written on the command line."""
    for key in config:
        yield prefix + str(key)
        if isinstance(OmegaConf.select(config, str(key), throw_on_missing=False), DictConfig):
            yield from _dotted(config[key], f"{prefix}{key}.")
