"""``--help``: every option and setting with the comment that its YAML file has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dal.cli.folders import LISTED, file_of, groups, options
from dal.settings import TEXTS

_LINE = re.compile(r"( *)(?:- )?([\w.]+):(?: .*?)??(?: # (.*))?$")
_OURS = {"--help", "-h", "--multirun", "-m", "--run", "-r", "--resolve"}
_COLUMN = 40
"""Comments begin here, where keys and values leave room."""


def asked(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help in a way that `text` answers; else Hydra does."""
    flags = {word for word in _without_own(arguments) if word.startswith("-")}
    return bool(flags & {"--help", "-h"}) and flags <= _OURS


def overrides(arguments: Sequence[str]) -> list[str]:
    """Those of a command line; of a sweep, those of its first job."""
    given = [word for word in _without_own(arguments) if word[:1] != "-"]
    return [x if set(x) & set("[{('\"") else x.partition(",")[0] for x in given]


def _without_own(arguments: Sequence[str]) -> list[str]:
    """A command line without its ``--config-dir``."""
    pairs = pairwise(["", *arguments])
    flags = ("--config-dir", "-cd")
    return [w for before, w in pairs if before not in flags and w.partition("=")[0] not in flags]


def text(config: DictConfig, folders: Sequence[Path]) -> str:
    """The help of some settings.

    Args:
        config: As Hydra composes them, its own settings included.
        folders: Where the options are.

    Returns:
        Hydra's template with the groups and one line a setting.
    """
    return Template(config.hydra.help.template).safe_substitute(
        APP_CONFIG_GROUPS="\n".join(_groups(folders)) + "\n",
        CONFIG="\n".join(_settings(config, folders)),
    )


def _groups(folders: Sequence[Path]) -> Iterator[str]:
    for group, names, comment in listed(folders):
        yield f"{group}: {', '.join(names)}" + (f"  # {comment}" if comment else "")


def listed(folders: Sequence[Path]) -> Iterator[tuple[str, list[str], str]]:
    """Each group with the names of its options, and what is chosen with it."""
    for group in groups(folders):
        names = [name for name in options(folders, group) if "/" not in name]
        if names and group != "local":
            yield group, names, _purpose(folders, group)


def _purpose(folders: Sequence[Path], group: str) -> str:
    """The comment where a group's option is chosen; without one, that of the group around it."""
    around, _, name = group.rpartition("/")
    chosen_by = [f"{around}/{option}" for option in options(folders, around)] if around else []
    for file in chosen_by or ["config"]:
        path = file_of(folders, file)
        if path and (comment := _of_file(path, "").get(f"defaults.{name}")):
            return comment
    return _purpose(folders, around) if around else ""


def _settings(config: DictConfig, folders: Sequence[Path]) -> Iterator[str]:
    comments, options = _comments(config, folders)
    names = [str(name) for name in config if name != "hydra"]
    plain: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(config, names), resolve=True, throw_on_missing=False
    )
    others = [(key, "") for key in options if key.partition(".")[0] not in plain]
    for key, value in [*_flat(plain, options), *others]:
        shown = options.get(key, _shown(value))
        line, comment = f"{key}: {shown}" if shown else f"{key}:", comments.get(key, "")
        if shown or comment:
            yield f"{line:<{_COLUMN}} # {comment}" if comment else line


def _flat(
    settings: Mapping[str, Any], options: Mapping[str, str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Keys as they are written on the command line; those of a group behind its option."""
    for name, value in settings.items():
        key = prefix + name
        if name == "_target_":
            continue
        if isinstance(value, Mapping) and (value or key in options):
            yield key, ""
            yield from _flat(value, options, f"{key}.")
        else:
            yield key, value


def _shown(value: Any) -> str:
    """A value in the words of YAML and of the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(_shown(part) for part in value)}]"
    return "[]" if value == {} else str(value)


def _comments(config: DictConfig, folders: Sequence[Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Comments, and chosen options, by the keys that they are about."""
    comments = TEXTS | _of_file(folders[0] / "config.yaml", "")
    comments |= {group: comments.get(f"defaults.{group}", "") for group in LISTED}
    options = {}
    chosen = [(str(choice), option) for choice, option in config.hydra.runtime.choices.items()]
    listed = [(f"{group}@{group}.{name}", name) for group in LISTED for name in config[group]]
    for choice, option in [*chosen, *listed]:
        group, _, package = choice.partition("@")
        key = package or group.replace("/", ".")
        if path := file_of(folders, f"{group}/{option}"):
            options[key] = str(option)
            comments |= _of_file(path, f"{key}.") | {key: _head(path)}
    return comments, options


def _of_file(path: Path, prefix: str) -> dict[str, str]:
    """The comments behind the keys of a file, by key."""
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        depth = len(match[1])
        parents = [(d, name) for d, name in parents if d < depth] + [(depth, match[2])]
        if match[3]:
            found[prefix + ".".join(name for _, name in parents)] = match[3]
    return found


def _head(path: Path) -> str:
    """What the first line of comment of a file says."""
    lines = (line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line[:2] == "# ")
    return next((line for line in lines if not line.startswith("@package")), "")
