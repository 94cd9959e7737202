"""Gradient lengths of a linear model of sparse rows, against plain autograd on each sample."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from dal.inference import gradients
from dal.inference.gradients import gradient_norms
from dal.inference.pool_pass import pool_pass
from dal.models import LogisticRegression, forward
from dal.query import ExpectedGradientLength
from dal.query.needs import GradNorms, Probs
from dal.task import Multiclass
from dal.utils.inputs import take_rows

V, C, COUNT = 20, 4, 37


def rows() -> dict[str, Tensor]:
    """Texts of 0 to 6 terms of any length; the first has none."""
    rng = torch.Generator().manual_seed(0)
    held = torch.randint(0, 7, (COUNT, 1), generator=rng) > torch.arange(6)
    held[0] = False
    terms = torch.stack([torch.randperm(V, generator=rng)[:6] for _ in range(COUNT)])
    return {"terms": terms * held, "weights": torch.rand(COUNT, 6, generator=rng).double() * held}


def network(frozen: str = "") -> LogisticRegression:
    model = LogisticRegression({"terms": (6,), "weights": (6,)}, C, vocab_size=V).double()
    rng = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=rng))
        parameter.requires_grad_(name != frozen)
    return model.eval()


def by_autograd(model: LogisticRegression, inputs: dict[str, Tensor]) -> Tensor:
    """Lengths (B, C): one backward pass for each sample and label."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lengths = torch.empty(COUNT, C, dtype=torch.float64)
    for n in range(COUNT):
        for label in range(C):
            logits = forward(model, take_rows(inputs, slice(n, n + 1))).logits
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
            parts = torch.autograd.grad(loss, trained)
            lengths[n, label] = sum(part.square().sum() for part in parts) ** 0.5
    return lengths


@pytest.mark.parametrize("scope", ["all", "last"])
@pytest.mark.parametrize("frozen", ["", "head.weight", "head.bias"])
@pytest.mark.parametrize("at_once", [2**23, 500])
def test_lengths_are_those_of_autograd(
    scope: Any, frozen: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gradients.NUMBERS_AT_ONCE, "cpu", at_once)  # several pieces
    model, inputs = network(frozen), rows()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the slower path
        _, lengths = gradient_norms(model, inputs, scope=scope)
    torch.testing.assert_close(lengths, by_autograd(model, inputs))


@pytest.mark.parametrize("scope", ["all", "last"])
def test_length_of_the_predicted_label_is_its_column(scope: Any) -> None:
    model, inputs = network(), rows()
    output, lengths = gradient_norms(model, inputs, scope=scope, labels="predicted")
    predicted = output.logits.argmax(1, keepdim=True)
    torch.testing.assert_close(lengths, by_autograd(model, inputs).gather(1, predicted))


def test_terms_have_no_gradient() -> None:
    with pytest.raises(ValueError, match=r"terms.*weights.*scope=all or last"):
        gradient_norms(network(), rows(), scope="input")


@pytest.mark.parametrize("scope", ["all", "last"])
def test_expected_gradient_length_of_a_pass_is_exact(scope: Any) -> None:
    model, inputs, strategy = network(), rows(), ExpectedGradientLength(scope=scope)
    found, _ = pool_pass(
        model,
        lambda indices, device: take_rows(inputs, indices),
        torch.arange(COUNT),
        strategy.needs | {Probs(), GradNorms(scope)},
        Multiclass(C),
        device=torch.device("cpu"),
        batch_size=8,
    )
    torch.testing.assert_close(found[GradNorms(scope)].double(), by_autograd(model, inputs))
