"""Query synthesis: the samples that are asked about are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from dal.data.made import MadeSplit, with_room
from dal.data.source import Source
from dal.data.store import BLOCK
from dal.query import Features, PoolView, Query
from dal.query.base import ScoreStrategy, check_finite
from dal.query.selection import random_keys
from dal.runs.auditing import blocks_due
from dal.runs.budget import affordable
from dal.runs.choosing import pose
from dal.runs.fitting import context_of
from dal.runs.job import Job
from dal.runs.made_files import MADE, Made, MadeFiles
from dal.runs.setting import Setting
from dal.synthesis.ascent import ascend, nearest
from dal.synthesis.bisection import Chain, advanced, between, drawn_pairs
from dal.synthesis.bounds import Bounds, check_bounds, given_bounds, range_of
from dal.utils.clock import clock
from dal.utils.inputs import one_tensor
from dal.utils.numerics import pick_device
from dal.utils.ranges import check_number, check_whole
from dal.utils.ranks import current
from dal.utils.seeding import generator

log = logging.getLogger(__name__)

HOWS = ("ascent", "features", "between")


class SynthesisSetting(Setting):
    """Samples are made, and asked about like others: by gradient ascent, or between two classes.

    - ``how=ascent``: the score of the strategy is climbed in input space, from several starts.
    - ``how=features``: it is climbed in the space of the network's last features, and the nearest
      real samples are asked about: an ordinary question, of the pool.
    - ``how=between``: the middle of a pair of labeled samples of two classes is asked about, then
      that of the half which still has both; of a pair that is close, points beside its middle, at
      right angles to it. No model is asked, and no strategy.

    Args:
        how: One of these.
        bounds: ``[LOW, HIGH]`` of samples as the data hold them, numbers or lists of one for each
            feature or channel; None for the range of the training part.
        start: Where ascents begin: at samples of the ``pool`` drawn at random, or at ``noise``.
        steps: Steps of an ascent.
        rate: Length of its first step, as a share of the diagonal of the bounds.
        close: Distance below which a pair is close, as a share of the diagonal.
        reach: How far beside it points are made at most, as a share of the diagonal.

    Raises:
        ValueError: A number is out of range.

    Reference:
        D. Angluin. Queries and concept learning. Machine Learning 2, 1988. For ``between``, see
        `dal.synthesis.bisection.between`.
    """

    origin = "synthetic"

    def __init__(
        self,
        how: Literal["ascent", "features", "between"] = "ascent",
        bounds: Sequence[float] | Sequence[Sequence[float]] | None = None,
        start: Literal["pool", "noise"] = "pool",
        steps: int = 50,
        rate: float = 0.02,
        close: float = 0.05,
        reach: float = 0.5,
    ) -> None:
        if how not in HOWS:
            raise ValueError(f"setting.how={how}; give {', '.join(HOWS[:-1])} or {HOWS[-1]}")
        if start not in ("pool", "noise"):
            raise ValueError(f"setting.start={start}; give pool or noise")
        check_bounds(bounds)
        check_whole("setting.steps", steps, 1)
        for name, value in {"rate": rate, "close": close, "reach": reach}.items():
            check_number(f"setting.{name}", value, positive=True)
            if value > 1:
                raise ValueError(f"setting.{name}={value}; give a share, above 0 up to 1")
        self.how, self.bounds, self.start = how, bounds, start
        self.steps, self.rate, self.close, self.reach = steps, rate, close, reach
        if bounds is not None and how == "features":
            raise ValueError("setting.bounds are of samples; leave them out with how=features")
        self._files = MadeFiles(None)
        self._box: Bounds | None = None

    @property
    def makes(self) -> bool:
        """Whether samples are made to be asked about themselves."""
        return self.how != "features"

    def prepared(self, source: Source) -> Source:
        """See `Setting.prepared`: with room for made samples.

        Raises:
            ValueError: Nothing can be made of such samples, or what is made could not be shown.
        """
        if not self.makes:
            return source
        first = _checked_sample(source, self.how)
        if self.bounds is not None:
            self._box = given_bounds(self.bounds, first.shape, first.dtype)
        else:
            rows = torch.split(torch.arange(len(source.train)), BLOCK)
            self._box = range_of(one_tensor(source.train.raw(part), "synthesis") for part in rows)
        return with_room(source)

    def begin(self, job: Job) -> None:
        """See `Setting.begin`: refuse what cannot be made, and take back what was."""
        if self.how != "between":
            _check_gradient(job, self.how)
        if job.settings.keep_history:
            raise ValueError("keep_history=true keeps predictions of a whole pool; set it to false")
        if self.how == "between" and not job.source.task.exclusive:
            raise TypeError(
                "setting.how=between halves the way between two classes, and samples of "
                f"{job.source.name} have several labels; choose setting.how=ascent"
            )
        if not self.makes:
            return
        if reason := current().broadcast(job.oracle.why_not_made):
            raise ValueError(f"oracle={job.oracle.name} cannot answer about made samples: {reason}")
        directory = job.recorder.directory
        self._files = MadeFiles(None if directory is None else directory.path / MADE)
        self._files.take_back(job)

    def ask(self, job: Job) -> None:
        """See `Setting.ask`."""
        size = min(job.settings.query_size, affordable(job))
        blocks = blocks_due(job, size)
        with clock(job.state.row, "select_s"):
            if self.how == "features":
                query = self._by_features(job, size - len(blocks))
            else:
                query = self._made(job, size - len(blocks))
        pose(job, query, blocks)

    def columns(self, job: Job) -> dict[str, Any]:
        """See `Setting.columns`."""
        train = job.source.train
        return {"synthesis/made": train.num_made} if isinstance(train, MadeSplit) else {}

    def exhausted(self, job: Job) -> bool:
        """See `Setting.exhausted`: samples can be made for ever."""
        return not self.makes and super().exhausted(job)

    def _checked_box(self) -> Bounds:
        assert self._box is not None  # `prepared` has set it
        return self._box

    def _made(self, job: Job, size: int) -> Query:
        """New samples, written down before anybody is asked; or others, where none can be made."""
        train, state = job.source.train, job.state
        if not size:  # the question consists of labels to measure by
            return Query(torch.empty(0, dtype=torch.int64), torch.empty(0))
        assert isinstance(train, MadeSplit)
        first = len(train) + train.num_made
        made = current().broadcast(lambda: self._files.read(state.round, first, size))
        if made is None:
            rng = generator(job.settings.seed, state.round, "synthesis")
            make = self._between if self.how == "between" else self._by_ascent
            made = current().broadcast(lambda: make(job, size, rng))
            if not made.count:
                return _of_pool(job, size, rng)
        indices = train.add(made.inputs)
        if made.scores is None:
            made = replace(made, scores=self._scores(job, indices))
            if current().is_main:
                self._files.write(state.round, first, made)
        if made.chains is not None:
            state.setting = {"chains": [list(chain) for chain in made.chains]}
        assert made.scores is not None
        return Query(indices, made.scores, dict(made.info))

    def _scores(self, job: Job, indices: Tensor) -> Tensor:
        """Those of made samples as they are kept; NaN where no strategy is asked."""
        if self.how == "between" or not len(indices):
            return torch.full((len(indices),), torch.nan)
        strategy = _score_of(job)
        view = job.learner.scan(indices, strategy.needs, context_of(job))
        scores = strategy.score(view).detach().double().cpu()
        check_finite(scores, indices, type(strategy).__name__)
        return scores

    def _by_ascent(self, job: Job, size: int, rng: torch.Generator) -> Made:
        box, train = self._checked_box(), job.source.train
        if self.start == "noise":
            shape = train.raw(torch.zeros(1, dtype=torch.int64))
            assert isinstance(shape, Tensor)
            start = torch.rand((size, *shape.shape[1:]), generator=rng)
        else:
            candidates = job.candidates if len(job.candidates) else torch.arange(len(train))
            real = train.raw(_drawn(candidates, size, len(train), rng))
            assert isinstance(real, Tensor)
            start = box.units(real).float()
        score = _score_function(job, "inputs")

        def of_units(units: Tensor) -> Tensor:
            inputs = train.prepare(box.floats(units))
            assert isinstance(inputs, Tensor)
            return score(inputs)

        start = start.to(_device(job))
        best = ascend(of_units, start, self.steps, self.rate, context_of(job).check)
        with torch.no_grad():
            gain = of_units(best).double().mean() - of_units(start).double().mean()
        return Made(box.raw(best), info={"gain": float(gain)})

    def _between(self, job: Job, size: int, rng: torch.Generator) -> Made:
        box, train = self._checked_box(), job.source.train
        labeled = job.pool.train_set()
        labels = dict(zip(labeled.indices.tolist(), labeled.targets.tolist(), strict=True))
        chains: list[Chain] = advanced(job.state.setting.get("chains", []), labels)[:size]
        chains += drawn_pairs(labels, size - len(chains), rng)
        if not chains:
            return Made(torch.empty(0))
        ends = torch.tensor(chains)
        a, b = (train.raw(ends[:, side]) for side in (0, 1))
        assert isinstance(a, Tensor)
        assert isinstance(b, Tensor)
        points, beside = between(box.units(a), box.units(b), self.close, self.reach, rng)
        assert isinstance(train, MadeSplit)
        first = len(train) + train.num_made
        asked = [[x, y, first + place] for place, (x, y, _) in enumerate(chains)]
        return Made(box.raw(points), info={"beside": int(beside.sum())}, chains=asked)

    def _by_features(self, job: Job, size: int) -> Query:
        """The real samples that are nearest to points of high scores among the features."""
        strategy, candidates = _score_of(job), job.candidates
        size = min(size, len(candidates))
        view = job.learner.scan(candidates, strategy.needs | {Features()}, context_of(job))
        rng = generator(job.settings.seed, job.state.round, "synthesis")
        places = _drawn(torch.arange(len(view)), size, len(view), rng)
        features = view[Features()].float()
        box = range_of([features.cpu()])
        start = box.units(features[places].cpu()).float().to(features.device)
        score = _score_function(job, "features")
        best = ascend(
            lambda u: score(box.floats(u)), start, self.steps, self.rate, context_of(job).check
        )
        found = nearest(box.floats(best), features).cpu()
        scores = strategy.score(view).detach().double().cpu()
        check_finite(scores, view.indices, type(strategy).__name__)
        return Query(view.indices[found].cpu(), scores[found], pool_scores=scores.float())


def _checked_sample(source: Source, how: str) -> Tensor:
    """The first sample, as one of many that can be made.

    Raises:
        ValueError: They cannot; says why.
    """
    reason, first = "", source.train.store.first
    if not isinstance(first, Tensor) or source.vocab_size is not None:
        reason = "are numbers of tokens or terms, between which there is nothing"
    elif not (first.is_floating_point() or first.dtype == torch.uint8):
        reason = f"are whole numbers ({first.dtype}), between which there is nothing"
    elif source.shown is not None:
        reason = "are features of others, which nobody could show"
    elif isinstance(source.show(0), str):
        reason = "are texts to people, whom made features tell nothing"
    elif source.appended:
        reason = "have become more since the run began, and made ones are numbered behind them"
    if reason:
        raise ValueError(
            f"setting.how={how} makes samples, and those of {source.name} {reason}; choose "
            "setting.how=features, or setting=pool"
        )
    assert isinstance(first, Tensor)
    return first[0]


def _check_gradient(job: Job, how: str) -> None:
    """Refuse a strategy and a model that no ascent can climb, before the first fit.

    Raises:
        TypeError: Naming both.
    """
    strategy, remedy = job.parts.strategy, "choose strategy=entropy or margin and model=mlp"
    name = type(strategy).__name__
    remedy += ", or setting.how=between" if how == "ascent" else ", or setting=pool"
    if not isinstance(strategy, ScoreStrategy):
        raise TypeError(f"setting.how={how} climbs a score, and {name} gives none; {remedy}")
    if not strategy.independent or job.parts.from_history(strategy):
        raise TypeError(
            f"setting.how={how} climbs the score of a sample that nobody has seen, and {name} "
            f"compares candidates or earlier rounds; {remedy}"
        )
    few = job.source.train.raw(torch.arange(2))
    if not isinstance(few, Tensor) or job.source.vocab_size is not None:
        raise ValueError(
            f"setting.how={how} has no gradient with respect to tokens or terms, which the samples "
            f"of {job.source.name} are; choose setting=pool"
        )
    try:
        x = one_tensor(job.source.train.prepare(few), "synthesis").to(_device(job))
        if how == "features":
            given = job.learner.differentiable(frozenset({Features()}), context_of(job))(x)
            if Features() not in given:
                raise TypeError("the network gives no features")
            x = given[Features()]
        x = x.detach().requires_grad_()
        score = _score_function(job, "inputs" if how == "ascent" else "features")(x)
        total = score.sum()
        if not (total.requires_grad and _reaches(total, x)):
            raise TypeError("the score has no gradient")
    except TypeError as error:
        raise TypeError(f"setting.how={how} cannot climb {name}: {error}; {remedy}") from error


def _reaches(total: Tensor, x: Tensor) -> bool:
    """Whether a sum has a gradient with respect to what it was made of."""
    return torch.autograd.grad(total, x, allow_unused=True)[0] is not None


def _score_of(job: Job) -> ScoreStrategy:
    strategy = job.parts.strategy
    assert isinstance(strategy, ScoreStrategy)  # or else it was refused when the run began
    return strategy


def _score_function(job: Job, of: Literal["inputs", "features"]) -> Callable[[Tensor], Tensor]:
    """The score of prepared inputs, or of features, with gradients."""
    strategy = _score_of(job)
    answers = job.learner.differentiable(strategy.needs, context_of(job), of)

    def score(x: Tensor) -> Tensor:
        view = PoolView(
            torch.arange(len(x), device=x.device),
            answers(x),
            num_total=len(x),
            num_classes=job.source.num_classes,
            multilabel=not job.task.exclusive,
        )
        return strategy.score(view)

    return score


def _device(job: Job) -> torch.device:
    return current().local_device(pick_device(job.settings.device))


def _drawn(candidates: Tensor, size: int, total: int, rng: torch.Generator) -> Tensor:
    """So many of the candidates at random, over again where there are fewer: int64, (size,)."""
    keys = random_keys(total, rng)[candidates]
    order = candidates[keys.argsort(descending=True)]
    return order[torch.arange(size) % len(order)]


def _of_pool(job: Job, size: int, rng: torch.Generator) -> Query:
    """Real samples at random, where the labels so far are of one class."""
    candidates = job.candidates
    if not len(candidates):
        raise ValueError(
            "all labels are of one class, so there is no pair of opposite ones, and no sample is "
            "left to ask about; begin with initial=per_class, or choose setting.how=ascent"
        )
    log.warning(
        "round %d: all labels are of one class, so there is no pair of opposite ones: samples of "
        "the pool are asked about, at random",
        job.state.round,
    )
    picked = _drawn(candidates, min(size, len(candidates)), job.pool.num_total, rng)
    return Query(picked, torch.full((len(picked),), torch.nan), {"random": True})
