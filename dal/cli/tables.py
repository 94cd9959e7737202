"""Tables that commands write where people say: ``--out``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dal.utils.safe_files import make_folder, write_atomically


def place_of(out: Path) -> Path:
    """Where a table is written; of a link, the file that it names.

    Raises:
        ValueError: Something else than a file stands there, or it may not be written to.
    """
    out = out.expanduser()
    if out.is_symlink():
        out = out.resolve()
    if out.is_dir():
        raise ValueError(f"--out={out} is a folder; give the name of a file")
    if out.exists() and not out.is_file():
        raise ValueError(f"--out={out} is a device or a pipe; give the name of a file")
    if out.exists() and not os.access(out, os.W_OK):
        raise ValueError(f"--out={out} may not be written to; give another name")
    return out


def write_table(out: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a table at once or not at all, see `dal.utils.safe_files.write_atomically`.

    Raises:
        ValueError: The file cannot be written.
    """
    make_folder(out.parent)
    try:
        write_atomically(out, write)
    except OSError as error:
        if error.filename != str(out):
            raise
        raise ValueError(
            f"--out={out} cannot be written ({error.strerror}); give another name or folder"
        ) from error
