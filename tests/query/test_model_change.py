"""Expected gradient length from given lengths; the lengths themselves: `test_gradients`."""

from __future__ import annotations

import pytest
import torch

from dal.query import (
    ExpectedGradientLength,
    GradNorms,
    PoolView,
    Probs,
    Query,
    expected_gradient_length,
    last_layer_lengths,
)

PROBS = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
NORMS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.5, 1.0], [0.25, 1e6, 1e6]])


def select(strategy: ExpectedGradientLength, norms: torch.Tensor) -> Query:
    results = {Probs(): PROBS, strategy.gradients: norms}
    view = PoolView(torch.tensor([7, 8, 9]), results, num_total=10, num_classes=3)
    return strategy.select(view, 3, torch.Generator())


def test_expected_gradient_length_by_hand() -> None:
    assert expected_gradient_length(PROBS, NORMS).tolist() == pytest.approx([1.7, 1.25, 0.25])


@pytest.mark.parametrize("classes", [2, 10])
def test_expected_gradient_length_equals_loop(classes: int) -> None:
    rng = torch.Generator().manual_seed(0)
    probs = torch.randn(40, classes, generator=rng).softmax(1)
    norms = torch.rand(40, classes, generator=rng) * 10
    want = [
        sum(p * length for p, length in zip(*rows, strict=True))
        for rows in zip(probs.tolist(), norms.tolist(), strict=True)
    ]
    got = expected_gradient_length(probs, norms)
    assert got.shape == (40,)
    assert got.tolist() == pytest.approx(want, rel=1e-5)


def test_expected_labels_weigh_every_label() -> None:
    query = select(ExpectedGradientLength(), NORMS)
    assert query.indices.tolist() == [7, 8, 9]
    assert query.scores.tolist() == pytest.approx([1.7, 1.25, 0.25])


def test_pseudo_labels_take_the_one_length() -> None:
    query = select(ExpectedGradientLength(labels="pseudo"), torch.tensor([[2.0], [3.0], [1.0]]))
    assert query.indices.tolist() == [8, 7, 9]
    assert query.scores.tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("scope", ["all", "last", "input"])
def test_options_reach_the_needs(scope: str) -> None:
    expected = ExpectedGradientLength(scope)  # type: ignore[arg-type]
    assert expected.needs == {Probs(), GradNorms(scope, "all")}  # type: ignore[arg-type]
    pseudo = ExpectedGradientLength(scope, "pseudo")  # type: ignore[arg-type]
    assert GradNorms(scope, "predicted") in pseudo.needs  # type: ignore[arg-type]


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="scope='first'; choose all, last or input"):
        ExpectedGradientLength(scope="first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels='true'; choose expected or pseudo"):
        ExpectedGradientLength(labels="true")  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_last_layer_lengths_equal_autograd(bias: bool, scale: float) -> None:
    rng = torch.Generator().manual_seed(2)
    features = torch.randn(6, 5, generator=rng)
    head = torch.nn.Linear(5, 4, bias=bias).double()
    with torch.no_grad():
        head.weight.mul_(scale)
    want = torch.empty(6, 4, dtype=torch.float64)
    logits = head(features.double())
    for i in range(6):
        for y in range(4):
            loss = -logits[i].log_softmax(0)[y]
            gradients = torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
            want[i, y] = sum(g.square().sum() for g in gradients) ** 0.5
    got = last_layer_lengths(logits.detach().softmax(1).float(), features, bias)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=0)
