"""Every strategy on one sheet: the same pool, model and labels, and what each picks of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dal.data.initial import initial_labels
from dal.data.source import Source
from dal.data.splits import make_source
from dal.data.synthetic import moons
from dal.learners import Dropout, Learner, RoundContext, make_learner
from dal.models.estimators import svm
from dal.models.mlp import MLP
from dal.query import Decision, Probs, Query, ScoreStrategy, Strategy
from dal.query.needs import Need
from dal.query.selection import random_keys
from dal.recording.plane import (
    SIDE,
    TILE,
    Frame,
    Pixels,
    Window,
    legend,
    of_nearest,
    panels,
    score_tile,
)
from dal.runs.looking import is_field, scan_points
from dal.runs.parts import Parts, Standing
from dal.settings import Settings
from dal.training.trainer import Trainer
from dal.utils.build import build
from dal.utils.numerics import own_threads
from dal.utils.seeding import generator

SAMPLES, ROUNDS, FIRST, MORE, PICKS = 300, 3, 8, 4, 8
"""Moons; models one after the other; labels of the first; more of each; what is picked then."""
ACROSS = 8
"""So many strategies stand in a row, so that all of them fit on a printed page."""
_WORDS, _LINE, _LETTERS, _SIZE = 166, 25, 27, 19


@dataclass(frozen=True)
class Chosen:
    """What a strategy picks on the sheet.

    Attributes:
        name: Its option.
        query: The picks.
        tile: Its picture.
    """

    name: str
    query: Query
    tile: Pixels


@dataclass(frozen=True)
class Scene:
    """A pool in the plane with a network that was fitted round by round, and the rounds before.

    Attributes:
        source: Moons.
        learner: The network, fitted on the labels of the last round.
        standing: The labels, and what earlier networks predicted.
    """

    source: Source
    learner: Learner
    standing: Standing

    @classmethod
    def made(cls, seed: int = 0) -> Scene:
        """Fit `ROUNDS` networks, each on a few more labels at random."""
        source = make_source(moons(SAMPLES, noise=0.2, seed=seed), seed=seed)
        learner = _learner(source, lambda shape, classes: MLP(shape, classes, [32], 0.2), seed)
        initial = initial_labels(source.train.targets, seed=seed, count=FIRST)
        parts = Parts(source, learner, build({"_target_": "dal.query.Random"}), initial)
        standing = Standing.at_start(parts, parts.history(keep=None))
        for number in range(ROUNDS):
            context, labels = RoundContext(number), standing.pool.train_set()
            learner.fit(labels, context)
            candidates = standing.candidates
            view = learner.scan(candidates, frozenset({Probs()}), context, labels)
            standing.history.append(number, candidates, view[Probs()])
            if number < ROUNDS - 1:
                keys = random_keys(len(source.train), generator(seed, number, "gallery"))
                drawn = candidates[keys[candidates].argsort()[:MORE]]
                targets = source.train.targets[drawn]
                standing.pool.label(number, drawn, targets, origin="oracle")
        return cls(source, learner, standing)

    def with_machine(self, seed: int = 0) -> Scene:
        """The same labels with a support vector machine in the place of the network."""
        learner = _learner(self.source, svm, seed)
        learner.fit(self.standing.pool.train_set(), RoundContext(ROUNDS - 1))
        return replace(self, learner=learner)

    def chosen(self, name: str, strategy: Strategy, seed: int = 0) -> Chosen:
        """What a strategy picks.

        Raises:
            TypeError: It does not go with these data, or with this model.
        """
        standing, context = self.standing, RoundContext(ROUNDS - 1)
        parts = Parts(self.source, self.learner, strategy, torch.empty(0).long(), Dropout(20))
        labels, candidates = standing.pool.train_set(), standing.candidates
        needs = parts.asked_of_learner(strategy) | {Probs()}
        view = self.learner.scan(candidates, needs, context, labels)
        view = standing.with_history(view, parts.from_history(strategy))
        view = standing.with_labels(view, strategy.needs)
        query = strategy.select(view, PICKS, generator(seed, ROUNDS - 1, "query"))
        points = self._points(torch.arange(len(self.source.train)))
        window = Window.around(points)
        frame = self._frame(name, strategy, query, candidates, window)
        return Chosen(name, query, score_tile(frame, window, points, 9))

    def _frame(
        self, name: str, strategy: Strategy, query: Query, candidates: Tensor, window: Window
    ) -> Frame:
        labels, grid = self.standing.pool.train_set(), window.grid()
        field = is_field(strategy)
        needs = strategy.needs if field else frozenset[Need]()
        view = scan_points(self.learner, grid, needs, RoundContext(ROUNDS - 1), labels)
        scores = None
        if field and isinstance(strategy, ScoreStrategy):
            scores = strategy.score(view)
        elif query.pool_scores is not None:
            scores = of_nearest(grid, self._points(candidates), query.pool_scores.float().cpu())
        picked = query.indices if query.again is None else torch.cat([query.indices, query.again])
        return Frame(
            ROUNDS - 1,
            "",
            view[Probs()].view(SIDE, SIDE, -1),
            self._points(labels.indices),
            labels.targets,
            self._points(picked),
            None if scores is None else scores.float().view(SIDE, SIDE),
            name,
        )

    def _points(self, indices: Tensor) -> Tensor:
        raw = self.source.train.raw(indices)
        assert isinstance(raw, Tensor)
        return raw


def choices_of_all(
    options: Mapping[str, Mapping[str, Any]], plugins: Sequence[str] = ()
) -> tuple[list[Chosen], dict[str, str]]:
    """What every strategy picks of the same pool.

    Args:
        options: Settings of each strategy, by its name.
        plugins: Packages besides ``dal`` that they may name.

    Returns:
        Their picks, and why some cannot choose here, by name.
    """
    found, left_out = list[Chosen](), dict[str, str]()
    with own_threads():
        scene = Scene.made()
        machine = scene.with_machine()
        for name, settings in sorted(options.items()):
            strategy = build(settings, "strategy", allow=tuple(plugins))
            place = machine if Decision() in strategy.needs else scene
            try:
                found.append(place.chosen(name, strategy))
            except TypeError as error:
                left_out[name] = str(error)
    return found, left_out


def sheet(tiles: Sequence[Pixels], sentences: Sequence[str], names: Sequence[str]) -> Pixels:
    """Tiles beside and below each other, each with a sentence, and what the marks mean."""
    spoken = [[np.concatenate([t, words(s)])] for t, s in zip(tiles, sentences, strict=True)]
    return panels(spoken, legend(names, 1500), ACROSS)


def words(sentence: str, width: int = TILE) -> Pixels:
    """A sentence in lines, of a height that holds six of them; what is longer is cut."""
    lines = textwrap.wrap(sentence, _LETTERS, max_lines=_WORDS // _LINE, placeholder=" …")
    strip = Image.new("RGB", (width, _WORDS), "white")
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((8, 2 + number * _LINE), line, fill="black", font=_font())
    return np.asarray(strip, dtype=np.uint8)


def _learner(source: Source, model: Any, seed: int) -> Learner:
    return make_learner(
        model,
        Trainer(epochs=60),
        source,
        source.task,
        Dropout(20),
        seed=Settings(seed=seed).seed,
        device=torch.device("cpu"),
    )


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), _SIZE)
