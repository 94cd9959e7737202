from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dal.models import BayesianCNN
from dal.models.base import last_layer

SHAPES = [(c, s, s) for c in (1, 3) for s in (28, 32)]


def fresh(*arguments: Any, **settings: Any) -> BayesianCNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BayesianCNN(*arguments, **settings)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_gives_logits_and_the_inputs_of_the_head(shape: tuple[int, ...]) -> None:
    model = fresh(shape, 7).eval()
    logits, features = model(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)))
    head = last_layer(model)
    assert head is not None
    assert features.shape == (3, 128)
    assert logits.shape == (3, 7)
    assert torch.equal(head(features), logits)


def test_has_the_number_of_parameters_it_claims() -> None:
    assert sum(p.numel() for p in fresh((1, 28, 28), 10).parameters()) == 184_586
    assert "184,586" in str(BayesianCNN.__doc__)


def test_training_equals_dropout_before_pooling_as_in_the_paper() -> None:
    """The order of the authors' code, fed the same noise."""
    model = fresh((1, 28, 28), 10).train()
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        got = model(x).logits
        torch.manual_seed(3)
        h = F.relu(F.max_pool2d(F.dropout2d(model.conv1(x), 0.5), 2))
        h = F.relu(F.max_pool2d(F.dropout2d(model.conv2(h), 0.5), 2))
        h = F.relu(F.dropout(model.fc1(h.flatten(1)), 0.5))
        want = model.head(h)
    torch.testing.assert_close(got, want)
    assert bool((got != model.eval()(x).logits).any())


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_refuses_probabilities_out_of_range(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"model\.dropout="):
        BayesianCNN((1, 28, 28), 10, dropout)
