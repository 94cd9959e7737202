"""What the page shows of a sample: pixels of its own making, a text, or the cells of a row."""

from __future__ import annotations

import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from dal.data.images.decode import UnreadableError, whole
from dal.data.rows import cells_of
from dal.data.source import Source, is_known
from dal.data.store import Store
from dal.recording.figures import image_grid
from dal.utils.inputs import Inputs

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

KEPT_BYTES = 2**26
"""Encoded pictures that are kept for the next time they are asked for, at most."""
LARGEST = 2000
"""Longest side of a picture in pixels, at most."""
CELLS = 100
"""Numbers of a sample without words that are shown, at most."""
PATIENCE = 5.0
"""Seconds after which a page that waits for a sample is told that the run is at work."""
Kind = Literal["image", "text", "table", "path"]


class BusyError(RuntimeError):
    """The data are being learned from; they are shown again with the next question."""


class UnseenError(Exception):
    """A sample cannot be shown; the text says why, and what to do."""


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

    def _borrow(self, seconds: float = PATIENCE) -> None:
        if not self.lock.acquire(timeout=seconds):
            raise BusyError("the run is at work; ask again with the next question")

    def describe(self, index: int) -> dict[str, Any]:
        """What a training sample is, but for its pixels: see ``GET /api/sample/ID``.

        Raises:
            BusyError: The run reads the data just now.
        """
        self._borrow()
        try:
            store, row = self._source.place(index)
            shown, content = _show(store, row), self._source.content(index)
            row_of_table = cells_of(self._source, index)
        finally:
            self.lock.release()
        if isinstance(shown, Tensor) and shown.ndim == 3:
            return _described("image", title=self._title(index, content))
        if isinstance(shown, str):
            # Contents of texts with names are "name: text".
            title = content.removesuffix(shown).removesuffix(": ")
            return _described("text", title=title or None, text=shown)
        if row_of_table is not None:
            title, cells = row_of_table
            return _described("table", title=title or None, columns=list(cells.items()))
        if content:
            return _described("text", text=content)
        return _described("table", columns=_numbers(shown))

    def _title(self, index: int, content: str) -> str | None:
        """A picture's file; of one whose label is known, without folders that may tell it."""
        if index < len(self._known) and bool(self._known[index]):
            content = content.replace("\\", "/").rpartition("/")[2]
        return content or None

    def image(self, index: int, seconds: float = PATIENCE) -> tuple[bytes, str]:
        """The pixels of a training sample, encoded anew, and their media type.

        Args:
            index: Which.
            seconds: To wait for the run, at most.

        Raises:
            BusyError: The run reads the data just now.
            UnseenError: The sample is no picture, or its file is gone.
        """
        self._borrow(seconds)
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

        store, row = self._source.place(index)
        if (content := store.original(row)) is not None:
            try:
                return whole(content, LARGEST)
            except (UnreadableError, MemoryError) as error:
                log.debug("a picture is shown as the model sees it: %s", error)
        shown = _show(store, row)
        if not isinstance(shown, Tensor) or shown.ndim != 3:
            raise UnseenError("this sample is no picture; its text or row says what it is")
        shown = shown[:3] if shown.shape[0] == 4 else shown
        side = min(max(shown.shape[-2:]), LARGEST)
        pixels = image_grid(shown[None], columns=1, side=side, padding=0)
        return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def _show(store: Store, row: int) -> Inputs | str:
    try:
        return store.show(row)
    except ValueError as error:  # its file is gone, or is another one now
        raise UnseenError(str(error)) from error


def _described(
    kind: Kind,
    title: str | None = None,
    text: str | None = None,
    columns: list[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    return {"kind": kind, "title": title, "text": text, "columns": columns}


def _numbers(shown: Any) -> list[tuple[str, str]]:
    """The numbers of a sample for which there are no words."""
    named = shown if isinstance(shown, Mapping) else {"": shown}
    found: list[tuple[str, str]] = []
    for name, value in named.items():
        for place, number in enumerate(value.flatten()[:CELLS].tolist()):
            found.append((f"{name} {place}".strip(), f"{number:.6g}"))
    return found[:CELLS]


def _encoded(image: Image) -> tuple[bytes, str]:
    """PNG, which keeps every pixel; JPEG of large ones in color, which PNG makes slow."""
    large = image.mode == "RGB" and image.width * image.height > 400_000
    buffer = io.BytesIO()
    if large:
        image.save(buffer, "JPEG", quality=90)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), "image/jpeg" if large else "image/png"
