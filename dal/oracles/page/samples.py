"""What the page shows of a sample: pixels of its own making, a text, or the cells of a row."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from dal.data.source import Source, is_known
from dal.recording.figures import image_grid

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT_BYTES = 2**26
"""Encoded pictures that are kept for the next time they are asked for, at most."""
LARGEST = 2000
"""Longest side of a picture in pixels, at most."""
CELLS = 100
"""Numbers of a sample without words that are shown, at most."""
Kind = Literal["image", "text", "table", "path"]


class BusyError(RuntimeError):
    """The data are being learned from; they are shown again with the next question."""


class Samples:
    """Shows samples of a source, only while the run itself does not read them.

    Whoever runs the source holds `lock` but for the time in which it waits for people.

    Args:
        source: The data.
    """

    def __init__(self, source: Source) -> None:
        self.lock = threading.RLock()
        self._source = source
        self._known = is_known(source.train.targets)
        self._encoded: OrderedDict[int, tuple[bytes, str]] = OrderedDict()

    def _borrow(self, seconds: float = 5.0) -> None:
        if not self.lock.acquire(timeout=seconds):
            raise BusyError("the run is at work; ask again with the next question")

    def describe(self, index: int) -> dict[str, Any]:
        """What a training sample is, but for its pixels: see ``GET /api/sample/ID``.

        Raises:
            BusyError: The run reads the data just now.
        """
        self._borrow()
        try:
            shown = self._source.train.show(index)
            content = self._source.content(index)
        finally:
            self.lock.release()
        if isinstance(shown, Tensor) and shown.ndim == 3:
            return _described("image", title=self._title(index, content))
        if isinstance(shown, str):
            return _described("text", text=shown)
        cells = self._cells(content)
        if cells:
            return _described("table", columns=cells)
        if content:
            return _described("text", text=content)
        return _described("table", columns=_numbers(shown))

    def _title(self, index: int, content: str) -> str | None:
        """A picture's file; of one whose label is known, without folders that may tell it."""
        if bool(self._known[index]):
            content = content.replace("\\", "/").rpartition("/")[2]
        return content or None

    def _cells(self, content: str) -> list[list[str]]:
        """The cells of a row whose text names the columns; none where the text is something else.

        A table's own columns say where a cell ends, whatever stands in it.
        """
        columns = (self._source.recipe or {}).get("columns", ())
        names = [str(column["name"]) for column in columns]
        return cells_of(content, names) if names else []

    def image(self, index: int) -> tuple[bytes, str]:
        """The pixels of a training sample, encoded anew, and their media type.

        Raises:
            BusyError: The run reads the data just now.
            LookupError: The sample is no picture.
        """
        self._borrow()
        try:
            if index not in self._encoded:
                self._encoded[index] = _encoded(self._pixels(index))
                while sum(len(data) for data, _ in self._encoded.values()) > KEPT_BYTES:
                    self._encoded.popitem(last=False)
            self._encoded.move_to_end(index)
            return self._encoded[index]
        finally:
            self.lock.release()

    def _pixels(self, index: int) -> Image:
        from PIL import Image

        shown = self._source.train.image(index)
        if shown is None:
            raise LookupError("this sample is no picture")
        shown = shown[:3] if shown.shape[0] == 4 else shown
        side = min(max(shown.shape[-2:]), LARGEST)
        pixels = image_grid(shown[None], columns=1, side=side, padding=0)
        return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def cells_of(text: str, names: list[str]) -> list[list[str]]:
    """The cells of a text such as ``color=red, size=3``, by the names of its columns.

    Args:
        text: A row as `dal.data.table` writes it for people.
        names: Columns that may stand in it, in any order; others belong to the cell before.

    Returns:
        Names and cells in the order of the text; empty where it does not begin with a column.
    """
    found: list[tuple[int, str]] = []
    for name in names:
        shown = " ".join(name.split())
        start = 0 if text.startswith(f"{shown}=") else text.find(f", {shown}=")
        if start >= 0:
            found.append((start, shown))
    found.sort()
    if not found or found[0][0] != 0:
        return []
    ends = [start for start, _ in found[1:]] + [len(text)]
    cells = []
    for (start, name), end in zip(found, ends, strict=True):
        begin = start + len(name) + 1 + (2 if start else 0)
        cells.append([name, text[begin:end]])
    return cells


def _described(
    kind: Kind,
    title: str | None = None,
    text: str | None = None,
    columns: list[list[str]] | None = None,
) -> dict[str, Any]:
    return {"kind": kind, "title": title, "text": text, "columns": columns}


def _numbers(shown: Any) -> list[list[str]]:
    """The numbers of a sample for which there are no words."""
    named = shown if isinstance(shown, Mapping) else {"": shown}
    cells = []
    for name, value in named.items():
        for place, number in enumerate(value.flatten()[:CELLS].tolist()):
            cells.append([f"{name} {place}".strip(), f"{number:.6g}"])
    return cells[:CELLS]


def _encoded(image: Image) -> tuple[bytes, str]:
    """PNG, which keeps every pixel; JPEG of large ones in color, which PNG makes slow."""
    large = image.mode == "RGB" and image.width * image.height > 400_000
    buffer = io.BytesIO()
    if large:
        image.save(buffer, "JPEG", quality=90)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), "image/jpeg" if large else "image/png"
