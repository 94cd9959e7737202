"""Encoders of texts of transformers, tiny ones on the disk."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_texts
import torch
from torch import Tensor

from dal.inference.dropout_masks import DropoutMasks, why_not
from dal.inference.gradients import GradientNorms
from dal.models import TransformersNetwork
from dal.models.base import build_model, forward, numel_in
from dal.training.optim import lr_factors, parameter_groups

L = 12
SHAPE = {"tokens": (L,), "mask": (L,)}
KINDS = ["bert", "distilbert", "roberta", "modernbert"]


def batch(count: int = 6, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, L + 1, (count, 1), generator=rng)
    mask = torch.arange(L) < lengths
    return {"tokens": torch.randint(5, 400, (count, L), generator=rng) * mask, "mask": mask}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("networks")
    return {kind: str(tiny_texts.folder(root / kind, kind)) for kind in KINDS}


def made(path: str | None, classes: int = 3, **settings: Any) -> TransformersNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TransformersNetwork(SHAPE, classes, path=path, **settings).eval()


def outputs(network: TransformersNetwork, x: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return forward(network, x).logits


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_mean_over_the_tokens_of_their_hidden_states(
    folders: dict[str, str], kind: str
) -> None:
    theirs, x = tiny_texts.network(Path(), kind).eval(), batch()
    ours = made(folders[kind])
    with torch.no_grad():
        found = ours(x).features
        for number, row in enumerate(x["mask"]):
            text = x["tokens"][number, row].unsqueeze(0)
            hidden = theirs.base_model(text, output_hidden_states=True).hidden_states[-1]
            torch.testing.assert_close(found[number], hidden[0].mean(0), rtol=1e-4, atol=1e-5)


def test_the_first_token_gives_the_logits_of_theirs_with_the_same_head(
    folders: dict[str, str],
) -> None:
    theirs, x = tiny_texts.network(Path(), "roberta").eval(), batch()
    ours = made(folders["roberta"], pooling="first")
    with torch.no_grad():
        tokens = x["tokens"].where(x["mask"], 0)
        hidden = theirs.roberta(tokens, attention_mask=x["mask"].long())[0]
        torch.testing.assert_close(ours(x).features, hidden[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_same_logits_alone_in_a_batch_and_with_less_padding(
    folders: dict[str, str], kind: str
) -> None:
    network, x = made(folders[kind]), batch()
    together = outputs(network, x)
    for number, row in enumerate(x["mask"]):
        for end in (L, int(row.sum())):
            alone = {name: t[number : number + 1, :end] for name, t in x.items()}
            torch.testing.assert_close(outputs(network, alone)[0], together[number])
    noise = {**x, "tokens": x["tokens"].where(x["mask"], 7)}
    assert torch.equal(outputs(network, noise), together)


def test_weights_of_each_form_are_the_same(folders: dict[str, str], tmp_path: Path) -> None:
    want, x = outputs(made(folders["bert"]), batch()), batch()
    theirs = tiny_texts.network(tmp_path)
    parts = tiny_texts.folder(tmp_path / "parts", weights=False)
    theirs.save_pretrained(parts, max_shard_size="20KB")
    assert not (parts / "model.safetensors").exists()
    old = tiny_texts.folder(tmp_path / "old", weights=False)
    names = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        for k in theirs.state_dict()
    }
    assert any(name.endswith("gamma") for name in names)
    torch.save(
        {
            k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v
            for k, v in theirs.state_dict().items()
        },
        old / "pytorch_model.bin",
    )
    bare = tiny_texts.folder(tmp_path / "bare", weights=False)
    for path, weights in (
        (parts, "DEFAULT"),
        (old, "DEFAULT"),
        (bare, folders["bert"] + "/model.safetensors"),
    ):
        assert torch.equal(outputs(made(str(path), weights=weights), x), want)


def test_a_random_start_goes_by_the_seed_and_has_as_many_tokens_as_the_tokenizer(
    tmp_path: Path, folders: dict[str, str]
) -> None:
    bare = str(tiny_texts.folder(tmp_path, weights=False))
    one, same, other = made(bare), made(bare), TransformersNetwork(SHAPE, 3, path=bare).eval()
    assert torch.equal(outputs(one, batch()), outputs(same, batch()))
    assert not torch.equal(outputs(one, batch()), outputs(other, batch()))
    assert not torch.equal(outputs(one, batch()), outputs(made(folders["bert"]), batch()))
    wide = made(folders["bert"], weights=None, vocab_size=1000)
    assert wide.body.get_submodule("network.embeddings.word_embeddings").weight.shape[0] == 1000


def test_it_is_built_again_without_the_folder(folders: dict[str, str]) -> None:
    network = made(folders["roberta"], vocab_size=390)
    arguments = json.loads(json.dumps(network.arguments))
    assert arguments["path"] is None
    again = build_model(
        partial(TransformersNetwork, weights=None, **arguments), SHAPE, 3, 390
    ).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(outputs(again, batch()), outputs(network, batch()))


def test_batches_of_the_pass_go_by_the_width_of_the_network(folders: dict[str, str]) -> None:
    assert numel_in(made(folders["bert"]), SHAPE) == L * 32


@pytest.mark.parametrize("kind", KINDS)
def test_learning_rates_by_layer_go_from_the_head_to_the_embeddings(
    folders: dict[str, str], kind: str
) -> None:
    network = made(folders[kind])
    factors = lr_factors(network, 1.0, 0.5)
    assert factors == [1.0, 0.5, 0.25, 0.125]
    groups = parameter_groups(network, dict(network.named_parameters()), len(factors))
    names = {id(p): name for name, p in network.named_parameters()}
    levels = [{names[id(p)] for p in group["params"]} for group in groups]
    assert levels[0] == {"head.weight", "head.bias"}
    for level, number in ((1, "1"), (2, "0")):
        inside = {n for n in names.values() if f".{number}." in n}
        assert inside <= levels[level]
        assert all(n in inside or "norm" in n for n in levels[level])
    assert all("embeddings" in name for name in levels[3])


def test_frozen_layers_are_left_out(folders: dict[str, str]) -> None:
    head = made(folders["bert"], trainable="head").train()
    trained = {n for n, p in head.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    drops = [n for n, m in head.named_modules() if isinstance(m, torch.nn.Dropout) and m.training]
    assert drops == ["body.network.encoder.layer.1.output.dropout"]
    assert not head.body.get_submodule("network.encoder.layer.0.attention.self").training
    last = made(folders["bert"], trainable="last_block")
    trained = {n for n, p in last.named_parameters() if p.requires_grad}
    assert len(trained) > 2
    assert all(n.startswith(("head.", "body.network.encoder.layer.1.")) for n in trained)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v2"])
def test_a_member_has_one_mask_for_all_texts_of_the_pool(tmp_path: Path, kind: str) -> None:
    network = made(str(tiny_texts.folder(tmp_path, kind, weights=False, tokens=False)))
    x = {name: torch.cat([t, t[:1]]) for name, t in batch().items()}
    uncut = {"tokens": x["tokens"][:1], "mask": torch.ones(1, L, dtype=torch.bool)}
    masks = DropoutMasks(network, 3, seed=0, round_number=1, uncut=uncut)

    def member(number: int, some: dict[str, Tensor]) -> Tensor:
        with masks.member(number):
            return outputs(network, some)

    together = [member(number, x) for number in range(3)]
    for number, logits in enumerate(together):
        torch.testing.assert_close(logits[0], logits[-1])
        assert not torch.allclose(logits, outputs(network, x))
        assert not torch.allclose(logits, together[number - 1])
        for row, length in enumerate(x["mask"].sum(1)):
            alone = {name: t[row : row + 1, :length] for name, t in x.items()}
            torch.testing.assert_close(member(number, alone)[0], logits[row])


def test_networks_without_dropout_have_no_members(folders: dict[str, str]) -> None:
    assert "no dropout layer with 0 < p < 1" in why_not(made(folders["modernbert"]))


@pytest.mark.parametrize("kind", [*KINDS, "albert", "deberta-v2", "electra", "mpnet"])
@pytest.mark.parametrize("scope", ["all", "last"])
def test_gradient_lengths_are_those_of_autograd(tmp_path: Path, kind: str, scope: Any) -> None:
    network = made(str(tiny_texts.folder(tmp_path, kind, weights=False, tokens=False)))
    x = batch(3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, found = GradientNorms(network, scope)(x)
    slow = any("slower exact path" in str(one.message) for one in told)
    assert slow == (kind in ("albert", "mpnet") and scope == "all")
    parameters = [
        p for n, p in network.named_parameters() if scope == "all" or n.startswith("head.")
    ]
    for number in range(3):
        logits = network({name: t[number : number + 1] for name, t in x.items()}).logits
        for label in range(3):
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            want = torch.stack([g.square().sum() for g in grads if g is not None]).sum().sqrt()
            torch.testing.assert_close(found[number, label], want, rtol=1e-4, atol=1e-5)
