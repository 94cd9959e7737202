"""The plane round by round: frames of some rounds on the disk, ``plane.png`` and ``plane.gif``."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dal.checkpoint import load, save
from dal.data.source import Source
from dal.recording.plane import (
    MOST_CLASSES,
    Frame,
    Pixels,
    Window,
    gif,
    legend,
    model_tile,
    panels,
    png,
    score_tile,
    side_by_side,
)
from dal.utils.safe_files import DamagedError, write_atomically

log = logging.getLogger(__name__)

MOST_ROUNDS = 12
"""Of so many rounds at most, and the last, frames are kept."""


def in_the_plane(source: Source) -> bool:
    """Whether samples are points of the plane, with one of few classes each."""
    spec, train = source.train.store.spec, source.train
    if spec != (2,) or not source.task.exclusive or source.vocab_size is not None or not len(train):
        return False
    first = train.store.first
    if not (isinstance(first, Tensor) and first.is_floating_point()):
        return False
    if source.num_classes > MOST_CLASSES:
        log.warning(
            "no pictures of the plane: %s has %d classes, and pictures show up to %d",
            source.name,
            source.num_classes,
            MOST_CLASSES,
        )
        return False
    return True


class RoundsInPlane:
    """Keeps frames of rounds that are spread over the run, and draws them beside each other.

    Of many rounds every second, then every fourth is kept, and so on. Each is a file of some 30 kB,
    so that a resumed run draws those before it as well.

    Args:
        folder: Where the frames go: ``<run>/plane``.
        source: The data, see `in_the_plane`.
        begun: The round that a run goes on with; frames from it on are made anew.
    """

    def __init__(self, folder: Path, source: Source, begun: int = 0) -> None:
        self.folder, self._names = folder, source.class_names
        points = source.train.raw(torch.arange(len(source.train)))
        assert isinstance(points, Tensor)
        self.points = points.float()
        self.window = Window.around(self.points)
        self._frames: dict[int, Frame] = {}
        self._drawn: dict[int, list[Pixels]] = {}
        for path in sorted(folder.glob("round_*.pt")):
            frame = _read(path)
            if frame is None or frame.round >= begun:
                path.unlink()
            else:
                self._frames[frame.round] = frame

    def wants(self, round_number: int) -> bool:
        """Whether a round is one of those that are kept."""
        return round_number % _step(round_number) == 0

    def add(self, frame: Frame) -> None:
        """Keep the frame of a round, and forget those that stand too close to each other now.

        Raises:
            OSError: The frame cannot be written.
        """
        half = frame.probs.half()
        self._frames[frame.round] = replace(frame, probs=half.float())  # as it will be read
        self._drawn.pop(frame.round, None)
        self.folder.mkdir(exist_ok=True)
        save(self._path(frame.round), vars(frame) | {"probs": half})
        step = _step(frame.round)
        for number in [n for n in self._frames if n % step and n != frame.round]:
            del self._frames[number]
            self._drawn.pop(number, None)
            self._path(number).unlink(missing_ok=True)

    def draw(self) -> Pixels | None:
        """All rounds that are kept, as panels; None before the first."""
        if not self._frames:
            return None
        rounds = [self._tiles(number) for number in sorted(self._frames)]
        return panels(rounds, legend(self._names, 1200, **self._shown))

    def write(self, folder: Path) -> Pixels | None:
        """Write ``plane.png`` and, of several rounds, ``plane.gif``; gives the panels.

        Raises:
            OSError: A file cannot be written.
        """
        drawn = self.draw()
        if drawn is None:
            return None
        files = {"plane.png": png(drawn)}
        if len(self._frames) > 1:
            pairs = [side_by_side(self._tiles(n)) for n in sorted(self._frames)]
            strip = legend(self._names, 600, **self._shown)
            files["plane.gif"] = gif([panels([[pair]], strip) for pair in pairs])
        for name, content in files.items():
            write_atomically(folder / name, lambda f, c=content: f.write(c), sync=False)  # type: ignore[misc]
        return drawn

    @property
    def _scored(self) -> bool:
        """Whether there is a field of scores in any round."""
        return any(frame.scores is not None for frame in self._frames.values())

    @property
    def _shown(self) -> dict[str, bool]:
        """What the legend has to explain."""
        guesses = any(len(frame.guesses) for frame in self._frames.values())
        return {"scores": self._scored, "guesses": guesses}

    def _tiles(self, number: int) -> list[Pixels]:
        """Those of a round, drawn once."""
        frame, drawn = self._frames[number], self._drawn.setdefault(number, [])
        if not drawn:
            drawn.append(model_tile(frame, self.window, self.points))
        if self._scored and len(drawn) == 1:
            drawn.append(score_tile(frame, self.window, self.points))
        return drawn

    def _path(self, number: int) -> Path:
        return self.folder / f"round_{number:04d}.pt"


def _step(round_number: int) -> int:
    """The smallest power of two of which there are few multiples up to a round."""
    step = 1
    while round_number // step >= MOST_ROUNDS:
        step *= 2
    return step


def _read(path: Path) -> Frame | None:
    """A frame; None, which is said, where its file is damaged: a picture is done without."""
    try:
        saved = load(path)
        frame = Frame(**saved)
        return replace(frame, probs=frame.probs.float())
    except (DamagedError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s; plane.png goes without this round", error)
        return None
