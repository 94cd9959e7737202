"""Arrays in ``.npy`` files that stay on the disk, however large they are.

Batches are read by rows. The pages of the file that a batch touched are given back at once, so that
a process holds no more of the file than one batch; the system keeps them as long as it has room.
"""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dal.data.inputs import Array, channels_first, check_shape
from dal.data.store import CPU, Store, blocks
from dal.utils.digest import digest_file, digest_tensors
from dal.utils.inputs import tensors_of
from dal.utils.kept import kept

Mapped = np.memmap[Any, Any]


class FileRows(Store):
    """Rows of an array in a file, of the shape and type that they have there.

    Args:
        array: Opened with ``numpy.load(path, mmap_mode="r")``, or a part of such an array.
        window: Those of its rows that the store has.
    """

    def __init__(self, array: Mapped, window: slice = slice(None)) -> None:
        self._file, self._map = str(array.filename), _mapping_of(array)
        # A mapping starts at a page of the file, the last one before the array's own offset.
        self._map_start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        self._stamp = _stamp(self._file)
        self._array: Array = array.view(np.ndarray)[window]
        self._type = array.dtype.newbyteorder("=")

    def __len__(self) -> int:
        return len(self._array)

    def read(self, rows: Tensor, device: torch.device | str = CPU) -> Tensor:
        """See `Store.read`.

        Raises:
            ValueError: The file was written to since it was opened.
        """
        self._check_untouched()
        with np.errstate(over="ignore"):  # numbers beyond float32 are told of by `checked`
            batch = np.ascontiguousarray(self._array[rows.cpu().numpy()], self._type)
        self._map.madvise(mmap.MADV_DONTNEED)
        # By way of one dimension: strides of dimensions of size 1 are anything in NumPy, and torch
        # chooses kernels by them.
        flat = torch.from_numpy(batch.reshape(-1))
        return flat.view(batch.shape).to(device)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        return self._array[:1].nbytes

    def copy(self, rows: NDArray[np.int64], out: Array) -> None:
        """Copy some rows into an array of equal type, (B, ...), without another copy between.

        Pages stay with the process, as giving them back costs more than copying a small batch; the
        system takes them back where memory runs short.

        Raises:
            ValueError: See `read`.
        """
        self._check_untouched()
        np.take(self._array, rows, 0, out, "clip")  # in another mode NumPy would copy twice

    def _check_untouched(self) -> None:
        """Refuse other content under the same digest; of a shorter file the system kills readers.

        A file that another one replaced, or that was removed, stays as it was for who has it open.
        """
        now = _stamp(self._file)
        if now != self._stamp and now[:2] == self._stamp[:2]:
            raise ValueError(
                f"{self._file} was written to while it was in use; restore it, leave it alone and "
                "run the same command again"
            )

    def digest(self) -> str:
        """By the content of the file, which is read once for as long as it stays untouched.

        Raises:
            ValueError: Another file stands in its place, or it was written to.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        start = np.frombuffer(self._map, np.uint8).__array_interface__["data"][0]
        begin = self._map_start + self._array.__array_interface__["data"][0] - start
        facts = begin, self._array.shape, self._array.strides, self._array.dtype.str
        content = digest_file(self._file)
        if _stamp(self._file) != self._stamp:  # the mapping holds what was there before
            raise ValueError(
                f"{self._file} was replaced, or written to, after it was opened; open it again"
            )
        return digest_tensors({f"{content} {facts}": torch.empty(0)})


class MappedStore(FileRows):
    """Images or features in a file.

    Args:
        array: See `FileRows`. Features (N, D) of any numbers; images (N, H, W),
            (N, H, W, channels) or (N, channels, H, W) as uint8 or floats. float16, float32 and
            images of uint8 are read as they are, all other numbers as float32.
        name: What to call the file in errors.
        window: Those of its samples that the store has.

    Raises:
        ValueError: The array is empty, or of no such shape or type.
    """

    def __init__(self, array: Mapped, name: str, window: slice = slice(None)) -> None:
        if array.size == 0:
            raise ValueError(f"{name!r} of shape {array.shape} is empty; save at least one sample")
        if array.dtype.kind not in "iufb":
            raise ValueError(f"{name!r} has type {array.dtype}; save numbers, for example float32")
        check_shape(array, name)
        if array.ndim > 2 and array.dtype != np.uint8 and array.dtype.kind != "f":
            raise ValueError(
                f"{name!r} holds images of type {array.dtype}; save them as uint8 in [0, 255], or "
                "as floats in [0, 1]"
            )
        super().__init__(array, window)
        self.name = name
        as_they_are: tuple[Any, ...] = (np.float16, np.float32)
        if array.ndim != 2:
            self._array = channels_first(self._array, name)
            as_they_are += (np.uint8,)
        if self._array.dtype not in as_they_are:
            self._type = np.dtype(np.float32)

    def first_bad(self) -> int | None:
        """The first sample with a number that is not finite in float32; None where all are.

        All samples are read for it, once for as long as the file has this content.
        """
        if self._array.dtype.kind != "f":
            return None
        found: int | None = kept(repr(("first bad row", self.digest())), self._first_bad)
        return found

    def _first_bad(self) -> int | None:
        for number, block in enumerate(blocks(self, size=(size := self._at_once))):
            for rows in tensors_of(block):
                bad = ~rows.float().isfinite().flatten(1).all(1)
                if bad.any():
                    return number * size + int(bad.nonzero()[0])
        return None

    @property
    def _at_once(self) -> int:
        """Samples of about 16 MB."""
        return max(2**24 // self._array[:1].nbytes, 1)


def is_mapped(value: Any) -> TypeGuard[Mapped]:
    """Whether an array is one of a file that is opened for reading only."""
    named = isinstance(value, np.memmap) and value.mode == "r" and value.filename is not None
    return named and _mapping_of(value) is not None


def checked(store: MappedStore) -> MappedStore:
    """A store all of whose numbers are finite.

    Raises:
        ValueError: Naming the first row with one that is not.
    """
    if (bad := store.first_bad()) is not None:
        raise ValueError(
            f"{store.name} holds NaN, infinity or a number beyond float32, in row {bad} first; "
            "drop such rows, or fill the values in"
        )
    return store


def open_mapped(path: str, setting: str) -> Mapped:
    """Open an array of a file without reading it.

    Args:
        path: An ``.npy`` file.
        setting: Names the path, in errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else than an array.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{setting}={path}: there is no such file; save it with numpy.save")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's header parser raises of many kinds
        raise ValueError(
            f"{path} cannot be read ({error}); save it again with numpy.save, as an .npy file"
        ) from error
    if not isinstance(array, np.memmap):  # an .npz archive
        array.close()
        raise ValueError(f"{path} is an archive of arrays; save the array alone with numpy.save")
    return array


def _stamp(path: str) -> tuple[int, ...]:
    """Which file stands at a path, size and time of its content; empty where there is none."""
    try:
        facts = Path(path).stat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _mapping_of(array: Array) -> Any:
    """The mapping of a file that an array is a part of; None where it is of none."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
