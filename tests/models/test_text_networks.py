"""What is promised of networks on tokens, and of no other."""

from __future__ import annotations

from typing import Any

import pytest
import token_texts
import torch
from torch import Tensor, nn

from dal.inference.gradients import GradientNorms
from dal.models import EmbeddingBag, TextTransformer
from dal.models.base import Output, is_graphable

SPEC: Any = {"tokens": (token_texts.WIDTH,), "mask": (token_texts.WIDTH,)}
CLASSES = 3
KINDS: list[Any] = [EmbeddingBag, TextTransformer]


def make(kind: Any, **settings: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = kind(SPEC, CLASSES, token_texts.WORDS, **settings)
    return network.eval()


def texts(count: int = 20, length: int | None = None) -> dict[str, Tensor]:
    read = token_texts.store(count).read(torch.arange(count))
    assert isinstance(read, dict)
    return {name: tensor[:, :length] for name, tensor in read.items()}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_features_are_the_inputs_of_the_head(kind: Any) -> None:
    network = make(kind)
    output: Output = network(texts())
    assert output.features is not None
    assert torch.equal(network.head(output.features), output.logits)
    assert is_graphable(network)
    assert kind.text_encoder == "word_ids"


def test_text_without_words_has_features_of_zero(kind: Any) -> None:
    output: Output = make(kind)(texts())
    assert output.features is not None
    assert output.logits.isfinite().all()
    assert not output.features[0].any()
    assert output.features[1:].any(1).all()


def test_padding_changes_nothing_but_rounding(kind: Any) -> None:
    network = make(kind).double()
    batch = texts()
    whole = network(batch).logits
    for row, length in enumerate(batch["mask"].sum(1).tolist()):
        alone = {name: tensor[row : row + 1, : max(length, 1)] for name, tensor in batch.items()}
        torch.testing.assert_close(network(alone).logits[0], whole[row], rtol=1e-12, atol=1e-12)


def test_what_stands_beyond_the_mask_changes_nothing(kind: Any) -> None:
    network, batch = make(kind), texts()
    other = {**batch, "tokens": batch["tokens"].where(batch["mask"], 7)}
    assert torch.equal(network(batch).logits, network(other).logits)


def test_features_of_the_bag_are_the_mean_of_the_words() -> None:
    network, batch = make(EmbeddingBag), texts()
    table = network.embedding.weight
    features = network(batch).features
    for row in range(1, 20):
        words = batch["tokens"][row][batch["mask"][row]]
        torch.testing.assert_close(features[row], table[words].mean(0))


def test_transformer_reads_the_order_of_words() -> None:
    batch = texts()
    length = int(batch["mask"][1].sum())
    turned = {name: tensor.clone() for name, tensor in batch.items()}
    turned["tokens"][1, :length] = batch["tokens"][1, :length].flip(0)
    assert not torch.allclose(*(make(TextTransformer)(x).logits[1] for x in (batch, turned)))
    torch.testing.assert_close(*(make(EmbeddingBag)(x).logits[1] for x in (batch, turned)))


def test_vector_of_padding_stays_zero(kind: Any) -> None:
    network = make(kind).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    before = network.embedding.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        network(texts()).logits.square().sum().backward()
        optimizer.step()
    assert not network.embedding.weight[0].any()
    assert not torch.equal(network.embedding.weight[2:], before[2:])


@pytest.mark.parametrize("settings", [{}, {"hidden": 8}])
@pytest.mark.parametrize("length", [16, token_texts.WIDTH])
def test_gradient_lengths_are_those_of_autograd_on_the_fast_path(
    kind: Any, settings: dict[str, Any], length: int
) -> None:
    if settings and kind is TextTransformer:
        settings = {"layers": 1, "width": 8, "heads": 2}
    network = make(kind, **settings).double()
    batch = texts(length=length)
    _, lengths = GradientNorms(network)(batch)  # a warning, here an error, tells of another path
    for row in range(20):
        logits = network({name: tensor[row : row + 1] for name, tensor in batch.items()}).logits
        for label in range(CLASSES):
            loss = nn.functional.cross_entropy(logits, torch.tensor([label]))
            gradients = torch.autograd.grad(
                loss, list(network.parameters()), retain_graph=True, allow_unused=True
            )
            squares = [g.square().sum() for g in gradients if g is not None]
            torch.testing.assert_close(lengths[row, label], torch.stack(squares).sum().sqrt())


@pytest.mark.parametrize(
    ("settings", "fact"),
    [({"width": 0}, "model.width=0"), ({"dropout": 1.0}, "model.dropout=1.0")],
)
def test_settings_out_of_range_are_refused(kind: Any, settings: Any, fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        make(kind, **settings)


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ValueError, match=r"model\.width=10 is no multiple of model\.heads=4"):
        make(TextTransformer, width=10)


@pytest.mark.parametrize("shape", [(5,), {"terms": (9,), "weights": (9,)}])
def test_other_inputs_are_refused_by_name(kind: Any, shape: Any) -> None:
    with pytest.raises(TypeError, match=r"takes the tokens of texts, .* choose data=text"):
        kind(shape, CLASSES, 30)


def test_table_beyond_memory_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.width=1000000: .* GiB"):
        kind(SPEC, CLASSES, 10**9, width=10**6)
