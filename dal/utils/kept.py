"""Small results that are expensive to get, kept in the cache of the user between processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dal.utils.safe_files import write_text_atomically

log = logging.getLogger(__name__)

FOLDER = "DAL_CACHE_DIR"
"""Environment variable that names the cache; without it, the cache is ``~/.cache/dal``."""


def cache_folder() -> Path:
    """The cache of the user."""
    return Path(os.environ.get(FOLDER) or "~/.cache/dal").expanduser()


def kept(key: str, compute: Callable[[], Any]) -> Any:
    """What was computed for a key before, in this process or another; else it is computed now.

    Each result is a small JSON file. Where the cache cannot be written to, everything works, and is
    computed again at every start.

    Args:
        key: All that the result depends on.
        compute: Gives the result, plain values; the same ones whenever it is called with that key.
    """
    folder = cache_folder() / "kept"
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(path.read_text())
        if known == _entry(key, known["value"]):
            return known["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # not kept yet, or damaged: computed now, and written anew
    value = compute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(_entry(key, value)))
    except OSError as error:
        log.info("%s cannot be written (%s); set %s to a folder that can", path, error, FOLDER)
    return value


def _entry(key: str, value: Any) -> dict[str, Any]:
    """What a file holds; its digest tells a damaged result from a whole one."""
    digest = hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()
    return {"key": key, "value": value, "sha256": digest}
