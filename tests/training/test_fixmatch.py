"""FixMatch: its loss against a loop, its draws, and that a fit goes on exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dal
from dal.data import digits, initial_labels, iris, make_source
from dal.learners import Dropout, RoundContext, TorchLearner, make_learner
from dal.lockstep.learner import Lockstep
from dal.models import MLP, LeNet5
from dal.query import Margin
from dal.runs import PoolSetting
from dal.task import Multiclass, Multilabel
from dal.training.augment import Augment
from dal.training.context import FitContext, Samples, Save, Unlabeled
from dal.training.fit import Fit
from dal.training.fixmatch import ConsistentFit, FixMatch, consistency
from dal.training.optim import adam
from dal.training.trainer import Trainer

STRONG = Augment(rotation=30, erase=0.5)
INPUTS = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(12) % 3
TASK = Multiclass(3)


def samples(unlabeled: bool = True) -> Samples:
    others = Unlabeled(lambda batch: INPUTS[12:][batch], 28)
    return Samples(INPUTS.__getitem__, TARGETS, unlabeled=others if unlabeled else None)


def network() -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return MLP((1, 6, 6), 3, hidden=(8,), dropout=0.2)


def trainer(threshold: float = 0.4, weight: float = 1.0, **options: Any) -> FixMatch:
    settings = {"epochs": 3, "batch_size": 5, "optimizer": adam(lr=0.01)} | options
    return FixMatch(STRONG, threshold, 2, weight, **settings)


def weights_of(fit: Trainer, given: Samples, **context: Any) -> dict[str, Tensor]:
    model = network()
    fit.fit(model, given, TASK, FitContext(seed=1, **context))
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
def test_consistency_is_that_of_the_paper(threshold: float) -> None:
    rng = torch.Generator().manual_seed(2)
    weak, strong = 2 * torch.randn(2, 30, 4, generator=rng)
    total = 0.0
    for plain, changed in zip(weak.tolist(), strong.tolist(), strict=True):
        probs = [math.exp(v) / sum(map(math.exp, plain)) for v in plain]
        if max(probs) >= threshold:
            c = probs.index(max(probs))
            total -= math.log(math.exp(changed[c]) / sum(map(math.exp, changed)))
    assert float(consistency(weak, strong, threshold)) == pytest.approx(total / 30, rel=1e-5)


def test_nothing_is_learned_from_the_plainer_view() -> None:
    weak = torch.randn(5, 3, requires_grad=True)
    strong = torch.randn(5, 3, requires_grad=True)
    consistency(weak, strong, 0.0).backward()
    assert weak.grad is None
    assert strong.grad is not None


def test_a_step_adds_the_loss_of_the_candidates_that_it_drew() -> None:
    model, recipe = network().eval(), trainer(weight=0.7)
    model.train = lambda mode=True: model  # type: ignore[method-assign] # without dropout
    fit = recipe.begin(model, samples(), TASK, FitContext(seed=1, round=2))
    assert isinstance(fit, ConsistentFit)
    batch = torch.tensor([3, 1, 4])
    plain = Fit.losses(fit, batch, slice(None))[0].item()
    whole = fit.losses(batch, slice(None))[0].item()
    assert whole == pytest.approx(plain + 0.7 * fit.unlabeled_loss(3).item())
    assert whole > plain
    assert fit.losses(batch, slice(None))[0].item() == whole  # the same draws
    fit.state.epoch = 1
    assert fit.losses(batch, slice(None))[0].item() != whole


def test_without_weight_or_candidates_it_is_the_plain_trainer() -> None:
    plain = Trainer(epochs=3, batch_size=5, optimizer=adam(lr=0.01))
    of_plain = weights_of(plain, samples())
    assert same(of_plain, weights_of(trainer(), samples(unlabeled=False)))
    assert not same(of_plain, weights_of(trainer(), samples()))


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_a_fit_that_a_signal_ended_goes_on_exactly(stop: int) -> None:
    class EndError(Exception):
        pass

    saved: list[dict[str, Any]] = []

    def end(save: Save) -> None:
        saved.append(copy.deepcopy(save()))
        raise EndError

    recipe = trainer(augment=Augment(flip=True), class_weights="balanced")
    whole = weights_of(recipe, samples())
    asked = iter(range(1000))
    context = FitContext(seed=1, pending=lambda: next(asked) == stop, on_signal=end)
    with pytest.raises(EndError):
        recipe.fit(network(), samples(), TASK, context)
    assert same(whole, weights_of(recipe, samples(), resume=saved[0]))


def test_a_run_learns_from_its_candidates_and_no_others() -> None:
    source = make_source(digits(), seed=0)
    seen: list[Tensor] = []
    learner: Any = make_learner(
        LeNet5,
        FixMatch(STRONG, epochs=1),
        source,
        source.task,
        Dropout(),
        needs=frozenset(),
        seed=0,
        device=torch.device("cpu"),
    )
    assert isinstance(learner, TorchLearner)
    some = torch.tensor([7, 100, 3])
    given, _ = learner.prepare(_labels(source), RoundContext(0, unlabeled=some))
    assert given.unlabeled is not None
    assert given.unlabeled.count == 3
    seen.append(given.unlabeled.take(torch.tensor([2, 0])))  # type: ignore[arg-type]
    assert torch.equal(seen[0], source.train.take(torch.tensor([3, 7])))
    assert learner.prepare(_labels(source), RoundContext(0))[0].unlabeled is None


def _labels(source: Any) -> Any:
    from dal.train_set import TrainSet

    indices = initial_labels(source.train.targets, seed=0, count=10)
    return TrainSet(indices, source.train.targets[indices], torch.ones(10))


def run(**options: Any) -> dal.Result:
    source = options.pop("source", None) or make_source(digits(), seed=0)
    settings = {"query_size": 5, "budget": 5, "threads": 1, "figures": False, "candidates": 60}
    return dal.run(
        source,
        options.pop("model", LeNet5),
        Margin(),
        initial=initial_labels(source.train.targets, seed=0, count=10),
        trainer=FixMatch(STRONG, 0.5, 1, epochs=2),
        settings=dal.Settings(**settings),
        **options,
    )


def test_a_run_enters_nothing_into_its_ledger() -> None:
    result = run()
    assert {e["origin"] for e in result.job.pool.events()} == {"initial", "oracle"}
    assert result.rows[-1]["trained_on"] == 15


def test_fits_are_not_stacked() -> None:
    source = make_source(digits(), seed=0)
    learner = run(source=source).job.learner
    assert isinstance(learner, TorchLearner)
    assert not Lockstep(2, "true")._pays(learner)


def test_a_setting_without_candidates_at_hand_is_refused() -> None:
    class Stream(PoolSetting):
        cooperates = False

    with pytest.raises(TypeError, match=r"FixMatch learns from the candidates.*setting=pool"):
        run(setting=Stream())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FixMatch(Augment()), ValueError, "trainer.strong changes nothing"),
        (lambda: FixMatch("strong"), TypeError, "trainer.strong='strong'"),  # type: ignore[arg-type]
        (lambda: FixMatch(STRONG, 1.2), ValueError, "trainer.threshold=1.2; give a number from 0"),
        (lambda: FixMatch(STRONG, ratio=0), ValueError, "trainer.ratio=0; give at least 1"),
        (lambda: FixMatch(STRONG, micro_batch_size=2), ValueError, "takes whole batches"),
        (
            lambda: FixMatch(STRONG).check(network(), (4,), TASK),
            TypeError,
            "trainer=fixmatch changes images, and these samples have the shape",
        ),
        (
            lambda: FixMatch(STRONG).check(network(), (1, 6, 6), Multilabel(3)),
            TypeError,
            "several labels each; choose trainer=default",
        ),
        (
            lambda: FixMatch(STRONG, augment=STRONG).check(network(), (4,), TASK),
            TypeError,
            "trainer=fixmatch changes images",
        ),
        (lambda: run(source=make_source(iris(), seed=0), model=MLP), TypeError, "changes images"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
