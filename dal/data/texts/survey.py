"""What is odd about texts and easily overlooked, said in a line each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from dal.data.source import is_known

log = logging.getLogger(__name__)


def say_what_is_odd(
    path: str, texts: Mapping[str, Sequence[str]], targets: Mapping[str, Tensor]
) -> None:
    """Warn of texts that are empty, that stand there twice, or that are trained and tested on.

    Blanks around a text make no other text of it. Rows are counted from 1.

    Args:
        path: Names the data.
        texts: Of each part, ``train`` among them.
        targets: Of each part.
    """
    for part, own in texts.items():
        empty = [row for row, text in enumerate(own, 1) if not text.strip()]
        if empty:
            log.warning(
                "%s: %d of %d %s texts are empty, the first in row %d; nothing can be learned "
                "from them, and people may be asked about them: take them out",
                path,
                len(empty),
                len(own),
                part,
                empty[0],
            )
    first: dict[str, int] = {}
    again = list(_repeated(texts["train"], first))
    if again:
        log.warning(
            "%s: %d of %d train texts stand there before, the first in the rows %d and %d; each "
            "is a candidate of its own",
            path,
            len(again),
            len(texts["train"]),
            again[0][0] + 1,
            again[0][1] + 1,
        )
        _say_contradictions(path, again, targets["train"])
    for part, own in texts.items():
        seen = [(row, first[t]) for row, text in enumerate(own) if (t := text.strip()) in first]
        if part != "train" and seen:
            log.warning(
                "%s: %d of %d %s texts are train texts too, the first is row %d, which is train "
                "row %d; results on them are too good: take them out of one of the two",
                path,
                len(seen),
                len(own),
                part,
                seen[0][0] + 1,
                seen[0][1] + 1,
            )


def _repeated(texts: Sequence[str], first: dict[str, int]) -> Iterator[tuple[int, int]]:
    """For each text that stands there before that row and its own; ``first`` gets the rows."""
    for row, text in enumerate(map(str.strip, texts)):
        if text and (before := first.setdefault(text, row)) != row:
            yield before, row


def _say_contradictions(path: str, again: Sequence[tuple[int, int]], targets: Tensor) -> None:
    """Warn of equal texts with labels that differ."""
    one, other = (targets[torch.tensor(rows)] for rows in zip(*again, strict=True))
    differs = (one != other) if one.ndim == 1 else (one != other).any(1)
    where = (differs & is_known(one) & is_known(other)).nonzero().flatten().tolist()
    if where:
        before, row = again[where[0]]
        log.warning(
            "%s: %d of these texts have other labels than before, the first in the rows %d and "
            "%d; where that is a mistake, mend it",
            path,
            len(where),
            before + 1,
            row + 1,
        )
