"""``--help``: every option and setting with the comment that its YAML file has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dal.settings import TEXTS

_LINE = re.compile(r"( *)(?:- )?([\w.]+):(?: .*?)??(?: # (.*))?$")
_OURS = {"--help", "-h", "--multirun", "-m", "--run", "-r", "--resolve"}
_COLUMN = 40
"""Comments begin here, where keys and values leave room."""


def asked(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help in a way that `text` answers; else Hydra does."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    return bool(flags & {"--help", "-h"}) and flags <= _OURS


def overrides(arguments: Sequence[str]) -> list[str]:
    """Those of a command line; of a sweep, those of its first job."""
    given = [argument for argument in arguments if argument[:1] != "-"]
    return [x if set(x) & set("[{('\"") else x.partition(",")[0] for x in given]


def text(config: DictConfig, config_dir: Path) -> str:
    """The help of some settings.

    Args:
        config: As Hydra composes them, its own settings included.
        config_dir: Where the files are.

    Returns:
        Hydra's template with the groups and one line a setting.
    """
    return Template(config.hydra.help.template).safe_substitute(
        APP_CONFIG_GROUPS="\n".join(_groups(config_dir)) + "\n",
        CONFIG="\n".join(_settings(config, config_dir)),
    )


def _groups(config_dir: Path) -> Iterator[str]:
    comments = _of_file(config_dir / "config.yaml", "")
    folders = sorted(path for path in config_dir.rglob("*") if path.is_dir())
    for folder in folders:
        options = sorted(path.stem for path in folder.glob("*.yaml"))
        if options and folder.name != "local":
            group = str(folder.relative_to(config_dir))
            comment = comments.get(f"defaults.{group}")
            yield f"{group}: {', '.join(options)}" + (f"  # {comment}" if comment else "")


def _settings(config: DictConfig, config_dir: Path) -> Iterator[str]:
    comments, options = _comments(config, config_dir)
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


def _comments(config: DictConfig, config_dir: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Comments, and chosen options, by the keys that they are about."""
    comments = TEXTS | _of_file(config_dir / "config.yaml", "")
    options = {}
    chosen = [(str(choice), option) for choice, option in config.hydra.runtime.choices.items()]
    listed = [(f"difficulty@difficulty.{option}", option) for option in config.difficulty]
    for choice, option in [*chosen, *listed]:
        group, _, package = choice.partition("@")
        key = package or group.replace("/", ".")
        path = config_dir / group / f"{option}.yaml"
        if path.is_file():
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
