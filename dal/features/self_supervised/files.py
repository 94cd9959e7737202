"""Encoders on the disk, verified when they are read, and trainings that were killed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dal import checkpoint
from dal.data.source import Split
from dal.data.store import update
from dal.features.cache import making, writing
from dal.features.self_supervised.pretraining import Plan
from dal.utils.safe_files import DamagedError, write_atomically

log = logging.getLogger(__name__)

SCHEME = 1
"""Raised where the same settings come to mean other weights."""


class EncoderFile:
    """The encoder on the disk, and what a training that was killed has left.

    Args:
        folder: The cache.
        split: What it is learned from.
        plan: How.
    """

    def __init__(self, folder: Path, split: Split, plan: Plan) -> None:
        self.folder, self.facts = folder, repr((SCHEME, plan, split.input_shape, split.prepare))
        digest = hashlib.sha256(self.facts.encode())
        update(digest, split.store, split.rows)
        self.stem = digest.hexdigest()[:32]

    def path(self, ending: str) -> Path:
        """A file of this encoder's."""
        return self.folder / f"{self.stem}.{ending}"

    @contextmanager
    def alone(self, check: Callable[[], None]) -> Iterator[None]:
        """See `dal.features.cache.making`."""
        with making(self.folder, self.stem, "an encoder", check):
            yield

    def read(self, ending: str = "encoder.pt") -> dict[str, Any] | None:
        """What was saved; None where nothing was, or it is damaged."""
        path = self.path(ending)
        if not path.is_file():
            return None
        try:
            state = checkpoint.load(path)
        except (DamagedError, ValueError) as error:
            log.warning("%s; it is trained again", error)
            return None
        return state if state.get("facts") == self.facts else None

    def save(self, state: dict[str, Any]) -> None:
        """Keep where a training stands."""
        with writing(self.folder, "an encoder"):
            checkpoint.save(self.path("training.pt"), state | {"facts": self.facts})

    def write(self, state: dict[str, Any]) -> None:
        """Keep an encoder, and its weights once more as networks load them."""
        with writing(self.folder, "an encoder"):
            write_atomically(self.path("pth"), lambda to: torch.save(state["weights"], to))
            checkpoint.save(self.path("encoder.pt"), state | {"facts": self.facts})
        self.path("training.pt").unlink(missing_ok=True)

    def found(self, state: dict[str, Any], earlier: bool) -> str:
        """The encoder in words, and whether it was trained earlier."""
        probed = state["probe"]
        known = f"{probed:.1%} of known labels are those of 10 neighbors, " if probed >= 0 else ""
        return (
            f"{known}effective rank {state['rank']:.0f}, trained in {state['seconds']:.0f} s"
            f"{' by an earlier run' if earlier else ''}, "
            f"weights in {self.path('pth')}"
        )
