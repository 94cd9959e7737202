"""Hydra's schema of the settings, and what of a composed configuration was chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import field, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from dal.cli.folders import LISTED
from dal.settings import (
    DECLARED,
    Choices,
    CommandSettings,
    Settings,
    SplitSettings,
    changed_defaults,
    differing,
)

VERSION: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}
"""Hydra 1.3 warns without it, Hydra 1.4 with it."""

GROUPS = (
    *("data", "model", "strategy", "trainer", "oracle", "committee", "initial", "features"),
    *("setting", "cooperative"),
)
"""Groups of one option each, which are checked against what they build."""

NAMED = ("data", "model", "strategy")
"""Groups whose options stand in the name of a run."""

NO_CHOICE = ("experiment", "debug", "cluster", *LISTED)
"""Groups that only set others, or say where jobs run; and those whose options form a list."""

_TYPES = get_type_hints(Settings) | get_type_hints(CommandSettings)

Config = make_dataclass(
    "Config",
    [
        *((f.name, _TYPES[f.name], copy(f)) for f in DECLARED),
        ("split", SplitSettings, field(default_factory=SplitSettings)),
        *((name, Any, MISSING) for name in GROUPS),
        *((name, Any, field(default_factory=dict)) for name in LISTED),
    ],
)
"""All settings with their types and defaults."""

ConfigStore.instance().store(name="schema", node=Config)


def choices_of(settings: DictConfig, chosen: Mapping[str, str | None]) -> Choices:
    """What was chosen of a composed configuration; see `Choices`.

    Hydra must be initialized, as it is within a job: the defaults are composed beside it.

    Args:
        settings: The settings, not resolved.
        chosen: The option of each group, as Hydra has them.
    """
    ours = {key: value for key, value in chosen.items() if _is_choice(key) and value is not None}
    difficulty = ",".join(sorted(map(str, settings.difficulty)))
    defaults, found = _defaults(())
    usual: dict[str, str | None] = {}
    known: set[str] = set()
    for depth in sorted(set(map(_depth, ours))):  # an option says which groups are below it
        level = [key for key in ours if _depth(key) == depth]
        usual |= {key: found.get(key) for key in level}
        known |= found.keys() & set(level)
        given = {key: value for key, value in ours.items() if key in usual}
        defaults, found = _defaults(_overrides(given, known, difficulty))
    options = {key: value for key, value in ours.items() if key in NAMED or value != usual.get(key)}
    if difficulty:
        options["difficulty"] = difficulty
    plain: dict[str, Any] = OmegaConf.to_container(settings)  # type: ignore[assignment]
    return Choices(dict(sorted(options.items())), differing(plain, defaults))


def composed(overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, str]]:
    """The settings that a job's overrides make, and the chosen option of each group.

    Hydra must be initialized, as it is within a job.
    """
    whole = hydra.compose("config", list(overrides), return_hydra_config=True)
    names = [str(name) for name in whole if name != "hydra"]
    return OmegaConf.masked_copy(whole, names), whole.hydra.runtime.choices


def refuse_other_defaults(config: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse to go on with a run that equal choices began when they meant something else.

    Raises:
        SystemExit: Naming the settings whose default has changed, and what it was; with code 1.
    """
    try:
        saved = yaml.safe_load((run_dir / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return  # there is none, or what is left of one: it is written anew
    changed = changed_defaults(saved, config) if isinstance(saved, dict) else {}
    if changed:
        listed = ", ".join(f"{key} (then {value})" for key, value in changed.items())
        raise SystemExit(
            f"error: {run_dir} was begun under other defaults: {listed}; go on with the version of "
            "dal that began it, or choose another saved_dir"
        )


def _is_choice(group: str) -> bool:
    return not group.startswith("hydra/") and group not in NO_CHOICE


def _depth(group: str) -> int:
    """How many options a group may be below: ``oracle@oracle.people.ann`` is below ``oracle``."""
    return group.count("/") + group.count("@") + group.count(".")


def _overrides(
    chosen: Mapping[str, str], known: Collection[str], difficulty: str
) -> tuple[str, ...]:
    """A command line that makes these choices; a group that no defaults list names is added."""
    given = [f"{'' if key in known else '+'}{key}={value}" for key, value in chosen.items()]
    return (*given, f"difficulty=[{difficulty}]")


@cache
def _defaults(overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str | None]]:
    """Settings, not resolved, and options of a configuration in which nothing else is set."""
    composed = hydra.compose("config", list(overrides), return_hydra_config=True)
    options: dict[str, str | None] = OmegaConf.to_container(  # type: ignore[assignment]
        composed.hydra.runtime.choices
    )
    plain: dict[str, Any] = OmegaConf.to_container(composed)  # type: ignore[assignment]
    plain.pop("hydra")
    return plain, options
