"""A fit on tensors by name is the fit on one tensor that holds the same numbers."""

from __future__ import annotations

from typing import Any

import named_inputs
import pytest
import torch
from torch import Tensor

from dal.task import Multiclass
from dal.training.context import FitContext, FitState, Samples
from dal.training.early_stopping import EarlyStopping
from dal.training.full_batch import FullBatch
from dal.training.optim import adam
from dal.training.trainer import Trainer
from dal.utils.inputs import Inputs, take_rows


def fitted(case: str, named: bool, trainer: Trainer) -> tuple[dict[str, Tensor], FitState]:
    make, inputs = named_inputs.CASES[case]
    given: Inputs = inputs if named else named_inputs.side_by_side(inputs)
    samples = Samples(lambda batch: take_rows(given, batch), named_inputs.TARGETS)
    model = named_inputs.network(make)
    state = trainer.fit(model, samples, Multiclass(3), FitContext(seed=2))
    return model.state_dict(), state


@pytest.mark.parametrize("limit", [2**28, 0])
@pytest.mark.parametrize("case", list(named_inputs.CASES))
def test_fit_on_tensors_by_name_equals_that_on_one_tensor_bit_for_bit(
    case: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are kept prepared, or taken batch by batch."""
    monkeypatch.setattr("dal.training.fit.RESIDENT_LIMIT", limit)
    rule = EarlyStopping("train/loss", patience=None)
    trainer = Trainer(4, 8, adam(0.01), early_stopping=rule)
    weights, state = fitted(case, True, trainer)
    expected, of_one = fitted(case, False, trainer)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert state.history == of_one.history


def test_fit_to_the_optimum_on_tensors_by_name() -> None:
    """Of a linear network that returns logits only, too."""

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(5, 3)

        def forward(self, x: Any) -> Tensor:
            x = torch.cat([x["left"], x["right"]], 1) if isinstance(x, dict) else x
            logits: Tensor = self.head(x)
            return logits

    found = []
    for given in (named_inputs.PARTS, named_inputs.side_by_side(named_inputs.PARTS)):
        samples = Samples(lambda batch, given=given: take_rows(given, batch), named_inputs.TARGETS)
        model = named_inputs.network(Linear)
        FullBatch().fit(model, samples, Multiclass(3), FitContext())
        found.append(model.state_dict()["head.weight"])
    assert torch.equal(*found)
