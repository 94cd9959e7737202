"""Files that cannot be read: named with reasons in a file, and set aside or refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dal.data.images.names import counted, shown
from dal.utils.safe_files import csv_text, write_text_atomically

FILE = "damaged.csv"


def tell_damaged(
    folder: Path,
    faults: Mapping[str, str],
    here: Collection[str],
    known: Collection[str],
    refuse: bool,
) -> list[str]:
    """Name damaged files in ``damaged.csv``.

    Args:
        folder: Where that file is to be.
        faults: Why files cannot be read, by name; those that are gone as well.
        here: The files that are there.
        known: Files of a run that has begun, which goes on with the pixels it has of them.
        refuse: Whether any damaged one is too many.

    Returns:
        A phrase for the log, if there are any.

    Raises:
        ValueError: There are some, and ``refuse``.
    """
    damaged = {name: why for name, why in faults.items() if name in here}
    where = _listed(folder / FILE, damaged)
    if damaged and refuse:
        raise ValueError(
            f"{len(damaged):,} of {counted(len(here), 'file')} cannot be read ({_few(damaged)}); "
            f"mend or remove them, {where}, or set data.on_damage=skip"
        )
    aside = {name: why for name, why in damaged.items() if name not in known}
    what = counted(len(aside), "file")
    told = f"{what} set aside, since unreadable ({_few(aside)}); {where}"
    return [told] if aside else []


def _listed(path: Path, damaged: Mapping[str, str]) -> str:
    """Write the file, or remove that of the last time; says where to look."""
    try:
        if not damaged:
            path.unlink(missing_ok=True)
            return ""
        rows = [("file", "reason"), *((shown(name), why) for name, why in damaged.items())]
        write_text_atomically(path, csv_text(rows))
    except OSError as error:
        return f"{path}, to name all, cannot be written ({error.strerror or error})"
    return f"{path} names all"


def _few(faults: Mapping[str, str]) -> str:
    return ", ".join(f"{shown(name)}: {why}" for name, why in list(faults.items())[:3])
