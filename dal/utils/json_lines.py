"""Lists that only grow, as JSON lines of which each is made once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


class JsonLines:
    """The text of a list that grows from call to call.

    A run writes its metrics three times a round; made anew each time, the text of all rounds before
    would cost more than a round of a small model.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def text(self, items: Sequence[Any]) -> str:
        """One line an item.

        Args:
            items: Those of the call before, unchanged, and more behind them.
        """
        del self._lines[len(items) :]
        self._lines += [json.dumps(item) + "\n" for item in items[len(self._lines) :]]
        return "".join(self._lines)


def parse_json_lines(text: str) -> list[Any]:
    """The items of `JsonLines.text`; a tuple comes back as a list."""
    return [json.loads(line) for line in text.splitlines()]
