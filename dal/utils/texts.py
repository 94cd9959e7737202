"""Many short texts, kept in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload


class Texts(Sequence[str]):
    """Texts behind each other in one piece of memory: a string of Python takes 50 bytes more.

    Args:
        texts: The first ones.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])
        self.extend(texts)

    def extend(self, texts: Iterable[str]) -> None:
        """Put some more behind them."""
        for text in texts:
            self._bytes += text.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        content = self._bytes[self._ends[place] : self._ends[place + 1]]
        return content.decode("utf-8", "surrogatepass")
