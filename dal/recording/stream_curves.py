"""Curves of a run on a stream over the samples that have arrived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.recording.figures import learning_curve

if TYPE_CHECKING:
    from dal.state import State

OVER_SEEN, CURVE = "6_stream_over_seen", "curve_over_seen.png"
SEEN, ARRIVED, MADE = "stream/seen", "stream/arrived", "synthesis/made"


def seen_so_far(state: State) -> int:
    """How many samples had arrived when the model of the round in progress was fitted, or will be.

    Points of TensorBoard from there on are written again where a run goes on.
    """
    before: Mapping[str, Any] = state.rows[-1] if state.rows else {}
    seen = state.row.get(SEEN, before.get(SEEN, 0) + before.get(ARRIVED, 0))
    return int(seen)


def tags_over_seen(row: Mapping[str, Any], headline: str) -> dict[str, float]:
    """What TensorBoard shows of a round over the samples seen, by tag; nothing without a stream."""
    if SEEN not in row:
        return {}
    shown = (f"test/{headline}", "labels", "stream/accuracy", "stream/spent")
    return {f"{OVER_SEEN}/{name.replace('/', '_')}": row[name] for name in shown if name in row}


def standing(row: Mapping[str, Any], unlabeled: int) -> str:
    """What is left to ask about, has been seen, or was made, in the words of a round's line."""
    if MADE in row:
        return f"{row[MADE]} made"
    return f"{row[SEEN]} have arrived" if SEEN in row else f"{unlabeled} in the pool"


def draw_over_seen(folder: Path, state: State, metric: str, column: str) -> None:
    """Draw the learning curve over samples seen, ``curve_over_seen.png``; not without a stream.

    Args:
        folder: The run directory.
        state: Where the run stands.
        metric: The metric in words.
        column: Its full name.

    Raises:
        OSError: The file cannot be written.
    """
    rows = [row for row in state.all_rows if SEEN in row and column in row]
    if rows:
        learning_curve(
            [row[SEEN] for row in rows],
            [row[column] for row in rows],
            title=folder.name,
            metric=metric,
            part="Validation" if column.startswith("val/") else "Test",
            path=folder / CURVE,
            over="Samples that have arrived",
        )
