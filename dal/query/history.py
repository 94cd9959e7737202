"""Class probabilities of the last models over the whole training part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.utils.safe_files import DamagedError, saving, write_array

MEMORY_LIMIT = 512 * 2**20
"""Bytes of history kept in memory; beyond it the files are memory-mapped."""

PATTERN = "round_*.npy"
_DIGEST_SIZE = hashlib.sha256().digest_size


class PredictionHistory:
    """What the last models predicted, so that no old model is ever run again.

    One array a round: float32, (num_total, C), rows of samples that were not predicted (those
    labeled already) are NaN. With a folder, each array is also a file of NumPy, written once, with
    the digest of round and content behind the array; the state names the rounds only. Without a
    folder the state holds the arrays.

    The training part may grow as a run goes on: arrays of earlier rounds then have fewer rows. For
    a round in which a sample was not there it has the prediction of the first later round that has
    one: nothing is known of a change, so there is none.

    Args:
        num_total: Size of the training part.
        num_classes: Number of classes C.
        keep: How many rounds are needed; older ones are dropped. None keeps all.
        folder: Where the files go, or None.
        memory_limit: Bytes above which arrays are memory-mapped from their files.
        dtype: What predictions are kept as; files hold float32 only.
        begun: Size of the training part at the beginning of the run; None for ``num_total``.
    """

    def __init__(
        self,
        num_total: int,
        num_classes: int,
        keep: int | None,
        folder: Path | None = None,
        memory_limit: int = MEMORY_LIMIT,
        dtype: torch.dtype = torch.float32,
        begun: int | None = None,
    ) -> None:
        self.dtype = dtype
        self.begun = num_total if begun is None else begun
        self.shape = (num_total, num_classes)
        self.keep = keep
        self.folder = folder
        size = 4 * num_total * num_classes * (keep or 1)
        self.mapped = folder is not None and (keep is None or size > memory_limit)
        # A mapped file is opened when it is asked for: thousands of rounds are too many open files.
        self._arrays: dict[int, Tensor | None] = {}

    @classmethod
    def read(cls, folder: str | Path) -> PredictionHistory:
        """The predictions that a run left in its folder ``history``, memory-mapped.

        Args:
            folder: ``<run directory>/history``; complete with the setting ``keep_history=true``.

        Raises:
            FileNotFoundError: There are none.
            DamagedError: A file is damaged.
        """
        numbers = _rounds_in(Path(folder))
        if not numbers:
            raise FileNotFoundError(f"{folder} holds no predictions; run with keep_history=true")
        first, newest = (
            _read(Path(folder) / f"round_{number:04d}.npy", mapped=True).shape
            for number in (numbers[0], numbers[-1])
        )
        total, classes = newest
        history = cls(total, classes, keep=None, folder=Path(folder), begun=first[0])
        for number in numbers:
            history._verified(number)
        history._arrays = dict.fromkeys(numbers)
        return history

    @property
    def rounds(self) -> list[int]:
        """The rounds that are kept, oldest first."""
        return sorted(self._arrays)

    def append(self, round_number: int, indices: Tensor, probs: Tensor) -> None:
        """Remember the predictions of one round's model.

        Args:
            round_number: The round; appending it again replaces it.
            indices: int64, (N,), which samples were predicted.
            probs: float, (N, C), their class probabilities.

        Raises:
            OSError: The disk is full or not writable.
        """
        array = torch.full(self.shape, torch.nan, dtype=self.dtype)
        array[indices.cpu()] = probs.to("cpu", self.dtype)
        self._arrays[round_number] = None if self.mapped else array
        if self.folder is not None:
            path = self._path(round_number)
            with saving(path, 4 * array.numel()):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_array(path, array.numpy(), _digest(round_number, array))
        self._forget()

    def last(self, count: int, indices: Tensor) -> Tensor:
        """Predictions of the last rounds, oldest first.

        Args:
            count: How many rounds are wanted.
            indices: int64, (N,).

        Returns:
            float32, (T, N, C), T = min(count, rounds kept).
        """
        found, late = self._found(self.rounds[-count:], indices), indices.cpu() >= self.begun
        for place in reversed(range(len(found) - 1)) if bool(late.any()) else ():
            missing = late & found[place].isnan().all(1)
            found[place, missing] = found[place + 1, missing]
        return found

    def _found(self, rounds: Sequence[int], indices: Tensor) -> Tensor:
        """float32, (T, N, C): the predictions of some rounds, NaN where there was none."""
        if not rounds:
            return torch.empty(0, len(indices), self.shape[1], dtype=self.dtype)
        return torch.stack([_rows_of(self._array(number), indices.cpu()) for number in rounds])

    def of_sample(self, index: int) -> Tensor:
        """Predictions for one sample over all rounds kept: float32, (T, C), NaN where it had none.

        That is once it is labeled, and before it was there.
        """
        return self._found(self.rounds, torch.tensor([index]))[:, 0]

    def of_samples(self, indices: Tensor) -> Tensor:
        """As `of_sample`, of several: float32, (T, n, C)."""
        return self._found(self.rounds, indices)

    def state_dict(self) -> dict[str, Any]:
        """Which rounds there are, or the arrays themselves where there is no folder."""
        if self.folder is None:
            return {"arrays": dict(self._arrays)}
        return {"rounds": _spans(self.rounds)}

    def load_state_dict(self, state: dict[str, Any], without_damaged: bool = False) -> list[int]:
        """Take back what `state_dict` gave.

        Args:
            state: What it gave.
            without_damaged: Do without the rounds whose files are missing or damaged; a damaged
                file is renamed to ``round_<n>.npy.damaged``.

        Returns:
            The rounds that are lost.

        Raises:
            DamagedError: A file is missing or damaged, naming it.
        """
        if self.folder is None:
            self._arrays = dict(state["arrays"])
            return []
        rounds = [number for first, last in state["rounds"] for number in range(first, last + 1)]
        self._arrays, lost = {}, []
        for number in rounds:
            try:
                array = self._verified(number)
            except DamagedError:
                if not without_damaged:
                    raise
                lost.append(number)
                path = self._path(number)
                if path.exists():
                    path.replace(path.with_name(f"{path.name}.damaged"))
            else:
                self._arrays[number] = None if self.mapped else array
        return lost

    def load_files(self, before: int) -> list[int]:
        """Take back what the files hold of the rounds before one; gives those that are lost."""
        first = 0 if self.keep is None else max(before - self.keep, 0)
        spans = [[first, before - 1]] if before > first else []
        return self.load_state_dict({"rounds": spans}, without_damaged=True)

    def _path(self, round_number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"round_{round_number:04d}.npy"

    def _array(self, round_number: int) -> Tensor:
        array = self._arrays[round_number]
        return self._open(round_number) if array is None else array

    def _open(self, round_number: int) -> Tensor:
        """Read one file, mapped copy-on-write so that it cannot be modified."""
        path = self._path(round_number)
        array = _read(path, self.mapped)
        rows, classes = array.shape if array.ndim == 2 else (0, 0)
        fits = classes == self.shape[1] and self.begun <= rows <= self.shape[0]
        if array.dtype != np.float32 or not fits:
            raise DamagedError(f"{path} is damaged: it holds {array.dtype} {array.shape}")
        return torch.from_numpy(array)

    def _verified(self, round_number: int) -> Tensor:
        array, path = self._open(round_number), self._path(round_number)
        with path.open("rb") as file:
            file.seek(-_DIGEST_SIZE, os.SEEK_END)
            if file.read() != _digest(round_number, array):
                raise DamagedError(f"{path} is damaged, or was written by another version of dal")
        return array

    def _forget(self) -> None:
        """Drop rounds beyond `keep`, but files only when no kept checkpoint may refer to them."""
        if self.keep is None:
            return
        newest = self.rounds[-1]
        for number in self.rounds[: -self.keep]:
            del self._arrays[number]
        for number in [] if self.folder is None else _rounds_in(self.folder):
            if number < newest - self.keep - 1:
                self._path(number).unlink()


def _rows_of(array: Tensor, indices: Tensor) -> Tensor:
    """Some rows, NaN for those beyond the end."""
    there = indices < len(array)
    if bool(there.all()):
        return array[indices]
    rows = torch.full((len(indices), array.shape[1]), torch.nan, dtype=array.dtype)
    rows[there] = array[indices[there]]
    return rows


def _rounds_in(folder: Path) -> list[int]:
    """The rounds of which a folder has files, ascending."""
    names = [path.stem.removeprefix("round_") for path in folder.glob(PATTERN)]
    return sorted(int(name) for name in names if name.isdecimal())


def _read(path: Path, mapped: bool) -> NDArray[Any]:
    """An array, mapped copy-on-write where it is large."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises of many kinds
        raise DamagedError(f"{path} is missing or damaged ({error})") from error
    return array


def _spans(rounds: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as first and last of each run of consecutive ones."""
    spans: list[list[int]] = []
    for number in rounds:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return spans


def _digest(round_number: int, array: Tensor) -> bytes:
    """SHA-256 of round, shape and content."""
    digest = hashlib.sha256(f"{round_number} {tuple(array.shape)}".encode())
    digest.update(array.contiguous().numpy().data)
    return digest.digest()
