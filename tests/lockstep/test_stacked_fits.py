"""Fits and passes of several networks at once, on tensors by name too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import named_inputs
import pytest
import torch
from torch import Tensor

from dal.inference.pool_pass import predict_logits
from dal.lockstep.fit import advance
from dal.lockstep.passes import stacked_logits
from dal.task import Multiclass
from dal.training.context import FitContext, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.fit import Fit
from dal.training.optim import adam
from dal.training.trainer import Trainer
from dal.utils.inputs import Inputs, take_rows

CPU, ADAM = torch.device("cpu"), adam(0.01)
SEEDS = (0, 1, 2)


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

    def take_from(given: Inputs) -> Callable[[Tensor, Any], Inputs]:
        return lambda batch, device: take_rows(given, batch)

    count, given = named_inputs.COUNT, [inputs, named_inputs.side_by_side(inputs)]
    by_name, of_one = (
        stacked_logits(models, [take_from(each)] * 3, count, CPU, 48, lambda: None)
        for each in given
    )
    assert torch.equal(by_name, of_one)
    for model, logits in zip(models, by_name, strict=True):
        alone = predict_logits(model, take_from(inputs), count, device=CPU, batch_size=16)
        torch.testing.assert_close(logits, alone)
