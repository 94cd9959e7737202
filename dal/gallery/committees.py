"""A committee in the plane: what its members say, and where they disagree."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dal.learners import RoundContext
from dal.query import Members
from dal.query.bayesian import bald
from dal.recording.figures import to_pixels
from dal.recording.palette import COLORS
from dal.recording.plane import (
    SIDE,
    Frame,
    Pixels,
    Window,
    boundaries,
    colored,
    dots,
    greys,
    legend,
    model_tile,
    panels,
    png,
    side_by_side,
    tile,
)
from dal.runs.looking import frame_of, scan_points
from dal.runs.loop import Result

MOST_LINES = 6
"""So many members have a line of their own, each with its color; black is the boundary of all."""


def members_picture(result: Result, folder: Path) -> list[tuple[str, bytes, str]]:
    """The committee of the last round: the model, its members' boundaries, their disagreement.

    Args:
        result: A run in the plane with a committee.
        folder: Its directory.

    Returns:
        Name, content and caption of one picture.
    """
    job, rounds = result.job, result.job.recorder.plane
    if rounds is None:
        raise ValueError(f"{folder.name} is no run in the plane with figures; choose data=moons")
    frame, labels = frame_of(job, rounds.window), job.pool.train_set().answers()
    grid, context = rounds.window.grid(), RoundContext(job.state.round)
    view = scan_points(job.learner, grid, frozenset({Members()}), context, labels)
    members = view[Members()].float().cpu().view(-1, SIDE, SIDE, job.source.num_classes)
    tiles = [
        model_tile(frame, rounds.window, rounds.points),
        lines_tile(members, rounds.window, rounds.points),
        doubt_tile(members, frame, rounds.window, rounds.points),
    ]
    below = legend(job.source.class_names, 900, picks=False)
    shown = min(len(members), MOST_LINES)
    caption = f"The model, the boundaries of {shown} of its {len(members)} members, and BALD."
    return [("committee.png", png(panels([[side_by_side(tiles)]], below)), caption)]


def lines_tile(members_KSSC: Tensor, window: Window, points: Tensor) -> Pixels:
    """The boundary of each of some members, in colors of their own."""
    figure, axes = tile(f"boundaries of {min(len(members_KSSC), MOST_LINES)} members", window)
    dots(axes, points)
    for probs, color in zip(members_KSSC, COLORS[:MOST_LINES], strict=False):
        boundaries(axes, probs, window, colors=color, linewidths=1.2)
    return to_pixels(figure)


def doubt_tile(members_KSSC: Tensor, frame: Frame, window: Window, points: Tensor) -> Pixels:
    """BALD as a field, with the boundary of the model."""
    count, side, _, classes = members_KSSC.shape
    field = bald(members_KSSC.reshape(count, side * side, classes)).view(side, side)
    figure, axes = tile("BALD: where they disagree", window)
    colored(axes, greys(field), window)
    boundaries(axes, frame.probs, window, linewidths=0.9, linestyles="dashed")
    dots(axes, points)
    return to_pixels(figure)
