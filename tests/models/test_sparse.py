import pytest
import torch
from torch import Tensor

from dal.models import LogisticRegression, forward
from dal.models.base import StackedForward
from dal.models.sparse import SparseLinear

V, C = 9, 3
SPEC = {"terms": (4,), "weights": (4,)}


def rows(count: int, length: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Rows of 1 to ``length`` distinct terms, and zeros beyond."""
    rng = torch.Generator().manual_seed(seed)
    terms = torch.stack([torch.randperm(V, generator=rng)[:length] for _ in range(count)])
    held = torch.randint(1, length + 1, (count, 1), generator=rng) > torch.arange(length)
    weights = torch.randn(count, length, generator=rng)
    return {"terms": terms * held, "weights": weights * held}


def dense(inputs: dict[str, Tensor]) -> Tensor:
    zeros = inputs["weights"].new_zeros(len(inputs["terms"]), V)
    return zeros.scatter_add(1, inputs["terms"], inputs["weights"])


def model(seed: int = 0) -> LogisticRegression:
    made = LogisticRegression(SPEC, C, vocab_size=V)
    rng = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=rng))
    return made


def test_logits_are_those_of_the_same_rows_made_dense() -> None:
    network, inputs = model(), rows(6)
    logits, features = forward(network, inputs)
    assert features is None
    assert isinstance(network.head, SparseLinear)
    expected = dense(inputs) @ network.head.weight + network.head.bias
    torch.testing.assert_close(logits, expected)


def test_places_beyond_the_terms_of_a_text_change_no_bit() -> None:
    network, short = model(), rows(6)
    long = {name: torch.cat([x, torch.zeros(6, 50, dtype=x.dtype)], 1) for name, x in short.items()}
    assert torch.equal(forward(network, short).logits, forward(network, long).logits)
    alone = [
        forward(network, {name: x[n : n + 1] for name, x in short.items()}).logits for n in range(6)
    ]
    assert torch.equal(torch.cat(alone), forward(network, short).logits)


def test_a_stack_gives_what_its_networks_give() -> None:
    networks, inputs = [model(0), model(1)], [rows(5, seed=2), rows(5, seed=3)]
    tensors = {
        name: torch.stack([network.state_dict()[name] for network in networks])
        for name in networks[0].state_dict()
    }
    assert isinstance(networks[0], StackedForward)
    both = {name: torch.stack([x[name] for x in inputs]) for name in SPEC}
    stacked = networks[0].stacked(tensors, both)
    assert stacked.features is None
    for logits, network, x in zip(stacked.logits, networks, inputs, strict=True):
        assert torch.equal(logits, forward(network, x).logits)


def test_tensors_of_other_names_are_refused() -> None:
    with pytest.raises(TypeError, match=r"logistic_regression takes one .*data/encoder=model"):
        LogisticRegression({"tokens": (4,), "mask": (4,)}, C, vocab_size=V)
