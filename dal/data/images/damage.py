"""Files that cannot be read: named with reasons in a file, and set aside or refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dal.data.images.names import counted, shown
from dal.utils.safe_files import csv_text, write_text_atomically

FILE = "damaged.csv"


def tell_damaged(
    folder: Path, faults: Mapping[str, str], here: Collection[str], refuse: bool
) -> list[str]:
    """Name damaged files in ``damaged.csv``.

    Args:
        folder: Where that file is to be.
        faults: Why files cannot be read, by name; those that are gone as well.
        here: The files that are there.
        refuse: Whether any damaged one is too many.

    Returns:
        A phrase for the log, if there are any.

    Raises:
        ValueError: There are some, and ``refuse``.
    """
    damaged = {name: why for name, why in faults.items() if name in here}
    path = folder / FILE
    if not damaged:
        path.unlink(missing_ok=True)
        return []
    rows = [("file", "reason"), *((shown(name), why) for name, why in damaged.items())]
    write_text_atomically(path, csv_text(rows))
    few = ", ".join(f"{shown(name)}: {why}" for name, why in list(damaged.items())[:3])
    if refuse:
        raise ValueError(
            f"{len(damaged):,} of {counted(len(here), 'file')} cannot be read ({few}); mend or "
            f"remove them, {path} names all, or set data.on_damage=skip"
        )
    what = counted(len(damaged), "file")
    return [f"{what} set aside, since unreadable ({few}); {path} names all"]
