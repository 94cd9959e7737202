"""Which samples a run has: recorded at its start, so that a place may come to hold more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.checkpoint import load, save
from dal.data.source import Source
from dal.journals import SAMPLES
from dal.utils.digest import digest_file
from dal.utils.safe_files import DamagedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What a run recorded of its samples, in ``samples.pt``.

    Attributes:
        listing: See `dal.data.Dataset.listing`; None where nothing was recorded.
        appended: How many of them came after it had begun.
        digest: Tells it from others; None for nothing.
    """

    listing: Mapping[str, Any] | None = None
    appended: int = 0
    digest: str | None = None

    @classmethod
    def read(cls, run_dir: Path) -> Known:
        """What stands in a run directory; a damaged file is done without, with a warning.

        Whether the data are still those of the run, its digest of them tells.

        Raises:
            ValueError: There is something else than a file in its place.
        """
        try:
            return cls._of(run_dir)
        except DamagedError as error:
            log.warning("%s; the samples are looked up anew", error)
            return cls()

    @classmethod
    def _of(cls, run_dir: Path) -> Known:
        path = run_dir / SAMPLES
        if path.exists() and not path.is_file():
            raise ValueError(
                f"{path} is no regular file; put back the one that the run wrote, or remove it to "
                "have the samples looked up anew"
            )
        try:
            found = load(path)
            return cls(found["listing"], int(found["appended"]), digest_file(path))
        except FileNotFoundError:
            return cls()
        except (KeyError, TypeError) as error:
            raise DamagedError(f"{path} is damaged: it holds no listing") from error


def keep_samples(run_dir: Path, source: Source) -> None:
    """Record the samples of a source that tells of them; say how many are new.

    Called once the data are known to be those of the run, and before it takes a step.

    Raises:
        OSError: The disk is full or not writable.
    """
    if source.listing is None:
        return
    known = Known()
    with suppress(DamagedError):  # told of when it was read
        known = Known._of(run_dir)
    if (new := source.appended - known.appended) > 0:
        words = "1 new sample is a candidate" if new == 1 else f"{new} new samples are candidates"
        log.info("%s now", words)
    now = {"listing": source.listing, "appended": source.appended}
    if not _same(now, vars(known)):
        save(run_dir / SAMPLES, now)


def _same(new: Any, old: Any) -> bool:
    """Whether all that a value says is said by another."""
    if isinstance(new, Mapping):
        return isinstance(old, Mapping) and all(k in old and _same(new[k], old[k]) for k in new)
    if isinstance(new, Tensor):
        return isinstance(old, Tensor) and torch.equal(new, old)
    if isinstance(new, list | tuple):
        alike = isinstance(old, list | tuple) and len(new) == len(old)
        return alike and all(map(_same, new, old))
    return bool(new == old)
