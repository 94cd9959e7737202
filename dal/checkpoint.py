"""A run's state on the disk: numbered checkpoints, each verified when it is read."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from dal.utils.safe_files import DamagedError, remove_temporary, saving, write_atomically

log = logging.getLogger(__name__)

T = TypeVar("T")

MAGIC = b"dal checkpoint 1\n"
KEPT = 3


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically: magic line, SHA-256 of the rest, then `torch.save`'s bytes.

    Args:
        path: Where; its folder must exist.
        state: Tensors and plain containers only, so that it loads without pickle.

    Raises:
        OSError: The disk is full or not writable; what stood there before is intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).digest()
    with saving(path, len(payload)):
        write_atomically(path, lambda file: file.writelines((MAGIC, digest, payload)))


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU.

    Raises:
        DamagedError: The file is truncated or altered, or was written by something else.
        FileNotFoundError: There is no such file.
        ValueError: It is whole, and holds other objects than `save` takes.
    """
    content = path.read_bytes()
    start = len(MAGIC) + 32
    if content[: len(MAGIC)] != MAGIC:
        raise DamagedError(f"{path} is not a checkpoint of this version of dal, or is damaged")
    if hashlib.sha256(memoryview(content)[start:]).digest() != content[len(MAGIC) : start]:
        raise DamagedError(f"{path} is damaged: its content does not match its digest")
    try:
        state = torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True)
        return dict(state)
    except Exception as error:  # torch raises of many kinds, and advises to trust the file
        raise ValueError(  # whole, so nothing may remove it
            f"{path} holds something else than tensors and plain values; it is not loaded, since "
            "such files can run code: use one that dal wrote"
        ) from error


class Checkpoints:
    """The last few states of a run, in one folder.

    Args:
        folder: Created at the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any]) -> None:
        """Write the next state and drop all but the newest few."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = self._numbers()
        number = numbers[-1] + 1 if numbers else 0
        save(self._path(number), state)
        for old in numbers[: 1 - KEPT]:
            self._path(old).unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole; see `read`."""
        return self.read(lambda state: state)

    def read(
        self,
        take: Callable[[dict[str, Any]], T],
        take_in_part: Callable[[dict[str, Any]], T] | None = None,
    ) -> T | None:
        """What is made of the newest state that is whole.

        Damaged files are warned about, and removed once an older one has taken their place.

        Args:
            take: Makes something of a state; raises DamagedError where a file that the state refers
                to is damaged, and the state before it is tried.
            take_in_part: Does so without such files, for the newest whole state where none can be
                taken with all its files.

        Returns:
            What one of them made, or None when there has been no state.

        Raises:
            DamagedError: There are checkpoints but none of them is whole.
        """
        if not self.folder.is_dir():
            return None
        remove_temporary(self.folder)
        newest: dict[str, Any] | None = None
        damaged: list[Path] = []
        cause = ""
        for number in reversed(self._numbers()):
            path = self._path(number)
            try:
                state = load(path)
                newest = newest or state
                taken = take(state)
            except DamagedError as error:
                log.warning("%s; falling back to the checkpoint before it", error)
                damaged.append(path)
                cause = cause or str(error)
                continue
            for bad in damaged:
                bad.unlink()
            return taken
        if newest is not None and take_in_part is not None:
            return take_in_part(newest)
        if damaged:
            raise DamagedError(f"no checkpoint in {self.folder} is whole ({cause})")
        return None

    def _numbers(self) -> list[int]:
        names = [path.stem.removeprefix("state_") for path in self.folder.glob("state_*.pt")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, number: int) -> Path:
        return self.folder / f"state_{number:06d}.pt"
