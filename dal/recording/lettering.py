"""Names and texts of people in figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def as_written(figure: Figure) -> Iterator[None]:
    """Have a figure drawn with all letters as they are: dollars begin no formula.

    Letters that the font lacks are boxes, without a warning.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
    with warnings.catch_warnings():
        for fact in ("Glyph .* missing", "Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", fact, UserWarning)
        yield
