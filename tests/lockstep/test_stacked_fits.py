"""Fits and passes of several networks at once, on tensors by name too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import named_inputs
import pytest
import torch
from torch import Tensor, nn

from dal.data.source import Split
from dal.inference.pool_pass import predict_logits
from dal.lockstep.fit import advance
from dal.lockstep.passes import stacked_logits
from dal.models import MLP
from dal.task import Multiclass
from dal.training.augment import Augment
from dal.training.context import FitContext, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import Fit
from dal.training.optim import adam, cosine, sgd, step
from dal.training.trainer import Trainer
from dal.utils.inputs import Inputs, take_rows
from dal.utils.signals import PreemptedError

CPU, ADAM = torch.device("cpu"), adam(0.01)
SEEDS = (0, 1, 2)
TARGETS = torch.arange(8) % 3


def begun(case: str, named: bool, seed: int, optimizer: Any = ADAM) -> Fit:
    """A fit on a stretch of the samples that is the seed's own."""
    make, inputs = named_inputs.CASES[case]
    given: Inputs = inputs if named else named_inputs.side_by_side(inputs)
    own = take_rows(given, slice(seed, 30 + seed))
    samples = Samples(lambda batch: take_rows(own, batch), named_inputs.TARGETS[seed : 30 + seed])
    trainer = Trainer(4, 8, optimizer, early_stopping=EarlyStopping(patience=None))
    model = named_inputs.network(make, seed)
    return trainer.begin(model, samples, Multiclass(3), FitContext(seed=seed))


def in_a_stack(fits: list[Fit]) -> list[dict[str, Tensor]]:
    assert advance(fits, lambda number, function: function() is None)
    return [fit.model.state_dict() for fit in fits]


@pytest.mark.parametrize("limit", [2**28, 0])
@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_stack_on_tensors_by_name_equals_that_on_one_tensor_and_fits_alone(
    case: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dal.training.fit.RESIDENT_LIMIT", limit)
    fits = [begun(case, True, seed) for seed in SEEDS]
    found = in_a_stack(fits)
    of_one = in_a_stack([begun(case, False, seed) for seed in SEEDS])
    for seed, weights, expected, fit in zip(SEEDS, found, of_one, fits, strict=True):
        alone = begun(case, True, seed)
        state = alone.run()
        assert (fit.state.epoch, fit.state.steps) == (state.epoch, state.steps)
        for name, weight in weights.items():
            assert torch.equal(weight, expected[name]), name
            mine = alone.model.state_dict()[name]
            torch.testing.assert_close(weight, mine, rtol=1e-4, atol=1e-5)


def test_other_errors_of_a_stack_end_every_fit_that_goes_on() -> None:
    """Such as of an optimizer: nothing says that fits would do better one by one."""

    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            raise ValueError("a defect")

    def attempt(number: int, function: Callable[[], Any]) -> bool:
        try:
            function()
        except ValueError as error:
            ended[number] = str(error)
        return number not in ended

    ended: dict[int, str] = {}
    fits = [begun("parts", True, seed, lambda ps: Failing(ps, lr=0.1)) for seed in SEEDS]
    starts = [fit.model.head.weight.clone() for fit in fits]
    assert advance(fits, attempt)
    assert ended == dict.fromkeys(SEEDS, "a defect")
    for fit, start in zip(fits, starts, strict=True):
        weight = fit.model.head.weight.detach()
        assert torch.equal(weight, start)
        assert weight.untyped_storage().nbytes() == weight.nbytes  # no view of the stack


@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_stacked_pass_on_tensors_by_name(case: str) -> None:
    make, inputs = named_inputs.CASES[case]
    models = [named_inputs.network(make, seed).eval() for seed in SEEDS]

    def split_of(given: Inputs) -> Split:
        return Split.of(given, torch.zeros(named_inputs.COUNT, dtype=torch.int64))

    count, given = named_inputs.COUNT, [inputs, named_inputs.side_by_side(inputs)]
    by_name, of_one = (
        stacked_logits(models, [split_of(each)] * 3, CPU, 48, lambda: None) for each in given
    )
    assert torch.equal(by_name, of_one)
    for model, logits in zip(models, by_name, strict=True):
        alone = predict_logits(model, split_of(inputs).take, count, device=CPU, batch_size=16)
        torch.testing.assert_close(logits, alone)


class _Convolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(144, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(x))
        return logits


SETTINGS: list[dict[str, Any]] = [
    {"augment": Augment(flip=True, shift=0.2, brightness=0.3, erase=0.5)},
    {"ema": 0.8},
    {"clip": 0.3},
    {"micro_batch_size": 3},
    {"warmup": 1.5},
    {"schedule_by": "step", "scheduler": cosine(4)},
    {"body_lr_factor": 0.3},
    {"label_smoothing": 0.2},
    {"class_weights": "balanced"},
]
EVERYTHING = {name: value for each in SETTINGS for name, value in each.items()}


def of_images(settings: dict[str, Any], seed: int, **more: Any) -> Fit:
    """A fit on images of the seed's own."""
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randn(22, 1, 8, 8, generator=rng)
    targets = torch.randint(3, (22,), generator=rng)
    torch.manual_seed(seed)
    rule = EarlyStopping("train/loss", patience=None)
    trainer = Trainer(4, 8, sgd(0.05), early_stopping=rule, **settings)
    context = FitContext(seed=seed, **more)
    samples = Samples(inputs.__getitem__, targets)
    return trainer.begin(_Convolved(), samples, Multiclass(3), context)


@pytest.mark.parametrize("settings", [*SETTINGS, EVERYTHING], ids=" ".join)
def test_each_of_a_stack_trains_as_it_would_alone(settings: dict[str, Any]) -> None:
    fits = [of_images(settings, seed) for seed in SEEDS]
    for seed, fit, weights in zip(SEEDS, fits, in_a_stack(fits), strict=True):
        alone = of_images(settings, seed)
        alone.run()
        assert [row["lr"] for row in fit.state.history] == [
            row["lr"] for row in alone.state.history
        ]
        losses = [row["train/loss"] for row in fit.state.history]
        assert losses == pytest.approx([row["train/loss"] for row in alone.state.history], rel=1e-4)
        for name, weight in weights.items():
            mine = alone.model.state_dict()[name]
            torch.testing.assert_close(weight, mine, rtol=1e-3, atol=1e-4)


def test_fits_of_a_stack_that_a_signal_ends_go_on_alone_to_the_same_end() -> None:
    """With all settings, from the middle of an epoch and of measuring."""
    for look in (2, 3, 9):
        looks = iter(range(10**6))
        saved: dict[int, dict[str, Any]] = {}

        def check(looks: Any = looks, look: int = look) -> None:
            if next(looks) == look:
                raise PreemptedError(15)

        fits = [
            of_images(
                EVERYTHING,
                seed,
                check=check,
                on_signal=lambda save, seed=seed, saved=saved: saved.update({seed: save()}),
            )
            for seed in SEEDS
        ]
        assert advance(fits, lambda number, function: function() is None)
        assert sorted(saved) == list(SEEDS)
        for seed in SEEDS:
            alone, rest = (
                of_images(EVERYTHING, seed, resume=resume) for resume in (None, saved[seed])
            )
            alone.run()
            rest.run()
            for name, weight in rest.model.state_dict().items():
                mine = alone.model.state_dict()[name]
                torch.testing.assert_close(weight, mine, rtol=1e-3, atol=1e-4)


def test_schedule_goes_on_after_the_first_of_a_stack_has_stopped() -> None:
    def fit(seed: int) -> Fit:
        samples = Samples(torch.randn(8, 4, generator=torch.Generator()).__getitem__, TARGETS)
        rule = EarlyStopping("val/loss", patience=1)
        trainer = Trainer(6, 8, Noting, step(1, 0.5), rule)
        losses = iter([1.0, 2.0 if seed == 0 else 0.9, 0.8, 0.7, 0.6, 0.5])
        context = FitContext(seed=seed, evaluate=lambda: {"loss": next(losses)})
        torch.manual_seed(seed)
        return trainer.begin(MLP((4,), 3, hidden=(4,)), samples, Multiclass(3), context)

    class Noting(torch.optim.SGD):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, lr=1.0)

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            used.append(self.param_groups[0]["lr"])
            super().step()

    used: list[float] = []
    fits = [fit(seed) for seed in SEEDS]

    def evaluate(stacked: Any) -> list[Any]:
        return [each.context.evaluate() for each in stacked.fits]  # type: ignore[misc]

    assert advance(fits, lambda number, function: function() is None, evaluate)
    assert [each.state.epoch for each in fits] == [2, 6, 6]
    assert used == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
