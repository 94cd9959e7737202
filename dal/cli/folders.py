"""Folders of options: the one that comes with dal, and one of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import dal

LISTED = ("difficulty", "stopping")
"""Groups of which a run takes a list of options, side by side."""


def config_dir() -> Path:
    """The options of dal: packaged with it, or at the top of the repository it is run from.

    Raises:
        SystemExit: The installation lacks them; with code 1.
    """
    package = Path(dal.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise SystemExit(f"error: {package} came without its folder conf; install dal again")


def own_dir(arguments: Sequence[str]) -> Path | None:
    """The folder that a command line names with ``--config-dir``, or ``-cd``."""
    found = None
    for word, following in pairwise([*arguments, ""]):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            found = value if equals else following
    return Path(found).expanduser() if found else None


def with_own(folder: Path, arguments: Sequence[str]) -> list[Path]:
    """A folder of options, and behind it the user's own where the command line names one.

    Raises:
        SystemExit: It is missing, or has an option that dal has as well, which would hide it; with
            code 1.
    """
    own = own_dir(arguments)
    if own is None:
        return [folder]
    if not own.is_dir():
        raise SystemExit(f"error: --config-dir names {own}, which is no folder; correct it")
    for path in sorted(own.rglob("*.yaml")):
        inside = path.relative_to(own)
        if (folder / inside).is_file() and inside.parts[0] != "local":
            raise SystemExit(
                f"error: dal has an option {inside} itself, which hides that of {own}; rename "
                "the latter"
            )
    return [folder, own.resolve()]


def groups(folders: Sequence[Path]) -> list[str]:
    """The groups of options, such as ``strategy`` and ``trainer/optimizer``."""
    found = {p.relative_to(f).as_posix() for f in folders for p in f.rglob("*") if p.is_dir()}
    return sorted(found)


def options(folders: Sequence[Path], group: str) -> list[str]:
    """The options of a group, in the order of their names."""
    places = [folder / group for folder in folders]
    files = [(path, place) for place in places for path in place.rglob("*.yaml")]
    return sorted(path.relative_to(place).with_suffix("").as_posix() for path, place in files)


def file_of(folders: Sequence[Path], name: str) -> Path | None:
    """The file of an option such as ``strategy/margin``; None where no folder has it."""
    paths = [folder / f"{name}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), None)
